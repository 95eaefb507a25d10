"""The pause that a provider asks for."""

import pytest

from implementations.resilience.throttle_gate import APART_S, ThrottleGate
from tests.fakes import Clock


def test_a_gate_is_open_until_somebody_closes_it_and_again_after_the_pause() -> None:
    clock = Clock()
    gate = ThrottleGate(queue_limit=2, clock=clock)
    assert gate.remaining_s == 0
    gate.pause(10.0)
    clock.advance(4.0)
    assert gate.remaining_s == 6.0
    clock.advance(7.0)
    assert gate.remaining_s == 0


def test_a_pause_is_lengthened_but_never_shortened_and_the_longest_says_why() -> None:
    gate = ThrottleGate(queue_limit=2, clock=Clock())
    gate.pause(10.0, is_overload=True)
    gate.pause(1.0)
    assert (gate.remaining_s, gate.is_overload) == (10.0, True)
    gate.pause(20.0)
    assert (gate.remaining_s, gate.is_overload) == (20.0, False)


def test_an_absurd_wish_ends_after_an_hour() -> None:
    gate = ThrottleGate(queue_limit=2, clock=Clock())
    gate.pause(1e9)
    assert gate.remaining_s == 3600.0


def test_the_gate_knows_when_enough_wait() -> None:
    gate = ThrottleGate(queue_limit=2, clock=Clock())
    for _ in range(2):
        with gate.waiting():
            assert not gate.is_full
            with gate.waiting():
                assert gate.is_full


def test_who_waits_passes_one_after_the_other_also_when_the_pause_is_lengthened() -> None:
    clock = Clock()
    gate = ThrottleGate(queue_limit=9, clock=clock)
    gate.pause(10.0)
    with gate.waiting() as first_s, gate.waiting() as second_s:
        assert (first_s, second_s) == pytest.approx((10.0 + APART_S, 10.0 + 2 * APART_S))
    clock.advance(10.0 + APART_S)
    gate.pause(5.0)
    with gate.waiting() as first_s, gate.waiting() as second_s:
        assert (first_s, second_s) == pytest.approx((5.0 + APART_S, 5.0 + 2 * APART_S))


def test_nobody_waits_behind_those_of_a_pause_that_was_lifted() -> None:
    gate = ThrottleGate(queue_limit=9, clock=Clock())
    gate.pause(50.0)
    with gate.waiting():
        gate.lift()
        gate.pause(1.0)
        with gate.waiting() as turn_s:
            assert turn_s == pytest.approx(1.0 + APART_S)
