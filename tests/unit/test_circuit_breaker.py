"""The circuit breaker, rule by rule, in time that passes only when told to."""

import tracemalloc
from collections.abc import Callable
from math import inf, nan

import pytest

from api_models import CircuitState
from implementations.resilience.circuit_breaker import CircuitRules, Refused
from tests.circuit import CLOSED, HALF_OPEN, OPEN, REPORTS, Circuit, Report, half_open, opened
from tests.fakes import Clock

# Closed: what opens it


def test_a_new_circuit_is_closed_and_lets_calls_pass() -> None:
    circuit = Circuit()
    assert (circuit.state, circuit.breaker.hold, circuit.refuses, circuit.told) == (CLOSED, None, False, [])


def test_the_rules_have_the_promised_defaults() -> None:
    rules = CircuitRules()
    assert (rules.failure_threshold, rules.recovery_s, rules.success_threshold) == (5, 30.0, 2)
    assert (rules.fewest_calls, rules.probe_s) == (5, 30.0)


@pytest.mark.parametrize("threshold", [1, 3, 4])
def test_it_opens_with_so_many_consecutive_failures_and_not_before(threshold: int) -> None:
    circuit = Circuit(failure_threshold=threshold)
    circuit.bad(threshold - 1)
    assert circuit.state is CLOSED
    circuit.bad()
    assert circuit.state is OPEN
    assert circuit.refuses


def test_consecutive_failures_count_however_far_apart_they_are() -> None:
    circuit = Circuit()
    for _ in range(5):
        assert circuit.state is CLOSED
        circuit.bad()
        circuit.clock.advance(3600)
    assert circuit.state is OPEN


def test_a_success_between_resets_the_consecutive_failures() -> None:
    circuit = Circuit()
    circuit.good(100)
    for _ in range(5):
        circuit.bad(4)
        circuit.good()
    assert circuit.state is CLOSED


def test_an_ignored_call_between_does_not_reset_the_consecutive_failures() -> None:
    circuit = Circuit()
    circuit.bad(4)
    circuit.breaker.acquire().ignored()
    circuit.bad()
    assert circuit.state is OPEN


def test_failures_of_calls_that_began_before_a_good_one_count_only_for_the_rate() -> None:
    """Their timeouts come when the hang that caused them is over."""
    circuit = Circuit()
    circuit.good(10)
    hanging = [circuit.breaker.acquire() for _ in range(11)]
    circuit.good()
    assert [permit.failed() for permit in hanging] == [False] * 10 + [True], "half of the minute's 22 calls"


def test_an_early_call_that_succeeds_late_says_nothing_of_those_that_began_between() -> None:
    circuit = Circuit()
    circuit.good(100)
    early, hanging, good = (circuit.breaker.acquire() for _ in range(3))
    good.succeeded()
    early.succeeded()
    circuit.bad(4)
    assert not hanging.failed()
    assert circuit.breaker.acquire().failed()


def test_half_of_five_or_more_calls_failing_within_a_minute_opens_it() -> None:
    circuit = Circuit(failure_threshold=100)
    circuit.good(3)
    circuit.bad(2)
    assert circuit.state is CLOSED  # 2 of 5
    circuit.bad()
    assert circuit.state is OPEN  # 3 of 6


def test_the_rate_says_nothing_with_fewer_than_five_calls_among_which_ignored_ones_do_not_count() -> None:
    circuit = Circuit(failure_threshold=100)
    circuit.bad(4)
    for _ in range(100):
        circuit.breaker.acquire().ignored()
    assert circuit.state is CLOSED
    circuit.bad()
    assert circuit.state is OPEN


@pytest.mark.parametrize(("age_s", "state"), [(0, OPEN), (1, OPEN), (59, OPEN), (60, CLOSED), (61, CLOSED)])
def test_failures_leave_the_rate_after_a_minute(age_s: float, state: CircuitState) -> None:
    circuit = Circuit(failure_threshold=100)
    circuit.bad(4)
    circuit.clock.advance(age_s)
    circuit.bad()
    assert circuit.state is state


