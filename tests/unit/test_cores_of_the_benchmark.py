"""The load leaves the server's core alone: its second thread would slow the server as much as it is loaded itself."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import machine

PAIRS = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}
HALVES = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}


@pytest.mark.parametrize(
    ("threads", "usable", "found"),
    [
        (PAIRS, {0, 1, 2, 3}, (0, 2)),
        (HALVES, {0, 1, 2, 3}, (0, 1)),
        (PAIRS, {1, 3}, (1, 3)),
        (PAIRS, {2, 3}, (2, 3)),
        ({}, {0, 1, 2, 3}, (0, 1)),
    ],
    ids=["neighbours are threads", "neighbours are cores", "some are others'", "one core", "nobody knows"],
)
def test_the_load_has_another_core_where_there_is_one(
    threads: Mapping[int, str],
    usable: set[int],
    found: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for cpu, siblings in threads.items():
        (tmp_path / str(cpu)).write_text(siblings)
    monkeypatch.setattr(machine, "THREADS", f"{tmp_path}/{{}}")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: usable)
    assert machine.cores() == found


def test_one_core_does_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with pytest.raises(SystemExit, match="two cores"):
        machine.cores()
