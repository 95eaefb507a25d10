"""A circuit that is held: by an operator, or by a failure that will last; and what a reset forgets."""

from collections.abc import Callable
from math import inf

import pytest
from structlog.testing import capture_logs

from api_models import CircuitState, ProviderName
from implementations.resilience.circuit_breaker import Hold, Permit, Refused
from tests.circuit import CLOSED, HALF_OPEN, OPEN, REPORTS, Circuit, Report, half_open, opened
from tests.fakes import Clock, guards, new_metrics

# Forced


def test_what_was_forced_is_told_with_its_reason_its_actor_and_its_end() -> None:
    circuit = Circuit()
    circuit.force(OPEN, for_s=90)
    assert circuit.breaker.hold == Hold(
        state=OPEN, reason="maintenance", actor="operator", until_s=circuit.clock() + 90
    )
    circuit.force(CLOSED)
    assert circuit.breaker.hold == Hold(state=CLOSED, reason="maintenance", actor="operator", until_s=None)


def test_a_circuit_forced_open_refuses_with_the_reason_and_the_remaining_time() -> None:
    circuit = Circuit()
    circuit.force(OPEN, for_s=90)
    circuit.clock.advance(50)
    assert circuit.state is OPEN
    with pytest.raises(Refused) as raised:
        circuit.breaker.acquire()
    assert (raised.value.wait_s, raised.value.reason) == (40, "maintenance")


def test_a_circuit_forced_open_for_ever_names_no_time_and_never_ends_by_itself() -> None:
    circuit = Circuit()
    circuit.force(OPEN)
    for _ in range(10):
        circuit.clock.advance(86400)
        assert circuit.refuses
        assert circuit.wait_s == inf
    assert circuit.breaker.hold is not None


def test_traffic_does_not_change_what_was_forced_open() -> None:
    circuit = Circuit()
    permits = [circuit.breaker.acquire() for _ in range(60)]
    circuit.force(OPEN, for_s=90)
    for good, bad, ignored in zip(permits[:20], permits[20:40], permits[40:], strict=True):
        good.succeeded()
        assert not bad.failed(retry_after_s=600)
        ignored.ignored()
    assert (circuit.state, circuit.wait_s) == (OPEN, 90)
    assert circuit.told == [(CLOSED, OPEN)]


def test_traffic_does_not_change_what_was_forced_closed() -> None:
    circuit = opened()
    circuit.force(CLOSED)
    circuit.bad(50)
    circuit.good(50)
    circuit.bad(50)
    assert not circuit.breaker.acquire().failed()
    assert (circuit.state, circuit.breaker.refusal()) == (CLOSED, None)
    assert circuit.told == [(CLOSED, OPEN), (OPEN, CLOSED)]


def test_a_circuit_forced_closed_lets_any_number_of_calls_pass_even_when_a_probe_was_under_way() -> None:
    circuit, probe = half_open()
    circuit.force(CLOSED)
    permits = [circuit.breaker.acquire() for _ in range(10)]
    probe.failed()
    for permit in permits:
        permit.failed()
    assert circuit.state is CLOSED
    assert not circuit.refuses


@pytest.mark.parametrize("state", [OPEN, CLOSED])
def test_a_probe_that_was_under_way_when_a_state_was_forced_cannot_get_lost(state: CircuitState) -> None:
    circuit, _ = half_open()
    circuit.force(state)
    told = list(circuit.told)
    circuit.clock.advance(1000)
    assert (circuit.state, circuit.told) == (state, told)


def test_calls_of_a_half_open_circuit_forced_closed_are_no_probes() -> None:
    circuit = opened()
    circuit.wait()
    circuit.good()
    circuit.force(CLOSED)
    circuit.breaker.acquire()
    circuit.clock.advance(1000)
    assert circuit.state is CLOSED
    assert circuit.told[-1] == (HALF_OPEN, CLOSED)


def test_a_forced_state_ends_to_the_moment() -> None:
    circuit = Circuit()
    circuit.force(OPEN, for_s=90)
    circuit.clock.advance(89.75)
    assert circuit.refuses
    assert circuit.breaker.hold is not None
    circuit.clock.advance(0.25)
    assert circuit.breaker.hold is None
    assert not circuit.refuses


