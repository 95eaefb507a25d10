"""Every command of the runbooks is answered, also where callers show keys."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.redis_server import RedisServer
from tests.integration.service_process import ServiceProcess, environment, mocked, service
from tests.integration.shell import SHELL, needs_curl
from tests.monitoring_files import RUNBOOK

ADMIN_KEY = "an-administrators-key-of-some-length"
CLOSED = {"AUTH_MODE": "api_key", "CALLER_API_KEYS": f'{{"a-caller": ["{"0" * 64}"]}}', "ADMIN_API_KEY": ADMIN_KEY}
HERE = "http://localhost:8090"
SHOWN = {"ADMIN_KEY=…": f"ADMIN_KEY={ADMIN_KEY}", "<name>": "openai_default_model", '"…"': '"another-model"'}
PREPARING, *BLOCKS = re.findall(r"^```sh\n(.*?)^```", RUNBOOK.read_text(), re.DOTALL | re.MULTILINE)
IN_TEXT = [command.replace("\n", " ") for command in re.findall(r"`((?:admin|curl)\s[^`]*)`", RUNBOOK.read_text())]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with service(tmp_path_factory.mktemp("runbooks"), mocked(**CLOSED)) as process:
        yield process


def told(code: str, running: ServiceProcess) -> str:
    """What a shell says that does as the page says."""
    script = f"{PREPARING}\n{code}"
    for shown, meant in {HERE: f"http://127.0.0.1:{running.port}", **SHOWN}.items():
        script = script.replace(shown, meant)
    done = subprocess.run(
        [*SHELL, script],
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@needs_curl
@pytest.mark.parametrize("code", [*BLOCKS, *IN_TEXT])
def test_each_command_is_answered(code: str, running: ServiceProcess) -> None:
    answer = told(code, running)
    assert answer.strip()
    assert '"error_type"' not in answer


def test_no_command_is_left_out() -> None:
    named = len(re.findall(r"\$SERVICE/", RUNBOOK.read_text()))
    assert sum(code.count("$SERVICE/") for code in (*BLOCKS, *IN_TEXT)) == named


@needs_curl
def test_a_command_without_the_key_would_be_found(running: ServiceProcess) -> None:
    assert '"error_type"' in told("curl -s $SERVICE/api/v1/providers", running)


@needs_curl
def test_what_an_administrator_did_is_found_at_any_replica(tmp_path: Path, server: RedisServer) -> None:
    variables = mocked(**CLOSED, REDIS_URL=server.url)
    (disabled,) = (block for block in BLOCKS if "past the balancer" in block)
    (forced,) = re.findall(r"given by an\noperator, named in `(.*?)`", RUNBOOK.read_text())
    with service(tmp_path, variables) as receiving:
        told("""admin -X PATCH $SERVICE/api/v1/admin/settings -d '{"openai_enabled": false}'""", receiving)
        told(
            """admin -X PUT $SERVICE/api/v1/admin/circuits/google -d '{"state": "open", "reason": "bills"}'""",
            receiving,
        )
        with service(tmp_path, variables) as other:
            named = told(forced, other)
            changed = told(disabled, other)
    assert '"reason":"bills","actor":"admin@' in named
    assert '"name":"openai_enabled","value":false,"environment_value":true,"source":"operator"' in changed
