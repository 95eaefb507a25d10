"""What was tried in vain is counted for each who tries, in a window that moves, and is not remembered without end."""

from api_models import AccessRefusal, Door
from implementations.access.wrong_keys import MOST_FAILURES, MOST_PEERS, WINDOW_S, WrongKeys
from tests.fakes import Clock, new_metrics


def counter(clock: Clock) -> WrongKeys:
    return WrongKeys(Door.CALLER, metrics=new_metrics(), clock=clock)


def test_nobody_waits_before_the_last_allowed_failure() -> None:
    counted = counter(Clock())
    for _ in range(MOST_FAILURES - 1):
        counted.refused(AccessRefusal.WRONG_KEY, "one")

    assert counted.wait_s("one") == 0.0


def test_the_wait_ends_a_window_after_the_first_of_the_last_failures() -> None:
    clock = Clock()
    counted = counter(clock)
    for _ in range(MOST_FAILURES):
        counted.refused(AccessRefusal.WRONG_KEY, "one")
        clock.advance(10.0)

    assert counted.wait_s("one") == WINDOW_S - MOST_FAILURES * 10.0
    clock.advance(WINDOW_S)
    assert counted.wait_s("one") == 0.0


def test_who_goes_on_trying_is_let_try_so_many_times_a_window() -> None:
    clock = Clock()
    counted = counter(clock)
    tried = 0
    for _ in range(600):
        if counted.wait_s("one") == 0.0:
            tried += 1
            counted.refused(AccessRefusal.WRONG_KEY, "one")
        clock.advance(1.0)

    assert tried == 10 * MOST_FAILURES


def test_one_who_fails_makes_no_other_wait() -> None:
    counted = counter(Clock())
    for _ in range(MOST_FAILURES):
        counted.refused(AccessRefusal.WRONG_KEY, "one")

    assert counted.wait_s("one") == WINDOW_S
    assert counted.wait_s("another") == 0.0


def test_who_failed_longest_ago_is_forgotten_first() -> None:
    counted = counter(Clock())
    for who, times in (("one", MOST_FAILURES - 1), ("two", MOST_FAILURES), ("one", 1)):
        for _ in range(times):
            counted.refused(AccessRefusal.WRONG_KEY, who)
    for number in range(MOST_PEERS - 1):
        counted.refused(AccessRefusal.WRONG_KEY, f"number {number}")

    assert counted.wait_s("one") == WINDOW_S
    assert counted.wait_s("two") == 0.0