def test_a_circuit_whose_forced_opening_is_over_is_tried_with_one_probe_before_it_is_trusted() -> None:
    circuit = Circuit()
    circuit.force(OPEN, for_s=90)
    circuit.clock.advance(90)
    assert circuit.state is OPEN
    probe = circuit.breaker.acquire()
    assert circuit.state is HALF_OPEN
    assert circuit.refuses
    probe.succeeded()
    circuit.good()
    assert circuit.state is CLOSED
    assert circuit.told == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]


def test_a_bad_probe_after_a_forced_opening_opens_it_for_the_ordinary_time() -> None:
    circuit = Circuit()
    circuit.force(OPEN, for_s=90)
    circuit.clock.advance(500)
    circuit.bad()
    assert (circuit.state, circuit.wait_s) == (OPEN, 30)


def test_a_forced_opening_that_is_over_leaves_nothing_of_a_longer_open_time() -> None:
    circuit = Circuit()
    circuit.bad(5, retry_after_s=3600)
    circuit.force(OPEN, for_s=10)
    circuit.clock.advance(10)
    assert not circuit.refuses


def test_a_forced_opening_keeps_the_count_of_openings() -> None:
    circuit = opened()
    circuit.force(OPEN, for_s=10)
    circuit.clock.advance(10)
    circuit.bad()
    assert circuit.bounds == [(15, 30), (30, 60)]


def test_a_circuit_whose_forced_closing_is_over_is_an_ordinary_closed_one() -> None:
    circuit = Circuit()
    circuit.bad(4)
    circuit.force(CLOSED, for_s=10)
    circuit.bad(50)
    during = [circuit.breaker.acquire() for _ in range(5)]
    circuit.clock.advance(10)
    for permit in during:
        assert not permit.failed()
    circuit.bad(4)
    assert circuit.state is CLOSED
    circuit.bad()
    assert circuit.state is OPEN
    assert circuit.told == [(CLOSED, OPEN)]


@pytest.mark.parametrize("looked", [False, True])
def test_calls_begun_in_a_forced_state_count_for_nothing_after_it_whether_or_not_anybody_looked(
    *, looked: bool
) -> None:
    circuit = Circuit()
    circuit.force(CLOSED, for_s=10)
    during = [circuit.breaker.acquire() for _ in range(5)]
    circuit.clock.advance(10)
    if looked:
        assert circuit.state is CLOSED
    assert not any(permit.failed() for permit in during)
    assert circuit.state is CLOSED


def test_the_open_time_starts_afresh_after_a_forced_closing() -> None:
    circuit = opened()
    for _ in range(3):
        circuit.wait()
        circuit.bad()
    circuit.force(CLOSED, for_s=10)
    circuit.clock.advance(10)
    circuit.bounds.clear()
    circuit.bad(5)
    assert circuit.bounds == [(15, 30)]


@pytest.mark.parametrize("for_s", [0.0, -5.0])
def test_a_state_forced_for_no_time_is_over_at_once(for_s: float) -> None:
    circuit = Circuit()
    circuit.force(OPEN, for_s=for_s)
    assert circuit.breaker.hold is None
    assert not circuit.refuses
    circuit.good(2)
    assert circuit.told == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]


def test_the_last_word_of_the_operator_counts() -> None:
    circuit = Circuit()
    circuit.force(OPEN, for_s=10)
    circuit.force(OPEN)
    circuit.clock.advance(1000)
    assert circuit.refuses
    circuit.force(CLOSED, for_s=10)
    assert not circuit.refuses
    circuit.force(OPEN, for_s=10)
    assert circuit.refuses
    assert circuit.told == [(CLOSED, OPEN), (OPEN, CLOSED), (CLOSED, OPEN)]


# Reset


def test_a_reset_ends_what_was_forced() -> None:
    circuit = Circuit()
    circuit.force(OPEN)
    circuit.breaker.reset()
    assert (circuit.state, circuit.breaker.hold, circuit.refuses) == (CLOSED, None, False)
    circuit.clock.advance(1000)
    assert circuit.told == [(CLOSED, OPEN), (OPEN, CLOSED)]