@pytest.mark.parametrize(("age_s", "state"), [(59, CLOSED), (60, OPEN)])
def test_good_calls_leave_the_rate_after_a_minute_too(age_s: float, state: CircuitState) -> None:
    circuit = Circuit(failure_threshold=100)
    circuit.good(6)
    circuit.clock.advance(age_s)
    circuit.bad(5)
    assert circuit.state is state


def test_the_minute_slides_it_does_not_jump() -> None:
    circuit = Circuit(failure_threshold=100)
    for _ in range(200):  # 2 of the last 6 calls in any minute
        circuit.good(2)
        circuit.bad()
        circuit.clock.advance(30)
    assert circuit.state is CLOSED
    circuit.bad(2)
    assert circuit.state is OPEN  # 3 of 5


def test_calls_in_every_second_of_the_minute_are_all_remembered() -> None:
    circuit = Circuit(failure_threshold=200)
    for _ in range(120):
        circuit.good()
        circuit.clock.advance(0.5)
    circuit.bad(117)
    assert circuit.state is CLOSED  # 117 of 118 good ones and these
    circuit.bad()
    assert circuit.state is OPEN


def test_a_circuit_that_stays_closed_for_hours_takes_no_more_memory() -> None:
    circuit = Circuit()
    tracemalloc.start()
    try:
        for _ in range(3 * 3600):
            circuit.good()
            circuit.clock.advance(1)
        taken_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken_bytes < 100_000  # one call a second, each remembered for ever, would be ten times as much


def test_only_the_failure_that_opens_the_circuit_says_so() -> None:
    circuit = Circuit()
    permits = [circuit.breaker.acquire() for _ in range(7)]
    assert [permit.failed() for permit in permits] == [False] * 4 + [True] + [False] * 2


# Open: for how long


def test_an_open_circuit_refuses_until_its_time_is_over_and_then_tries() -> None:
    circuit = opened()
    circuit.clock.advance(29.75)
    assert circuit.refuses
    circuit.clock.advance(0.25)
    assert circuit.state is OPEN  # nobody has tried yet
    assert not circuit.refuses
    circuit.breaker.acquire()
    assert circuit.state is HALF_OPEN


def test_the_refusal_counts_down_and_names_no_reason() -> None:
    circuit = opened()
    circuit.clock.advance(12)
    refusal = circuit.breaker.refusal()
    assert refusal is not None
    assert (refusal.wait_s, refusal.reason) == (18, None)
    with pytest.raises(Refused) as raised:
        circuit.breaker.acquire()
    assert (raised.value.wait_s, raised.value.reason) == (18, None)


def test_the_open_time_doubles_with_each_opening_up_to_five_minutes_and_is_jittered_by_half() -> None:
    circuit = opened()
    for _ in range(6):
        circuit.wait()
        circuit.bad()
    assert circuit.bounds == [(15, 30), (30, 60), (60, 120), (120, 240), (150, 300), (150, 300), (150, 300)]


def test_the_open_time_does_not_grow_where_the_rules_let_it_be_no_longer() -> None:
    circuit = Circuit(longest_open_s=30.0)
    circuit.bad(5)
    for _ in range(3):
        circuit.wait()
        circuit.bad()
    assert circuit.bounds == [(15, 30)] * 4


@pytest.mark.parametrize(("luck", "wait_s"), [(0.0, 15), (0.5, 22.5), (1.0, 30)])
def test_the_circuit_stays_open_for_what_the_jitter_says(luck: float, wait_s: float) -> None:
    assert opened(luck=luck).wait_s == wait_s


def test_an_outage_of_a_thousand_openings_ends_like_any_other() -> None:
    circuit = opened()
    for _ in range(1100):
        circuit.wait()
        circuit.bad()
    assert circuit.wait_s == 300
    circuit.wait()
    circuit.good(2)
    assert circuit.state is CLOSED


