"""The command line about broker outages refuses what makes no sense, and ends without a traceback."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import broker_outage


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Run it with these arguments; the code or the word with which it ended."""

    def run(*arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["broker_outage", *arguments])
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as end:
            broker_outage.main()
        return end.value.code

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("budget", "--comparisons", "-3"),
        ("budget", "--rounds", "0"),
        ("outage", "--away", "0"),
        ("outage", "--away", "nan"),
    ],
    ids=" ".join,
)
def test_a_number_that_makes_no_sense_is_refused(arguments: tuple[str, ...], ended: Callable[..., object]) -> None:
    assert ended(*arguments) == 2


def test_what_a_broker_needs_is_named(
    ended: Callable[..., object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ended("outage") == "Install java and mvn first."


def test_a_run_that_is_interrupted_says_so(ended: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(broker_outage, "MEASUREMENTS", {"budget": interrupted})
    assert ended("budget") == "Interrupted."