def test_a_reset_forgets_failures_and_openings() -> None:
    circuit = opened()
    circuit.wait()
    circuit.bad()
    circuit.breaker.reset()
    circuit.bad(4)
    circuit.breaker.reset()
    circuit.bad(4)
    assert circuit.state is CLOSED
    circuit.bad()
    assert circuit.bounds == [(15, 30), (30, 60), (15, 30)]


def test_a_reset_forgets_the_probe_under_way() -> None:
    circuit, probe = half_open()
    circuit.breaker.reset()
    circuit.clock.advance(1000)
    assert circuit.state is CLOSED
    assert not probe.failed()
    circuit.bad(4)
    assert circuit.state is CLOSED


@pytest.mark.parametrize("report", REPORTS)
def test_outcomes_from_before_a_reset_count_for_nothing(report: Report) -> None:
    circuit = Circuit()
    early = [circuit.breaker.acquire() for _ in range(10)]
    circuit.breaker.reset()
    circuit.bad(4)
    for permit in early:
        report(permit)
    assert circuit.state is CLOSED
    circuit.bad()
    assert circuit.state is OPEN


# A failure that will last


def lasting(permit: Permit) -> bool:
    return permit.failed_lastingly(reason="quota", for_s=300)


def test_a_lasting_failure_forces_the_circuit_open_once() -> None:
    circuit = Circuit()
    first, second = circuit.breaker.acquire(), circuit.breaker.acquire()
    assert [lasting(first), lasting(first), lasting(second)] == [True, False, False]
    assert (circuit.state, circuit.wait_s, circuit.told) == (OPEN, 300, [(CLOSED, OPEN)])
    assert circuit.breaker.hold == Hold(state=OPEN, reason="quota", actor="service", until_s=circuit.clock() + 300)


def test_a_lasting_failure_of_the_probe_forces_the_circuit_open() -> None:
    circuit = opened()
    circuit.wait()
    assert lasting(circuit.breaker.acquire())
    assert (circuit.state, circuit.wait_s) == (OPEN, 300)


@pytest.mark.parametrize("event", [lambda circuit: circuit.breaker.reset(), lambda circuit: circuit.force(CLOSED)])
def test_a_lasting_failure_from_before_an_order_changes_nothing(event: Callable[[Circuit], None]) -> None:
    circuit = Circuit()
    before = circuit.breaker.acquire()
    event(circuit)
    assert not lasting(before)
    assert not circuit.breaker.hold or circuit.breaker.hold.actor == "operator"
    assert circuit.state is CLOSED


def test_a_lasting_failure_leaves_a_forced_state() -> None:
    circuit = Circuit()
    circuit.force(CLOSED)
    assert not lasting(circuit.breaker.acquire())
    assert circuit.state is CLOSED


def test_where_outcomes_do_not_count_only_orders_move_the_circuit() -> None:
    circuit = Circuit(counts=False)
    circuit.bad(20)
    assert not lasting(circuit.breaker.acquire())
    assert circuit.state is CLOSED
    circuit.force(OPEN)
    assert circuit.refuses
    circuit.breaker.reset()
    assert (circuit.state, circuit.refuses) == (CLOSED, False)


def test_where_outcomes_do_not_count_a_circuit_that_was_forced_open_closes_when_that_is_over() -> None:
    circuit = Circuit(counts=False)
    circuit.force(OPEN, for_s=60)
    circuit.wait()
    assert (circuit.refuses, circuit.state) == (False, CLOSED)
    assert circuit.told == [(CLOSED, OPEN), (OPEN, CLOSED)]
    circuit.breaker.acquire()
    assert not circuit.refuses


# Told


def test_only_a_circuit_that_opens_is_a_warning() -> None:
    clock = Clock()
    circuit = guards(new_metrics(), clock)[ProviderName.OPENAI].circuit
    with capture_logs() as lines:
        circuit.force(OPEN, reason="maintenance", actor="operator")
        circuit.reset()
        assert [circuit.acquire().failed() for _ in range(5)][-1]
        clock.advance(60)
        circuit.acquire()

    assert {(line["event"], line["provider"]) for line in lines} == {("circuit_changed", "openai")}
    assert [(line["before"], line["after"], line["reason"], line["log_level"]) for line in lines] == [
        ("closed", "open", "maintenance", "warning"),
        ("open", "closed", None, "info"),
        ("closed", "open", None, "warning"),
        ("open", "half_open", None, "info"),
    ]
