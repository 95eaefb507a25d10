"""Targets are judged from the raw data, and one that is missed or undecided is reported as such."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bench import rows
from bench.checks import unexpected
from bench.goals import Goal, Met, drift, first_of_each_load, goals
from bench.intervals import interval
from bench.rounds import Rounds
from bench.rows import Report, Row, Slice
from bench.setups import BARE, DIRECT, HIT, LITELLM, MISS, PASSED_ON, PORTKEY, REDIS_HIT
from bench.wire import overhead_us
from tests.bench_row import ROW

FLAT = [(1000 * look, 80.0) for look in range(100)]


def row(setup: str, *, rps: float = 1000.0, cpu_ms: float = 0.5, p50_ms: float = 1.0, connections: int = 32) -> Row:
    return replace(
        ROW, setup=setup, achieved_rps=rps, cpu_ms=cpu_ms, latency_ms={"p50": p50_ms}, connections=connections
    )


def report(*rows: Row, **more: object) -> Report:
    return Report(command="", date="", commit="", machine={}, rows=rows, more=more)


def found(*, portkey_rps: float = 450.0) -> dict[str, Goal]:
    peers = report(
        row(MISS.name, rps=1000.0, cpu_ms=0.7),
        row(PORTKEY, rps=portkey_rps),
        row(LITELLM, rps=40.0),
        row(HIT.name, rps=2000.0, cpu_ms=0.4),
        row(REDIS_HIT.name, rps=1000.0),
        row(BARE.name, cpu_ms=0.25),
        row(PASSED_ON.name, rps=1800.0, cpu_ms=0.5),
        row(PASSED_ON.name, connections=1, p50_ms=1.1),
        row(MISS.name, connections=1, p50_ms=1.6),
        row(PORTKEY, connections=1, p50_ms=2.1),
        row(DIRECT, connections=1, p50_ms=0.1),
    )
    full = report(replace(ROW, share=0.5), burst={"callers": 200, "upstream_calls": 1})
    soak = {"seconds": 300.0, "answered": 100_000, "statuses": {"200": 100_000}, "points": FLAT}
    footprint = report(starts={"idle_mib": [90.0], "start_s": [1.2]}, requests=soak, faults=soak)
    return {goal.target: goal for goal in goals(full, peers, footprint)}


def test_what_the_service_took_is_all_but_the_provider_s_call() -> None:
    assert overhead_us(b"total;dur=5.000, cache;dur=0.100, queue;dur=0.200, upstream;dur=3.500") == 1500


def test_a_row_reports_what_was_really_due() -> None:
    open_pace = replace(ROW, intended_rps=1010.0, requests=5100)
    assert (open_pace.answers, open_pace.due_rps, ROW.due_rps) == (5000, 1020.0, None)


def test_a_report_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    sliced = replace(ROW, slices=[Slice(began_s=1.5, seconds=0.8, answers=800, cpu_s=0.4, p50_ms=1.0)])
    written = Report(command="c", date="d", commit="e", machine={"cores": "2"}, rows=[sliced], more={"rounds": 1})
    written.write("peers")
    assert Report.read("peers") == written


@pytest.mark.parametrize(
    "wrong",
    [
        {"statuses": {"200": 4999, "500": 1}},
        {"statuses": {}},
        {"lost": 1},
        {"setup": PORTKEY, "upstream_calls": 4000},
        {"setup": MISS.name, "upstream_calls": 0},
    ],
    ids=["a refusal", "no answer", "a lost request", "too few calls", "no call"],
)
def test_answers_that_were_not_to_be_measured_are_told_except_beyond_the_capacity(wrong: dict[str, Any]) -> None:
    row = replace(ROW, **wrong)
    assert row.setup in unexpected(row)
    assert not unexpected(replace(row, share=1.1))


def test_answers_that_were_to_be_measured_are_not_told() -> None:
    assert not unexpected(ROW)
    assert not unexpected(replace(ROW, setup=HIT.name, upstream_calls=0))
    assert not unexpected(replace(ROW, setup="pinned provider down", statuses={"503": 5000}), status=503)


def test_every_target_that_is_met_is_reported_as_met() -> None:
    targets = found()
    assert len(targets) == 13
    assert {goal.met for goal in targets.values()} == {Met.YES}


@pytest.mark.parametrize(
    ("figures", "met"),
    [
        ((1.9, 1.8, 2.0), Met.YES),
        ((2.1, 2.2, 2.3), Met.NO),
        ((1.9, 1.8, 2.1), Met.UNDECIDED),
        ((1.9, 2.1, 2.2), Met.UNDECIDED),
        ((2.0,), Met.YES),
        ((2.1,), Met.NO),
    ],
)
def test_a_target_is_undecided_when_its_bound_lies_within_the_interval(figures: tuple[float, ...], met: Met) -> None:
    at_most = Goal(target="t", figures=figures, bound=2.0)
    at_least = Goal(target="t", figures=[-figure for figure in figures], bound=-2.0, at_least=True)
    assert (at_most.met, at_least.met) == (met, met)


def test_one_disturbed_round_among_many_decides_nothing() -> None:
    assert Goal(target="t", figures=(*[1.0] * 12, 9.0), bound=2.0).met is Met.YES


def test_a_target_shows_its_interval_unless_it_is_a_single_figure() -> None:
    several = Goal(target="t", figures=(1.0, 2.0, 3.0), bound=2.0, at_least=True, pass_through=4.0)
    assert several.cells == ("t", "≥ 2.00", "2.00", "1.00\N{EN DASH}3.00", "4.00", "undecided")
    assert Goal(target="t", figures=(1.0,), bound=2.0).cells == ("t", "≤ 2.00", "1.00", "", "", "yes")


@pytest.mark.untraced
def test_an_interval_contains_the_true_median_about_as_often_as_it_says() -> None:
    draw = Random(1)
    intervals = [interval([draw.gauss(5.0) for _ in range(13)]) for _ in range(100)]
    assert 88 <= sum(low <= 5.0 <= high for low, high in intervals) < 100


def test_an_interval_narrows_with_the_rounds_and_is_the_same_each_time() -> None:
    draw = Random(2)
    many = [draw.gauss(5.0) for _ in range(200)]
    (few_low, few_high), (low, high) = interval(many[:13]), interval(many)
    assert high - low < 0.5 * (few_high - few_low)
    assert interval(many) == (low, high)


def test_a_ratio_is_taken_within_a_round_so_that_a_slow_machine_cancels() -> None:
    speeds = (1.0, 0.4, 2.5)
    rounds = Rounds(
        [
            one
            for speed in speeds
            for one in (row(MISS.name, rps=900.0 * speed), row(PORTKEY, rps=300.0 * speed), row(DIRECT, connections=1))
        ]
    )
    assert rounds.ratios(MISS.name, PORTKEY, lambda one: one.achieved_rps) == pytest.approx([3.0] * 3)


def test_a_faster_peer_fails_the_targets_beside_it() -> None:
    failed = [target for target, goal in found(portkey_rps=900.0).items() if goal.met is Met.NO]
    assert len(failed) == 3
    assert all(PORTKEY in target for target in failed)


def test_a_load_that_was_measured_again_is_shown_once_in_its_place() -> None:
    half, again, closed = (
        replace(ROW, share=share, seconds=seconds) for share, seconds in ((0.5, 1), (0.5, 2), (None, 1))
    )
    assert first_of_each_load([half, closed, again]) == [half, closed]


def test_a_figure_is_the_median_of_all_rounds() -> None:
    rounds = Rounds([row(MISS.name, rps=rps) for rps in (900.0, 5000.0, 1000.0)])
    assert rounds.rps(MISS.name) == 1000.0


@pytest.mark.parametrize(("mib", "expected"), [(80.0, 0.0), (88.0, 0.1), (72.0, 0.1)])
def test_memory_drifts_when_any_later_look_differs(mib: float, expected: float) -> None:
    assert drift([*FLAT[:50], (50_000, mib), *FLAT[51:]]) == pytest.approx(expected)


def test_filling_the_caches_is_no_drift() -> None:
    assert drift([(0, 40.0), *FLAT[1:]]) == 0.0
