"""The layers and fences of the service, read from its imports: arrows point down, and each library has its room."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# From the top to the bottom; what shares a layer does not know each other.
LAYERS = (
    {"app"},
    {"startup_setup"},
    {"di"},
    {"api", "implementations"},
    {"protocols", "config", "metrics"},
    {"addresses", "caller_keys", "environment"},
    {"exceptions"},
    {"api_models"},
    {"value_object"},
)
LAYER_OF = {name: depth for depth, names in enumerate(LAYERS) for name in names}
OUTSIDE = {"tests", "tools", "bench"}
COMMON_ROOM = "resilience"

FENCES = {
    "aiohttp": {"implementations/wire"},
    "yarl": {"implementations/wire"},
    "aiohappyeyeballs": {"implementations/background"},
    "uvloop": {"implementations/background"},
    "requests": {"implementations/observability"},
    "redis": {"implementations/shared_state"},
    "aiokafka": {"implementations/events"},
    "tenacity": {"implementations/retry_manager_impl.py"},
    "opentelemetry": {"implementations/observability"},
    "genai_prices": {"implementations/accounting"},
    "quart": {"api"},
    "quart_dishka": {"api"},
    "dishka": {"api", "startup_setup.py", "di.py"},
    "werkzeug": {"api"},
    "hypercorn": {"api"},
    "uvicorn": {"app.py", "api/server_protocol.py"},
    "pydantic_settings": {"config.py"},
    "prometheus_client": {"metrics.py"},
}


def service_files() -> list[Path]:
    files = (path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    return sorted(path for path in files if not path.parts[0].startswith(".") and path.parts[0] not in OUTSIDE)


def imports_of(source: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            found.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def layer_violations(path: Path, source: str) -> list[str]:
    mine = path.parts[0].removesuffix(".py")
    if mine not in LAYER_OF:
        return [f"{path} has no layer"]
    found = []
    for name in imports_of(source):
        top = name.split(".")[0]
        if top not in LAYER_OF or top == mine:
            continue
        if LAYER_OF[top] <= LAYER_OF[mine]:
            found.append(f"{path} looks up or aside to {name}")
    return found


def room_violations(path: Path, source: str) -> list[str]:
    """A room may use the common room and no other; no room knows an *_impl.py."""
    if path.parts[0] != "implementations" or len(path.parts) < 3:
        return []
    allowed = {path.parts[1], COMMON_ROOM}
    return [
        f"{path} enters {name}"
        for name in imports_of(source)
        if name.startswith("implementations.") and name.split(".")[1] not in allowed
    ]


def implementations_that_know_each_other(path: Path, source: str) -> list[str]:
    if not path.stem.endswith("_impl"):
        return []
    return [f"{path} knows {name}" for name in imports_of(source) if name.endswith("_impl")]


def fence_violations(path: Path, source: str) -> list[str]:
    return [
        f"{path} uses {library}"
        for name in imports_of(source)
        if (library := name.split(".")[0]) in FENCES
        and not any(path.is_relative_to(place) for place in FENCES[library])
    ]


@pytest.mark.parametrize("path", service_files(), ids=str)
def test_every_file_keeps_to_its_layer_its_room_and_its_libraries(path: Path) -> None:
    source = (ROOT / path).read_text()
    assert layer_violations(path, source) + room_violations(path, source) + fence_violations(path, source) == []
    assert implementations_that_know_each_other(path, source) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("helpers.py", ""),
        ("protocols.py", "from config import Settings"),
        ("exceptions.py", "import protocols"),
        ("api/routes.py", "from implementations.cache import local_cache"),
        ("implementations/cache/x.py", "from implementations.events.request_events import started"),
        ("implementations/cache/x.py", "from implementations.cache_manager_impl import CacheManagerImpl"),
        ("implementations/cache/x.py", "import redis.asyncio"),
        ("implementations/x_impl.py", "from quart import request"),
    ],
)
def test_a_breach_is_seen(path: str, source: str) -> None:
    where = Path(path)
    assert layer_violations(where, source) + room_violations(where, source) + fence_violations(where, source)


@pytest.mark.parametrize("library", FENCES)
def test_a_fence_encloses_no_place_that_does_without_the_library(library: str) -> None:
    sources = {path: (ROOT / path).read_text() for path in service_files()}
    users = [path for path, source in sources.items() if library in {one.split(".")[0] for one in imports_of(source)}]
    assert {place for place in FENCES[library] if not any(path.is_relative_to(place) for path in users)} == set()


def test_what_several_test_modules_use_is_in_none_of_them() -> None:
    borrowed = {
        f"{path.relative_to(ROOT)} borrows {name}"
        for path in (ROOT / "tests").rglob("*.py")
        for name in imports_of(path.read_text())
        if any(part.startswith("test_") for part in name.split(".")[:-1])
    }
    assert borrowed == set()


def test_no_file_below_the_contract_is_forgotten() -> None:
    assert {path.parts[0].removesuffix(".py") for path in service_files()} == set(LAYER_OF)


@pytest.mark.parametrize("whose", ["service", "tests"])
def test_every_library_that_is_imported_is_a_dependency_by_name(whose: str) -> None:
    """One that only another library wants may leave with that one's next version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    files, wanted = [ROOT / path for path in service_files()], project["project"]["dependencies"]
    if whose == "tests":
        files, wanted = list((ROOT / "tests").rglob("*.py")), wanted + project["dependency-groups"]["dev"]
    declared = {re.split(r"[^\w-]", one)[0] for one in wanted}
    ours = {path.stem for path in ROOT.iterdir()} | OUTSIDE
    imported = {name.split(".")[0] for path in files for name in imports_of(path.read_text())}
    homes = packages_distributions()
    undeclared = {
        name
        for name in imported - ours - sys.stdlib_module_names
        if not {home.lower().replace("_", "-") for home in homes[name]} & declared and name != "opentelemetry"
    }
    assert undeclared == set()
    assert any(one.startswith("opentelemetry-") for one in declared)
