"""A run of tests or of a benchmark that is told to end leaves no server behind, however it is told."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration import redis_server

ROOT = Path(__file__).parents[2]
WITH_A_SERVER = """
import os, pathlib, pytest

@pytest.fixture(scope="session")
def server():
    yield
    pathlib.Path("stopped").touch()

def test_that_is_interrupted(server):
    os.kill(os.getpid(), {number:d})
"""
READING = """
import asyncio, os, socket, uvloop
from bench.commands import ended_when_told

class Connection(asyncio.Protocol):
    def data_received(self, answer):
        os.kill(os.getpid(), {number:d})

async def measurement():
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().create_connection(Connection, sock=ours)
    theirs.send(b"an answer")
    await asyncio.sleep(10)

with ended_when_told():
    uvloop.run(measurement())
"""


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that a child process does not inherit as ignored, in whatever way this run was started."""
    before = signal.signal(request.param, lambda *_: None)
    yield request.param
    signal.signal(request.param, before)


def test_the_servers_of_the_tests_are_stopped(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(WITH_A_SERVER.format(number=number))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # it starts in half the time
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, (tmp_path / "stopped").exists()) == (pytest.ExitCode.INTERRUPTED, True), ended.stdout


def test_a_benchmark_that_reads_an_answer_when_it_is_told_to_end_ends(number: signal.Signals) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", READING.format(number=number)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (1, "Interrupted.\n")


def test_a_redis_that_is_about_to_answer_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started, start = [], subprocess.Popen

    def recorded(*command: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(start(*command, **options))
        return started[-1]

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", recorded)
    monkeypatch.setattr(redis_server, "wait_until", interrupted)
    with pytest.raises(KeyboardInterrupt), redis_server.redis_server(tmp_path):
        pass
    assert started[0].poll() is not None
