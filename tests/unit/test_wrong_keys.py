"""What was tried in vain is counted for each who tries, in a window that moves, and is not remembered without end."""

from implementations.access.wrong_keys import MOST_FAILURES, MOST_PEERS, WINDOW_S, WrongKeys
from tests.fakes import Clock


def test_nobody_waits_before_the_last_allowed_failure() -> None:
    counted = WrongKeys(clock=Clock())
    for _ in range(MOST_FAILURES - 1):
        counted.remember("one")

    assert counted.wait_s("one") == 0.0


def test_the_wait_ends_a_window_after_the_first_of_the_last_failures() -> None:
    clock = Clock()
    counted = WrongKeys(clock=clock)
    for _ in range(MOST_FAILURES):
        counted.remember("one")
        clock.advance(10.0)

    assert counted.wait_s("one") == WINDOW_S - MOST_FAILURES * 10.0
    clock.advance(WINDOW_S)
    assert counted.wait_s("one") == 0.0


def test_who_goes_on_trying_is_let_try_so_many_times_a_window() -> None:
    clock = Clock()
    counted = WrongKeys(clock=clock)
    tried = 0
    for _ in range(600):
        if counted.wait_s("one") == 0.0:
            tried += 1
            counted.remember("one")
        clock.advance(1.0)

    assert tried == 10 * MOST_FAILURES


def test_one_who_fails_makes_no_other_wait() -> None:
    counted = WrongKeys(clock=Clock())
    for _ in range(MOST_FAILURES):
        counted.remember("one")

    assert counted.wait_s("one") == WINDOW_S
    assert counted.wait_s("another") == 0.0


def test_who_failed_longest_ago_is_forgotten_first() -> None:
    counted = WrongKeys(clock=Clock())
    for who in ("one", "two"):
        for _ in range(MOST_FAILURES):
            counted.remember(who)
    counted.remember("one")
    for number in range(MOST_PEERS - 1):
        counted.remember(f"number {number}")

    assert counted.wait_s("one") == WINDOW_S
    assert counted.wait_s("two") == 0.0
