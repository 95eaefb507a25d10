"""What a run of the benchmark has measured is not lost when it ends early; `make bench` installs what it needs."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hdrh")
pytest.importorskip("matplotlib")

from bench import __main__ as program
from bench import rows, selection
from bench.measuring import SHORT
from bench.rows import Report, Row
from bench.setups import MISS, Run
from tests.bench_row import ROW


class Nothing:
    """A stage on which nothing is started, and what is started on it."""

    provider: Any = None

    @contextmanager
    def world(self, **_: object) -> Iterator[Any]:
        yield self

    @contextmanager
    def server(self, *_: object) -> Iterator[Any]:
        yield self


async def test_a_row_of_other_answers_is_left_out_and_told_after_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad, other = ROW, replace(ROW, statuses={"200": 4999, "500": 1}), replace(ROW, achieved_rps=900.0)
    measured = iter((good, bad, other))

    async def next_one(*_: object, **__: object) -> Row:
        return next(measured)

    monkeypatch.setattr(selection, "measured", next_one)
    stage: Any = Nothing()
    kept = selection.rows_of([replace(MISS, runs=3 * (Run(),))], stage, SHORT)
    assert [await anext(kept), await anext(kept)] == [good, other]
    with pytest.raises(SystemExit, match="'500': 1"):
        await anext(kept)


@pytest.mark.parametrize(
    ("end", "seen"),
    [(KeyboardInterrupt(), SystemExit), (SystemExit("it did not start"), SystemExit), (OSError("full"), OSError)],
    ids=["interrupted", "a server that does not start", "a full disk"],
)
def test_what_was_measured_before_a_run_ends_is_kept_as_a_trial(
    end: BaseException, seen: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def until_the_end(*_: object) -> AsyncIterator[Row]:
        yield ROW
        raise end

    monkeypatch.setattr(sys, "argv", ["bench", "full"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(program, "rows_of", until_the_end)
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    with pytest.raises(seen):
        program.main()
    assert Report.read("trial-full").rows == [replace(ROW, slices=[])]
