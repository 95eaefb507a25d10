"""The peers: pinned, hashed, installed outside of the tree, started with nothing of our own environment.

Each gets what our service sends to its provider: the chat completion that the stub received, byte for byte.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from bench.machine import version_of
from bench.processes import HOST, ROOT, Running
from bench.question import posted
from bench.setups import World
from bench.stage import Stage
from tests.integration.dialects import OPENAI
from tests.integration.service_process import free_port

HERE = ROOT / "bench" / "peers"
LITELLM_LOCK, PORTKEY_LOCK = HERE / "litellm.lock", HERE / "package-lock.json"
CHAT_PATH = "/v1/chat/completions"
KEY = {"Authorization": "Bearer key-of-the-benchmark"}
LITELLM_ENV = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def chat(body: bytes) -> Callable[[], bytes]:
    """Makes requests for a chat completion, always the same."""
    wire = posted(CHAT_PATH, body, KEY)
    return lambda: wire


def chat_through_portkey(body: bytes, world: World) -> Callable[[], bytes]:
    """The same for Portkey, which takes the provider from headers."""
    provider = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{world.provider.url}/v1"}
    wire = posted(CHAT_PATH, body, KEY | provider)
    return lambda: wire


@contextmanager
def litellm(stage: Stage, world: World) -> Iterator[Running]:
    """LiteLLM's proxy: one worker, one model, no database, as its documentation has it for production."""
    home, port = _installed(LITELLM_LOCK, _install_litellm, stage, runs_on=sys.base_prefix), free_port()
    config = stage.directory / "litellm.json"  # JSON is YAML
    known = {"model": f"openai/{OPENAI.model}", "api_base": f"{world.provider.url}/v1", "api_key": "key"}
    config.write_bytes(
        orjson.dumps(
            {
                "model_list": [{"model_name": OPENAI.model, "litellm_params": known}],
                "litellm_settings": {"telemetry": False, "num_retries": 0},
                "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
            }
        )
    )
    command = (str(home / "bin" / "litellm"), "--config", str(config), "--host", HOST, "--port", str(port))
    env = {"HOME": str(stage.directory), **LITELLM_ENV}
    with stage.process("litellm", command, port, env, ready="/health/liveliness") as server:
        yield server


@contextmanager
def portkey(stage: Stage) -> Iterator[Running]:
    """Portkey's gateway on Node.js."""
    home, port = _installed(PORTKEY_LOCK, _install_portkey, stage, runs_on="node"), free_port()
    start = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    command = ("node", str(start), "--headless", f"--port={port}")
    env = {"HOME": str(stage.directory), "NODE_ENV": "production"}
    with stage.process("portkey", command, port, env, ready="/") as server:
        yield server


def versions() -> dict[str, str]:
    """Name and version, as the locks pin them, and Node's."""
    pinned = next(line for line in LITELLM_LOCK.read_text().splitlines() if line.startswith("litellm=="))
    packages = orjson.loads(PORTKEY_LOCK.read_bytes())["packages"]
    return {
        "litellm": pinned.removeprefix("litellm==").split()[0],
        "portkey": packages["node_modules/@portkey-ai/gateway"]["version"],
        "node": version_of("node").removeprefix("v"),
    }


def _installed(lock: Path, install: Callable[[Path], None], stage: Stage, *, runs_on: str) -> Path:
    """The folder of what this lock pins for an interpreter, filled at the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-provider-service"
    home = cache / f"peers-{lock.stem}-{hashlib.sha256(lock.read_bytes() + runs_on.encode()).hexdigest()[:12]}"
    complete = home / "complete"
    if not complete.exists():
        stage.say(f"Installing into {home} (once) ...")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        install(home)
        complete.touch()
    return home


def _install_litellm(home: Path) -> None:
    _run((sys.executable, "-m", "venv", str(home)))
    pip = (str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run((*pip, "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(LITELLM_LOCK)))


def _install_portkey(home: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, home)
    _run(("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"), cwd=home)


def _run(command: tuple[str, ...], cwd: Path = ROOT) -> None:
    """Raises SystemExit when it fails; it has told why."""
    if subprocess.run(command, check=False, cwd=cwd).returncode:  # noqa: S603  our own words
        raise SystemExit(f"Failed: {' '.join(command)}")