def test_late_outcomes_neither_shorten_nor_lengthen_the_open_time() -> None:
    circuit = Circuit()
    late = [circuit.breaker.acquire() for _ in range(10)]
    circuit.bad(5)
    circuit.clock.advance(10)
    circuit.luck = 0.0
    for permit in late[:5]:
        assert not permit.failed(retry_after_s=600)
    for permit in late[5:]:
        permit.succeeded()
    assert (circuit.state, circuit.wait_s, len(circuit.bounds)) == (OPEN, 20, 1)


def test_the_open_time_starts_afresh_after_a_full_close() -> None:
    circuit = opened()
    circuit.wait()
    circuit.bad()
    circuit.wait()
    circuit.good(2)
    assert circuit.state is CLOSED
    circuit.bad(5)
    assert circuit.bounds == [(15, 30), (30, 60), (15, 30)]


def test_the_open_time_does_not_start_afresh_after_a_single_good_probe() -> None:
    circuit = opened()
    circuit.wait()
    circuit.good()
    circuit.bad()
    assert circuit.bounds == [(15, 30), (30, 60)]


@pytest.mark.parametrize(
    ("asked_s", "wait_s"),
    [(-5, 30), (0, 30), (29, 30), (31, 31), (600, 600), (3600, 3600), (3601, 3600), (inf, 3600), (nan, 30)],
)
def test_the_other_side_may_ask_for_a_longer_time_up_to_an_hour_but_not_for_a_shorter_one(
    asked_s: float, wait_s: float
) -> None:
    circuit = Circuit()
    circuit.bad(4)
    circuit.bad(retry_after_s=asked_s)
    assert circuit.wait_s == wait_s


def test_a_longer_time_that_was_asked_for_once_is_not_kept() -> None:
    circuit = Circuit()
    circuit.bad(5, retry_after_s=3600)
    circuit.breaker.reset()
    circuit.bad(5)
    assert circuit.wait_s == 30


def test_only_the_failure_that_opens_it_may_ask_for_time() -> None:
    circuit = Circuit()
    circuit.bad(4, retry_after_s=600)
    circuit.bad()
    assert circuit.wait_s == 30


def test_a_bad_probe_may_ask_for_a_longer_time() -> None:
    circuit, probe = half_open()
    assert probe.failed(retry_after_s=600)
    assert circuit.wait_s == 600


# Half-open: one at a time


def test_a_half_open_circuit_lets_one_probe_pass_at_a_time() -> None:
    circuit, probe = half_open()
    assert circuit.refuses
    probe.succeeded()
    assert circuit.state is HALF_OPEN
    assert not circuit.refuses
    circuit.breaker.acquire()
    assert circuit.refuses


def test_two_good_probes_close_it() -> None:
    circuit, probe = half_open()
    probe.succeeded()
    assert circuit.state is HALF_OPEN
    circuit.good()
    assert circuit.state is CLOSED
    assert not circuit.refuses


@pytest.mark.parametrize("good_before", [0, 1])
def test_one_bad_probe_opens_it_again_and_says_so(good_before: int) -> None:
    circuit = opened()
    circuit.wait()
    circuit.good(good_before)
    assert circuit.breaker.acquire().failed()
    assert circuit.state is OPEN
    assert circuit.wait_s == 60


def test_good_probes_of_an_earlier_try_do_not_count() -> None:
    circuit = opened()
    circuit.wait()
    circuit.good()
    circuit.bad()
    circuit.wait()
    circuit.good()
    assert circuit.state is HALF_OPEN


def test_a_closed_circuit_has_forgotten_what_opened_it() -> None:
    circuit = opened(luck=0.0)  # so that it is tried well within the minute
    circuit.wait()
    circuit.good(2)
    circuit.bad(4)
    assert circuit.state is CLOSED
    circuit.bad()
    assert circuit.state is OPEN


