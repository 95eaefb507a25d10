"""The guides' code runs as it stands, and what they say about errors is complete."""

import ast
import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from api_models import ErrorCode
from tests.integration.dialects import OPENAI
from tests.integration.redis_server import RedisServer
from tests.integration.service_process import (
    QUESTION,
    ROOT,
    ServiceProcess,
    environment,
    mocked,
    prefixed,
    service,
    wait_until,
)
from tests.integration.shell import SHELL, needs_curl
from tests.integration.stand_in import answer, standing_in

ADMIN_KEY = "an-administrators-key-of-some-length"
GUIDES = ("integration-guide", "migration-playbook", "operations")
HERE = "http://localhost:8080"


def blocks(guide: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "docs" / f"{guide}.md").read_text(), re.DOTALL | re.MULTILINE
    )


def named(guide: str, language: str) -> list[tuple[str, str]]:
    return [(f"{guide}-{number}", code) for number, code in enumerate(blocks(guide, language), start=1)]


COMMANDS = [case for guide in GUIDES for case in named(guide, "sh")]
PROGRAMS = {
    match[1]: code
    for guide in GUIDES
    for code in blocks(guide, "python")
    if (match := re.match(r'"""([a-z]+)\.py', code))
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with service(tmp_path_factory.mktemp("guides"), {**mocked(), "LLM_ADMIN_API_KEY": ADMIN_KEY}) as process:
        yield process


def run(command: list[str], running: ServiceProcess, directory: Path) -> str:
    address = f"http://127.0.0.1:{running.port}"
    variables = {"PATH": os.environ["PATH"], "LLM_PROVIDER_URL": address, "LLM_ADMIN_API_KEY": ADMIN_KEY}
    done = subprocess.run(
        command,
        cwd=directory,
        env={**variables, "SHADOW_SHARE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_curl
@pytest.mark.parametrize("code", [code for _, code in COMMANDS], ids=[name for name, _ in COMMANDS])
def test_a_shell_block_answers(code: str, running: ServiceProcess, tmp_path: Path) -> None:
    assert HERE in code
    told = run([*SHELL, code.replace(HERE, f"http://127.0.0.1:{running.port}")], running, tmp_path)
    assert told.strip()
    assert '"error"' not in told


def test_the_caller_of_the_integration_guide_gets_its_verdict(running: ServiceProcess, tmp_path: Path) -> None:
    program = tmp_path / "judge.py"
    program.write_text(PROGRAMS["judge"])
    assert re.match(r"Essay [AB] [1-5]\.0 \w+", run([sys.executable, str(program)], running, tmp_path))


@pytest.mark.parametrize(("told_s", "least_s"), [(1, (2, 8)), (15, (15, 15)), (None, (2, 8))])
async def test_the_caller_of_the_integration_guide_does_not_come_back_with_all_the_others(
    told_s: int | None, least_s: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_s: list[float] = []

    async def sleep(seconds: float) -> None:
        waits_s.append(seconds)

    refusal = {"error": "No.", "error_type": "CIRCUIT_BREAKER_OPEN", "details": "", "correlation_id": "c"}
    async with standing_in(answer({**refusal, "retry_after": told_s}, 503)) as stand_in:
        monkeypatch.setenv("LLM_PROVIDER_URL", stand_in.url)
        program: dict[str, Any] = {"__name__": "judge"}
        exec(PROGRAMS["judge"], program)  # noqa: S102  our own guide
        monkeypatch.setattr(asyncio, "sleep", sleep)
        async with program["session"]() as http:
            with pytest.raises(program["NoVerdictError"]):
                await program["judge"](http, {})
        monkeypatch.undo()

    assert len(stand_in.requests) == 3
    assert all(least <= wait < 1.5 * least for least, wait in zip(least_s, waits_s, strict=True))


def test_the_playbook_shadows_and_compares(running: ServiceProcess, tmp_path: Path) -> None:
    for name in ("shadow", "agreement"):
        (tmp_path / f"{name}.py").write_text(PROGRAMS[name])
    run([sys.executable, "shadow.py"], running, tmp_path)
    told = run([sys.executable, "agreement.py"], running, tmp_path)
    assert "answered:          2 of 2" in told
    assert re.search(r"agree: +\d+% of 2", told)


KEPT = {
    **QUESTION,
    "replicate": 2,
    "llm_config_overrides": {
        "provider_override": "openai",
        "temperature_override": 0.2,
        "reasoning_effort_override": "none",
        "max_tokens_override": 900,
        "system_prompt_override": "Be brief.",
    },
}


def rebuilt(directory: Path, variables: Mapping[str, str], provider: str, model: str) -> list[str]:
    (directory / "rebuild.py").write_text(PROGRAMS["rebuild"])
    (directory / "question.json").write_bytes(orjson.dumps(KEPT))
    done = subprocess.run(
        [sys.executable, "rebuild.py", "question.json", provider, model],
        cwd=directory,
        env=environment({**variables, "PYTHONPATH": str(ROOT)}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def answer_keys(server: RedisServer) -> list[str]:
    return [match[1] for key in server.all_keys() if (match := re.search(r":([0-9a-f]{64})$", key))]


async def test_a_kept_question_gives_the_prompt_and_the_key_of_its_answer(server: RedisServer, tmp_path: Path) -> None:
    async with standing_in(answer(OPENAI.good())) as stand_in:
        variables = prefixed(**OPENAI.variables(stand_in.url), REDIS_URL=server.url)
        with service(tmp_path, variables) as asked:
            told = (await asyncio.to_thread(partial(asked.compare, **KEPT))).json()["provenance"]
            await asyncio.to_thread(wait_until, lambda: answer_keys(server) != [])
        sent, called = stand_in.requests[-1].json(), told["attempts"][-1]
        *prompt, last = await asyncio.to_thread(rebuilt, tmp_path, variables, called["provider"], called["model"])
    assert "\n".join(prompt) == f"{OPENAI.instructions(sent)}\n\n{OPENAI.question(sent)}"
    assert last.split() == [told["prompt_version"], told["prompt_sha256"], *answer_keys(server)]


def test_no_program_of_a_guide_is_left_out() -> None:
    assert sum(len(blocks(guide, "python")) for guide in GUIDES) == len(PROGRAMS)
    assert set(PROGRAMS) == {"judge", "shadow", "agreement", "rebuild"}


def test_the_guide_treats_every_error() -> None:
    groups = {"ASK_AGAIN", "MEND_THE_REQUEST", "TELL_AN_OPERATOR"}
    in_code = [
        code
        for node in ast.walk(ast.parse(PROGRAMS["judge"]))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in groups
        for code in ast.literal_eval(node.value)
    ]
    assert Counter(in_code) == Counter(ErrorCode), "the groups of judge.py in integration-guide.md"
    table = (ROOT / "docs" / "integration-guide.md").read_text().split("## 3.")[1].split("## 4.")[0]
    assert set(re.findall(r"`([A-Z_]{5,})`", table)) == set(ErrorCode), "the table of its section 3"
