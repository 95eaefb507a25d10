"""The administrator's key: who passes, who does not, from where, and for how long nobody is looked at."""

import contextlib
from ipaddress import ip_network

import pytest
from structlog.testing import capture_logs

from addresses import IPNetwork
from api_models import AccessRefusal, Door
from exceptions import AdminAddressRefusedError, AdminKeyRefusedError, AdminTriedTooOftenError
from implementations.access.admin_key import AdminKey
from implementations.access.wrong_keys import MOST_FAILURES, WINDOW_S, WrongKeys
from implementations.admin_access_impl import AdminAccessImpl
from metrics import Metrics
from tests.fakes import Clock, comparisons, new_metrics, sample

KEY = "a-key-of-24-characters-or-more"
PEER = "10.0.0.7"
OFFICE = (ip_network("10.0.0.0/24"), ip_network("fd00::/8"))


def access(
    clock: Clock | None = None,
    *,
    key: str | None = KEY,
    allowed: tuple[IPNetwork, ...] = (),
    metrics: Metrics | None = None,
) -> AdminAccessImpl:
    wrong_keys = WrongKeys(Door.ADMIN, metrics=metrics or new_metrics(), clock=clock or Clock())
    return AdminAccessImpl(AdminKey(key, allowed=allowed), wrong_keys=wrong_keys)


def refused(door: AdminAccessImpl, *, times: int, peer: str = PEER) -> None:
    for _ in range(times):
        with pytest.raises(AdminKeyRefusedError):
            door.check("wrong", peer=peer)


@pytest.mark.parametrize("key", [KEY, "schl\u00fcssel-of-24-characters-or-more"])
def test_the_key_opens(key: str) -> None:
    access(key=key).check(key, peer=PEER)


@pytest.mark.parametrize(
    "shown", [None, "", KEY[:-1], KEY + "x", KEY.upper(), "schl\u00fcssel-\u4e2d\u6587", "\udcff", "\x00"]
)
def test_nothing_else_opens(shown: str | None) -> None:
    with pytest.raises(AdminKeyRefusedError):
        access().check(shown, peer=PEER)


def test_the_key_is_compared_in_constant_time_as_a_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = comparisons(monkeypatch)
    door = access()
    for shown in (KEY, KEY[:-1], "wrong"):
        with contextlib.suppress(AdminKeyRefusedError):
            door.check(shown, peer=PEER)
    assert [len(digest) for pair in compared for digest in pair] == [32] * 6


@pytest.mark.parametrize("shown", [None, "", KEY, "None"])
def test_without_a_key_in_force_nothing_opens(shown: str | None) -> None:
    with pytest.raises(AdminKeyRefusedError):
        access(key=None).check(shown, peer=PEER)


@pytest.mark.parametrize("peer", ["10.0.0.0", "10.0.0.255", "fd12::1"])
def test_where_administrators_are_the_key_opens(peer: str) -> None:
    access(allowed=OFFICE).check(KEY, peer=peer)


@pytest.mark.parametrize("peer", ["10.0.1.0", "192.0.2.1", "fe80::1", "unknown", ""])
def test_elsewhere_no_key_is_looked_at(peer: str) -> None:
    metrics = new_metrics()
    with pytest.raises(AdminAddressRefusedError):
        access(allowed=OFFICE, metrics=metrics).check(KEY, peer=peer)
    assert refusals(metrics, AccessRefusal.ADDRESS) == 1.0


def test_after_some_wrong_keys_none_is_looked_at_for_a_while() -> None:
    clock, metrics = Clock(), new_metrics()
    door = access(clock, metrics=metrics)
    refused(door, times=MOST_FAILURES)
    clock.advance(WINDOW_S - 1)
    with pytest.raises(AdminTriedTooOftenError) as too_often:
        door.check(KEY, peer=PEER)
    assert too_often.value.retry_after_s == 1.0
    assert (refusals(metrics, AccessRefusal.WRONG_KEY), refusals(metrics, AccessRefusal.TOO_OFTEN)) == (5.0, 1.0)
    clock.advance(1)

    door.check(KEY, peer=PEER)


def test_the_addresses_of_one_ipv6_site_are_one() -> None:
    door = access()
    for number in range(MOST_FAILURES):
        refused(door, times=1, peer=f"2001:db8::{number}")
    with pytest.raises(AdminTriedTooOftenError):
        door.check(KEY, peer="2001:db8::ffff:0:0:1")

    door.check(KEY, peer="2001:db8:0:1::1")


def test_who_shows_no_key_tries_none() -> None:
    metrics = new_metrics()
    door = access(metrics=metrics)
    with capture_logs() as lines:
        for _ in range(2 * MOST_FAILURES):
            with pytest.raises(AdminKeyRefusedError):
                door.check(None, peer=PEER)

    door.check(KEY, peer=PEER)
    assert lines == []
    assert refusals(metrics, AccessRefusal.NO_KEY) == 2 * MOST_FAILURES


def test_who_shows_no_key_elsewhere_locks_no_administrator_of_the_same_site_out() -> None:
    door = access(allowed=(ip_network("2001:db8::1"),))
    with capture_logs() as lines:
        for _ in range(MOST_FAILURES):
            with pytest.raises(AdminAddressRefusedError):
                door.check(None, peer="2001:db8::2")

    door.check(KEY, peer="2001:db8::1")
    assert lines == []


def test_a_refusal_is_told_and_shows_no_key() -> None:
    with capture_logs() as lines:
        refused(access(), times=1)

    assert lines == [{"event": "admin_refused", "log_level": "warning", "peer": PEER, "reason": "wrong_key"}]


def test_an_address_leaves_only_so_many_lines() -> None:
    door = access(allowed=OFFICE)
    with capture_logs() as lines:
        for _ in range(100):
            with pytest.raises((AdminAddressRefusedError, AdminTriedTooOftenError)):
                door.check("wrong", peer="192.0.2.1")

    assert len(lines) == MOST_FAILURES


def refusals(metrics: Metrics, reason: AccessRefusal) -> float | None:
    return sample(metrics, "llm_provider_access_refusals_total", door=Door.ADMIN, reason=reason)
