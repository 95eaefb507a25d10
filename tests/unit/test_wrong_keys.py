"""What was tried in vain is counted for each who tries, in a window that moves, and is not remembered without end."""

from implementations.resilience.failed_tries import FailedTries
from tests.fakes import Clock

MOST, WINDOW_S, REMEMBERED = 3, 60.0, 10


def tries(clock: Clock) -> FailedTries:
    return FailedTries(most=MOST, window_s=WINDOW_S, remembered=REMEMBERED, clock=clock)


def test_nobody_waits_before_the_last_allowed_failure() -> None:
    counted = tries(Clock())
    for _ in range(MOST - 1):
        counted.remember("one")

    assert counted.wait_s("one") == 0.0


def test_the_wait_ends_a_window_after_the_first_of_the_last_failures() -> None:
    clock = Clock()
    counted = tries(clock)
    for _ in range(MOST):
        counted.remember("one")
        clock.advance(10.0)

    assert counted.wait_s("one") == WINDOW_S - MOST * 10.0
    clock.advance(WINDOW_S)
    assert counted.wait_s("one") == 0.0


def test_who_goes_on_trying_is_let_try_so_many_times_a_window() -> None:
    clock = Clock()
    counted = tries(clock)
    tried = 0
    for _ in range(600):
        if counted.wait_s("one") == 0.0:
            tried += 1
            counted.remember("one")
        clock.advance(1.0)

    assert tried == 10 * MOST


def test_one_who_fails_makes_no_other_wait() -> None:
    counted = tries(Clock())
    for _ in range(MOST):
        counted.remember("one")

    assert counted.wait_s("one") == WINDOW_S
    assert counted.wait_s("another") == 0.0


def test_who_failed_longest_ago_is_forgotten_first() -> None:
    counted = tries(Clock())
    for who in ("one", "two"):
        for _ in range(MOST):
            counted.remember(who)
    counted.remember("one")
    for number in range(REMEMBERED - 1):
        counted.remember(number)

    assert counted.wait_s("one") == WINDOW_S
    assert counted.wait_s("two") == 0.0
