"""What the benchmark promises is read from the raw data, and a promise that is not kept is told."""

from dataclasses import replace
from statistics import median
from typing import Any

import pytest

from bench.checks import checked
from bench.goals import Goal, Rounds, drift, goals
from bench.rows import Report, Row
from bench.setups import BARE, DIRECT, HIT, LITELLM, MISS, PASSED_ON, PORTKEY, REDIS_HIT
from bench.wire import overhead_us

ROW = Row(
    setup=MISS.name,
    connections=32,
    share=None,
    intended_rps=None,
    achieved_rps=1000.0,
    latency_ms={"p50": 1.0, "p90": 2.0, "p99": 3.0, "p99.9": 4.0},
    overhead_ms={"p50": 0.5, "p99": 3.0},
    cpu_s=0.5,
    rss_mib=80.0,
    seconds=5.0,
    requests=5000,
    statuses={"200": 5000},
    upstream_calls=5000,
    late=0,
    waited=0,
    lost=0,
    load_cpu=0.1,
    histogram="",
)
FLAT = [(1000 * look, 80.0) for look in range(100)]


def row(setup: str, *, rps: float = 1000.0, cpu_s: float = 0.5, p50_ms: float = 1.0, connections: int = 32) -> Row:
    return replace(ROW, setup=setup, achieved_rps=rps, cpu_s=cpu_s, latency_ms={"p50": p50_ms}, connections=connections)


def report(*rows: Row, **more: object) -> Report:
    return Report(command="", date="", commit="", machine={}, rows=rows, more=more)


def found(*, portkey_rps: float = 450.0) -> dict[str, Goal]:
    peers = report(
        row(MISS.name, rps=1000.0, cpu_s=0.7),
        row(PORTKEY, rps=portkey_rps),
        row(LITELLM, rps=40.0),
        row(HIT.name, rps=2000.0, cpu_s=0.4),
        row(REDIS_HIT.name, rps=1000.0),
        row(BARE.name, cpu_s=0.25),
        row(PASSED_ON.name, rps=1800.0, cpu_s=0.5),
        row(PASSED_ON.name, connections=1, p50_ms=1.1),
        row(MISS.name, connections=1, p50_ms=1.6),
        row(PORTKEY, connections=1, p50_ms=2.1),
        row(DIRECT, connections=1, p50_ms=0.1),
    )
    full = report(replace(ROW, share=0.5), burst={"callers": 200, "upstream_calls": 1})
    soak = {"seconds": 300.0, "answered": 100_000, "statuses": {"200": 100_000}, "points": FLAT}
    footprint = report(starts={"idle_mib": [90.0], "start_s": [1.2]}, requests=soak, faults=soak)
    return {goal.promise: goal for goal in goals(full, peers, footprint)}


def test_what_the_service_took_is_all_but_the_provider_s_call() -> None:
    assert overhead_us(b"total;dur=5.000, cache;dur=0.100, queue;dur=0.200, upstream;dur=3.500") == 1500


def test_a_row_tells_what_was_really_due() -> None:
    open_pace = replace(ROW, intended_rps=1010.0, requests=5100)
    assert (open_pace.answers, open_pace.due_rps, ROW.due_rps) == (5000, 1020.0, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"statuses": {"200": 4999, "500": 1}},
        {"setup": PORTKEY, "upstream_calls": 4000},
        {"setup": MISS.name, "upstream_calls": 0},
    ],
    ids=["a refusal", "too few calls", "no call"],
)
def test_who_does_not_answer_or_does_not_ask_ends_the_measurement(wrong: dict[str, Any]) -> None:
    with pytest.raises(SystemExit):
        checked(replace(ROW, **wrong))
    assert checked(ROW) is ROW
    assert checked(replace(ROW, setup=HIT.name, upstream_calls=0))


def test_every_promise_that_is_kept_is_told_as_kept() -> None:
    kept = found()
    assert len(kept) == 13
    assert all(goal.is_met for goal in kept.values())


@pytest.mark.parametrize(
    ("rounds", "told"),
    [((1.0, 2.0), "yes"), ((1.0, 2.0, 2.1), "by the median, not in every round"), ((3.0, 3.0, 1.0), "**no**")],
)
def test_a_promise_that_a_single_round_does_not_keep_is_told_as_such(rounds: tuple[float, ...], told: str) -> None:
    assert Goal(promise="p", found=median(rounds), rounds=rounds, bound=2.0).kept == told


def test_a_faster_peer_breaks_the_promises_beside_it() -> None:
    broken = [promise for promise, goal in found(portkey_rps=900.0).items() if not goal.is_met]
    assert len(broken) == 3
    assert all(PORTKEY in promise for promise in broken)


def test_a_figure_is_the_median_of_all_rounds() -> None:
    rounds = Rounds([row(MISS.name, rps=rps) for rps in (900.0, 5000.0, 1000.0)])
    assert rounds.rps(MISS.name) == 1000.0


@pytest.mark.parametrize(("mib", "expected"), [(80.0, 0.0), (88.0, 0.1), (72.0, 0.1)])
def test_memory_drifts_when_any_later_look_differs(mib: float, expected: float) -> None:
    assert drift([*FLAT[:50], (50_000, mib), *FLAT[51:]]) == pytest.approx(expected)


def test_filling_the_caches_is_no_drift() -> None:
    assert drift([(0, 40.0), *FLAT[1:]]) == 0.0