def test_the_rate_has_forgotten_the_calls_from_before_the_opening() -> None:
    circuit = Circuit(luck=0.0, failure_threshold=4)
    circuit.bad(4)
    circuit.wait()
    circuit.good(2)
    circuit.bad()
    assert circuit.state is CLOSED  # 1 of 1, and not 5 of 5
    circuit.good()
    circuit.bad(2)
    assert circuit.state is CLOSED  # 3 of 4


def test_a_probe_in_time_keeps_its_place_and_a_lost_one_counts_as_failed() -> None:
    circuit, lost = half_open()
    circuit.clock.advance(24.75)
    assert circuit.state is HALF_OPEN
    assert circuit.wait_s == 0.25
    circuit.clock.advance(0.25)
    assert circuit.state is OPEN
    assert circuit.wait_s == 60
    lost.succeeded()
    assert circuit.state is OPEN


def test_the_time_of_a_probe_begins_with_itself_not_with_the_first_one() -> None:
    circuit, first = half_open()
    circuit.clock.advance(24)
    first.succeeded()
    second = circuit.breaker.acquire()
    circuit.clock.advance(24)
    assert circuit.state is HALF_OPEN
    second.succeeded()
    assert circuit.state is CLOSED


def test_a_half_open_circuit_without_a_probe_under_way_waits_for_ever() -> None:
    circuit, probe = half_open()
    probe.succeeded()
    circuit.clock.advance(86400)
    assert circuit.state is HALF_OPEN
    circuit.good()
    assert circuit.state is CLOSED


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("looked", [False, True])
def test_a_report_after_the_probe_was_given_up_comes_too_late_whether_or_not_anybody_looked(
    report: Report, *, looked: bool
) -> None:
    circuit, lost = half_open()
    circuit.clock.advance(25)
    if looked:
        assert circuit.breaker.refusal() is not None
    report(lost)
    assert circuit.told[2:] == [(HALF_OPEN, OPEN)]
    assert circuit.bounds == [(15, 30), (30, 60)]


def test_a_failure_reported_too_late_did_not_open_the_circuit() -> None:
    circuit, lost = half_open()
    circuit.clock.advance(25)
    assert not lost.failed(retry_after_s=600)
    assert circuit.wait_s == 60


# Ignored, and the rule of one report


def test_an_ignored_probe_gives_its_place_back_and_decides_nothing() -> None:
    circuit, probe = half_open()
    told = list(circuit.told)
    probe.ignored()
    for _ in range(50):
        assert not circuit.refuses
        circuit.breaker.acquire().ignored()
    assert (circuit.state, circuit.told) == (HALF_OPEN, told)
    circuit.good(2)
    assert circuit.state is CLOSED


def test_an_ignored_probe_takes_no_good_one_away() -> None:
    circuit, probe = half_open()
    probe.succeeded()
    circuit.breaker.acquire().ignored()
    circuit.good()
    assert circuit.state is CLOSED


def test_an_ignored_call_from_before_does_not_give_the_place_of_the_probe_away() -> None:
    circuit = Circuit()
    early = circuit.breaker.acquire()
    circuit.bad(5)
    circuit.wait()
    circuit.breaker.acquire()
    early.ignored()
    assert circuit.refuses


@pytest.mark.parametrize("second", REPORTS)
@pytest.mark.parametrize("first", REPORTS)
def test_a_permit_reports_once(first: Report, second: Report) -> None:
    once, again = Circuit(failure_threshold=2), Circuit(failure_threshold=2)
    for circuit, reports in ((once, [first]), (again, [first, second, second])):
        permit = circuit.breaker.acquire()
        for report in reports:
            report(permit)
    assert again.state is once.state is CLOSED
    for circuit in (once, again):
        circuit.bad()
    assert again.told == once.told


@pytest.mark.parametrize("second", REPORTS)
@pytest.mark.parametrize("first", REPORTS)
def test_a_probe_reports_once(first: Report, second: Report) -> None:
    circuit, probe = half_open()
    first(probe)
    told = list(circuit.told)
    if circuit.state is HALF_OPEN:
        circuit.breaker.acquire()
    second(probe)
    assert circuit.told == told
    assert circuit.refuses


