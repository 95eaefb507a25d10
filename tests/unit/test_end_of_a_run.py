"""A run of tests or of a benchmark that is told to end leaves no server behind, however it is told."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITH_A_SERVER = """
import os, pathlib, pytest

@pytest.fixture(scope="session")
def server():
    yield
    pathlib.Path("stopped").touch()

def test_that_is_interrupted(server):
    os.kill(os.getpid(), {number})
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_the_servers_of_the_tests_are_stopped(number: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(WITH_A_SERVER.format(number=f"__import__('signal').{number}"))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, (tmp_path / "stopped").exists()) == (pytest.ExitCode.INTERRUPTED, True), ended.stdout
