"""The command-line programs refuse arguments that make no sense with one line, and exit code 2."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import api, audit, caller_key, events, run, settings, warm

TOOLS: dict[str, Callable[[], int | None]] = {
    "api": api.main,
    "audit": audit.main,
    "caller_key": caller_key.main,
    "events": events.main,
    "run": run.main,
    "settings": settings.main,
    "warm": warm.main,
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a tool; the last line on stderr after it has ended with exit code 2."""

    def refused(tool: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [tool, *arguments])
        with pytest.raises(SystemExit) as end:
            sys.exit(TOOLS[tool]())
        assert end.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    def starts(*_: object) -> None:
        raise AssertionError("nothing may start")

    monkeypatch.setattr(os, "execve", starts)
    monkeypatch.setattr(subprocess, "run", starts)
    return refused


@pytest.mark.parametrize("tool", TOOLS)
def test_an_argument_that_does_not_exist_is_refused(tool: str, told: Callable[..., str]) -> None:
    needed = [__file__] if tool in {"caller_key", "warm"} else []
    assert "--nonsense" in told(tool, *needed, "--nonsense")


def test_what_is_written_is_not_checked_as_well(told: Callable[..., str]) -> None:
    assert "not allowed with argument" in told("settings", "--write", "--check")


@pytest.mark.parametrize("concurrency", ["0", "-1", "1001", "many", "1.5"])
def test_a_number_of_concurrent_requests_that_makes_no_sense_is_refused(
    concurrency: str, told: Callable[..., str]
) -> None:
    assert "--concurrency: " in told("warm", __file__, "--yes", "--concurrency", concurrency)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://x", "http://", "http://x/api", "http://x?a=b", "http://x:99999", "http://[x"]
)
def test_what_is_no_base_url_is_refused(url: str, told: Callable[..., str]) -> None:
    assert "--url: must be http" in told("warm", __file__, "--yes", "--url", url)


def test_what_is_no_file_is_refused(tmp_path: Path, told: Callable[..., str]) -> None:
    for path in (tmp_path, tmp_path / "nowhere", ""):
        assert "pairs: is no file" in told("warm", str(path), "--yes")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path, told: Callable[..., str]) -> None:
    (tmp_path / "pairs").write_bytes(b"\xff\xfe")
    assert "pairs: is no UTF-8 text" in told("warm", str(tmp_path / "pairs"), "--yes")


def test_the_benchmark_says_which_packages_it_lacks() -> None:
    without_packages = [sys.executable, "-S", "-m", "bench", "--help"]
    told = subprocess.run(without_packages, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "`make bench` installs them" in told.stderr
