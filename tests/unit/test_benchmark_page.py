"""What the documents say of speed is what stands in the raw data, no more and no less."""

import platform
import sys
from pathlib import Path

import pytest

from bench.machine import version_of
from bench.page import PAGE, SCALING, page, scaling_page

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_benchmarks_are_those_that_were_measured() -> None:
    assert PAGE.read_text() == page()


def test_the_figures_of_scaling_are_those_that_were_measured() -> None:
    assert SCALING.read_text() == scaling_page()


def test_a_server_is_named_as_it_names_itself() -> None:
    assert version_of(sys.executable) == f"Python {platform.python_version()}"
