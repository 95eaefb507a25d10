"""The pages lead where they say: every file, heading, setting and metric that they name is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_models import ErrorCode, ModelTier, ProcessingEvent, ProviderName
from config import KeyedProviderSettings, Settings, settings_table
from environment import PREFIX, known_variables
from implementations.judging.catalogue import ModelCatalogue
from tests.fakes import new_metrics
from tests.markdown import anchors

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
WIDTH = 120
GENERATED = {ROOT / "docs/api.md", ROOT / "docs/benchmarks.md"}
WRITTEN = [ROOT / "bench/page.md", *(page for page in PAGES if page not in GENERATED)]
LINK = re.compile(r"\]\(([^)\s]+)\)")
SETTING = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`")
PREFIXED = re.compile(rf"{PREFIX}[A-Z0-9_]+")
EVENT = re.compile(r"`(llm_provider\.[a-z0-9_.]+)`")
METRIC = re.compile(r"\bllm_provider_[a-z0-9_]+")
FILE = re.compile(r"`(\w[\w./-]*\.(?:py|md|json|ya?ml|cfg))`")
FOLDERS = ("api", "implementations", "tests", "tools", "bench", "deploy", "docs", "examples")
JUDGE = re.compile(r"^\| `(\w+)` \|.*\| `([^`]+)` \| `([^`]+)` \|$", re.MULTILINE)
# Variables of a caller, of OpenSSL and of another server, values of a setting, files that a reader is to write.
NOT_OURS = {
    *("LLM_PROVIDER_KEY", "OLLAMA_CONTEXT_LENGTH", "OLLAMA_KEEP_ALIVE"),
    *("SASL_PLAINTEXT", "SASL_SSL", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR_WRITE", "judge.py", "implementations/acme_provider_impl.py"),
}


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return (target for target in LINK.findall(text) if not target.startswith(("http:", "https:")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def test_the_readme_leads_to_every_page() -> None:
    known = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    assert set((ROOT / "docs").glob("*.md")) <= known


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_is_wrapped(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert [line for line in prose.splitlines() if len(line) > WIDTH and not line.startswith(("|", "<", "!["))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_metric_and_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    settings = known_variables(settings_table()) | {
        name.removeprefix(PREFIX) for name in known_variables(settings_table())
    }
    metrics = {family.name for family in new_metrics().registry.collect()}
    told = {*SETTING.findall(text), *PREFIXED.findall(text)}
    assert told - NOT_OURS - settings - set(ErrorCode) == set()
    assert {name for name in METRIC.findall(text) if name.removesuffix("_total") not in metrics} == set()
    paths = [*ROOT.iterdir(), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
    files = [f"/{path.relative_to(ROOT)}" for path in paths]
    named = set(FILE.findall(text)) - NOT_OURS
    assert {name for name in named if not any(file.endswith(f"/{name}") for file in files)} == set()


def test_events_have_the_names_that_consumers_see() -> None:
    pages = (page for page in PAGES if page.name != "tracing.md")  # its names are those of a span's attributes
    named = {name for page in pages for name in EVENT.findall(page.read_text())}
    assert named
    assert named <= {event.event_type for event in ProcessingEvent}


def test_the_readme_names_the_default_and_the_best_model_of_each_vendor() -> None:
    catalogue = ModelCatalogue.load(None)
    vendors = [group for _, group in Settings() if isinstance(group, KeyedProviderSettings)]
    best = [
        (vendor.provider, vendor.default_model, model)
        for vendor in vendors
        for model, traits in catalogue.models(vendor.provider).items()
        if traits.tier is ModelTier.STRONG
    ]
    assert [name for name, _, _ in best] == [vendor.provider for vendor in vendors], "each has one model of tier strong"
    assert JUDGE.findall((ROOT / "README.md").read_text()) == best, "its rows are in the order of `Settings`"


def test_the_page_of_security_says_of_each_provider_what_it_keeps() -> None:
    table = (ROOT / "docs/security.md").read_text().partition("\n| provider |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [
        name for name in ProviderName if name is not ProviderName.MOCK
    ]
