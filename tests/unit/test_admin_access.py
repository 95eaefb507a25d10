"""The administrator's key: who passes, who does not, and for how long nobody is looked at."""

import pytest
from structlog.testing import capture_logs

from exceptions import AdminKeyRefusedError, AdminTriedTooOftenError
from implementations.admin_access_impl import MOST_FAILURES, MOST_PEERS, WINDOW_S, AdminAccessImpl
from tests.fakes import Clock

KEY = "a-key-of-24-characters-or-more"
PEER = "10.0.0.7"


def access(clock: Clock | None = None) -> AdminAccessImpl:
    return AdminAccessImpl(KEY, clock=clock or Clock())


def refused(door: AdminAccessImpl, *, times: int, peer: str = PEER) -> None:
    for _ in range(times):
        with pytest.raises(AdminKeyRefusedError):
            door.check("wrong", peer=peer)


def test_the_key_opens() -> None:
    access().check(KEY, peer=PEER)


@pytest.mark.parametrize("shown", [None, "", KEY[:-1], KEY + "x", KEY.upper(), "schlüssel-中文", "\udcff", "\x00"])
def test_nothing_else_opens(shown: str | None) -> None:
    with pytest.raises(AdminKeyRefusedError):
        access().check(shown, peer=PEER)


def test_after_some_wrong_keys_none_is_looked_at_for_a_while() -> None:
    clock = Clock()
    door = access(clock)
    refused(door, times=MOST_FAILURES)
    clock.advance(WINDOW_S - 1)
    with pytest.raises(AdminTriedTooOftenError) as too_often:
        door.check(KEY, peer=PEER)
    assert too_often.value.retry_after_s == 1.0
    clock.advance(1)

    door.check(KEY, peer=PEER)


def test_who_goes_on_trying_is_let_try_so_many_times_a_minute() -> None:
    clock = Clock()
    door = access(clock)
    looked_at = 0
    for _ in range(600):
        try:
            door.check("wrong", peer=PEER)
        except AdminKeyRefusedError:
            looked_at += 1
        except AdminTriedTooOftenError:
            pass
        clock.advance(1)

    assert looked_at <= 10 * MOST_FAILURES


def test_one_address_locks_no_other_out() -> None:
    door = access()
    refused(door, times=MOST_FAILURES)

    door.check(KEY, peer="10.0.0.8")


def test_only_so_many_addresses_are_remembered() -> None:
    door = access()
    refused(door, times=MOST_FAILURES)
    for number in range(MOST_PEERS):
        refused(door, times=1, peer=f"{number}")

    door.check(KEY, peer=PEER)


def test_a_refusal_is_told_and_shows_no_key() -> None:
    with capture_logs() as lines:
        refused(access(), times=1)

    assert lines == [{"event": "admin_key_refused", "log_level": "warning", "peer": PEER, "given": True}]
