"""The cache is filled through a running service by the command that the README names."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

from implementations.access.key_ring import digest_of
from tests.integration.service_process import QUESTION, ROOT, environment, mocked, service
from tests.integration.stand_in import answer, standing_in


def warmed(
    port: int,
    pairs: Path,
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{port}"
    return subprocess.run(
        [sys.executable, "-m", "tools.warm", str(pairs), "--url", url, *arguments],
        cwd=ROOT,
        env=environment(variables or {}),
        stdin=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_file_of_pairs_is_judged_once_and_what_is_wrong_in_it_can_be_fed_again(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    good = [orjson.dumps({**QUESTION, "essay_b": f"Essay {number}."}).decode() for number in range(10)]
    pairs.write_text("\n".join([*good, '{"user_prompt": "no essays"}', "garbage"]))
    with service(tmp_path, mocked()) as running:
        unasked = warmed(running.port, pairs)
        assert (unasked.returncode, "12 requests" in unasked.stdout) == (2, True)
        assert running.ask("/api/v1/cache/stats").json()["misses"] == 0
        first = warmed(running.port, pairs, "--yes")
        again = warmed(running.port, pairs, "--yes")
        assert all(running.compare(essay_b=f"Essay {number}.").headers["x-cache"] == "HIT" for number in range(10))
    assert first.returncode == again.returncode == 1
    assert "VALIDATION_ERROR" in first.stdout
    assert "2 requests" in again.stdout
    left_out = f"To send it again, delete {pairs}.done\n"
    assert (left_out in first.stdout, left_out in again.stdout) == (False, True)
    assert (tmp_path / "pairs.jsonl.failed").read_text().splitlines() == ['{"user_prompt": "no essays"}', "garbage"]


def test_what_it_prints_is_no_markup_and_a_path_is_not_broken(tmp_path: Path) -> None:
    pairs = tmp_path / "第三班 [b] :star:" / f"{'作文' * 30}.jsonl"
    pairs.parent.mkdir()
    pairs.write_text("garbage")
    terminal, stdin = os.openpty()
    os.write(terminal, b"y\n")
    with service(tmp_path, mocked()) as running:
        told = warmed(running.port, pairs, stdin=stdin).stdout
    os.close(terminal)
    os.close(stdin)
    assert "Continue? [y/N] " in told
    assert f"again: {pairs}.failed\n" in told


def test_where_callers_show_keys_it_shows_the_one_in_its_environment(tmp_path: Path) -> None:
    pairs, key = tmp_path / "pairs.jsonl", "llmp_canary-of-the-one-who-warms"
    pairs.write_bytes(orjson.dumps(QUESTION))
    guarded = mocked(AUTH_MODE="api_key", CALLER_API_KEYS=f'{{"warm": ["{digest_of(key).hex()}"]}}')
    with service(tmp_path, guarded) as running:
        refused = warmed(running.port, pairs, "--yes")
        unsendable = warmed(running.port, pairs, "--yes", variables={"LLM_PROVIDER_KEY": f"{key}\r"})
        let_in = warmed(running.port, pairs, "--yes", variables={"LLM_PROVIDER_KEY": key})
    assert (refused.returncode, unsendable.returncode) == (2, 2)
    assert "401, message='Unauthorized'" in refused.stdout
    assert "Forbidden control character" in unsendable.stdout
    assert let_in.returncode == 0
    assert all(key not in told.stdout + told.stderr for told in (refused, unsendable, let_in))


def test_a_service_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("{}\n")
    done = subprocess.run(
        [sys.executable, "-m", "tools.warm", str(pairs), "--url", "http://127.0.0.1:9"],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "Cannot connect to host 127.0.0.1:9" in done.stdout
    assert "Traceback" not in done.stderr


async def test_what_a_proxy_answers_in_the_service_s_place_fails_one_request_and_not_the_others(tmp_path: Path) -> None:
    lines = [f'{{"replicate":{number}}}' for number in range(5)]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(lines))
    known = {"providers": [], "default_provider": "mock"}
    bad = [answer("bad gateway", 502), answer([], 502), answer({}, 502), answer({})]
    async with standing_in(
        answer(known), answer({"models": []}), *bad, answer({"cached": True, "cost_estimate": 0.0})
    ) as proxy:
        done = await asyncio.to_thread(warmed, int(proxy.url.rpartition(":")[2]), pairs, "--yes", "--concurrency", "1")
    assert (done.returncode, done.stderr) == (1, "")
    assert (tmp_path / "pairs.jsonl.failed").read_text().splitlines() == lines[:4]


async def test_a_redirect_takes_no_essay_elsewhere(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("{}")
    known = {"providers": [], "default_provider": "mock"}
    async with standing_in(answer({"cached": True, "cost_estimate": 0.0})) as elsewhere:
        moved = answer({}, 307, location=f"{elsewhere.url}/api/v1/comparison")
        async with standing_in(answer(known), answer({"models": []}), moved) as proxy:
            done = await asyncio.to_thread(warmed, int(proxy.url.rpartition(":")[2]), pairs, "--yes")
    assert elsewhere.requests == []
    assert done.returncode == 1