def test_a_second_report_of_a_failure_did_not_open_the_circuit() -> None:
    circuit = Circuit(failure_threshold=1)
    permit = circuit.breaker.acquire()
    assert permit.failed()
    assert not permit.failed()


# Generations: what comes from before the last transition


@pytest.mark.parametrize("report", REPORTS)
def test_an_outcome_from_before_the_last_transition_counts_for_nothing(report: Report) -> None:
    circuit = Circuit()
    early = [circuit.breaker.acquire() for _ in range(30)]
    circuit.bad(5)
    for permit in early[:10]:
        report(permit)
    assert circuit.state is OPEN
    circuit.wait()
    probe = circuit.breaker.acquire()
    for permit in early[10:20]:
        report(permit)
    assert circuit.state is HALF_OPEN
    assert circuit.refuses
    probe.succeeded()
    circuit.good()
    for permit in early[20:]:
        report(permit)
    assert circuit.state is CLOSED
    assert circuit.told == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]


def test_a_late_success_does_not_reset_the_failures_of_the_present() -> None:
    circuit = Circuit()
    early = circuit.breaker.acquire()
    circuit.bad(5)
    circuit.wait()
    circuit.good(2)
    circuit.bad(4)
    early.succeeded()
    circuit.bad()
    assert circuit.state is OPEN


# What is told, and when


def test_what_changes_nothing_is_not_told() -> None:
    circuit = Circuit()
    circuit.breaker.reset()
    circuit.force(CLOSED)
    circuit.force(CLOSED, for_s=10)
    circuit.clock.advance(10)
    circuit.breaker.reset()
    assert circuit.told == []
    circuit.force(OPEN)
    circuit.force(OPEN, for_s=10)
    circuit.clock.advance(10)
    assert circuit.state is OPEN
    circuit.force(OPEN)
    assert circuit.told == [(CLOSED, OPEN)]


@pytest.mark.parametrize("end", [lambda circuit: circuit.force(CLOSED), lambda circuit: circuit.breaker.reset()])
def test_a_probe_lost_unnoticed_is_told_before_what_follows(end: Callable[[Circuit], None]) -> None:
    circuit, _ = half_open()
    circuit.clock.advance(25)
    end(circuit)
    assert circuit.told[2:] == [(HALF_OPEN, OPEN), (OPEN, CLOSED)]


def test_looking_changes_nothing() -> None:
    circuit = opened()
    circuit.wait()
    for _ in range(10):
        assert circuit.breaker.refusal() is None
        assert circuit.breaker.hold is None
        assert circuit.state is OPEN
    assert circuit.told == [(CLOSED, OPEN)]
    circuit.breaker.acquire()
    assert circuit.state is HALF_OPEN


class RestlessClock(Clock):
    """Time passes even between two looks at it, as it does in earnest."""

    def __call__(self) -> float:
        self.advance(0.25)
        return super().__call__()


def waiting() -> Circuit:
    circuit = Circuit(RestlessClock())
    circuit.bad(5)
    return circuit


def probing() -> Circuit:
    circuit = waiting()
    circuit.clock.advance(30)
    circuit.breaker.acquire()
    return circuit


def forced() -> Circuit:
    circuit = Circuit(RestlessClock())
    circuit.force(OPEN, for_s=30)
    return circuit


@pytest.mark.parametrize("refusing", [waiting, probing, forced])
def test_the_time_of_a_refusal_is_never_negative(refusing: Callable[[], Circuit]) -> None:
    for head_start_s in (0.0, 0.125, 0.25, 0.375):
        circuit = refusing()
        circuit.clock.advance(head_start_s)
        waits_s = []
        while (refusal := circuit.breaker.refusal()) is not None:
            waits_s.append(refusal.wait_s)
        assert min(waits_s) > 0
