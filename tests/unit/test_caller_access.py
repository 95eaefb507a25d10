"""Who may ask: the holder of a caller's key, whoever else errs beside it; the administrator only to read."""

import hashlib
from ipaddress import ip_network

import pytest
from structlog.testing import capture_logs

from api_models import ADMIN, ANONYMOUS, AccessRefusal, Door
from exceptions import CallerKeyRefusedError
from implementations.access.admin_key import AdminKey
from implementations.access.key_ring import KeyRing
from implementations.access.wrong_keys import MOST_FAILURES, WINDOW_S, WrongKeys
from implementations.caller_access_impl import CallerAccessImpl
from metrics import Metrics
from tests.fakes import Clock, comparisons, new_metrics, sample

OLD, NEW, OTHER = "llmp_the-old-key-of-one", "llmp_the-new-key-of-one", "llmp_the-key-of-two"
ADMIN_KEY = "a-key-of-24-characters-or-more"
PEER, NEIGHBOUR = "10.0.0.7", "10.0.0.8"


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def ring() -> KeyRing:
    return KeyRing({"one": frozenset({digest(OLD), digest(NEW)}), "two": frozenset({digest(OTHER)})})


class Harness:
    """The access with its clock and metrics."""

    def __init__(self, keys: KeyRing | None = None, *, admin_at: str | None = None) -> None:
        self.clock = Clock()
        self.metrics: Metrics = new_metrics()
        self.ring = keys or ring()
        self.access = CallerAccessImpl(
            self.ring,
            admin=AdminKey(ADMIN_KEY, allowed=() if admin_at is None else (ip_network(admin_at),)),
            wrong_keys=WrongKeys(Door.CALLER, metrics=self.metrics, clock=self.clock),
        )

    def asks(self, key: str | None, *, peer: str = PEER, admin_may: bool = True) -> str | None:
        """The name, or None for a refusal."""
        try:
            return self.access.identify(lambda: key, peer=lambda: peer, admin_may=admin_may)
        except CallerKeyRefusedError:
            return None

    def refusals(self, reason: AccessRefusal) -> float | None:
        return sample(self.metrics, "llm_provider_access_refusals_total", door=Door.CALLER, reason=reason)


@pytest.mark.parametrize(("key", "name"), [(OLD, "one"), (NEW, "one"), (OTHER, "two"), (ADMIN_KEY, ADMIN)])
def test_a_key_says_who_asks(key: str, name: str) -> None:
    assert Harness().asks(key) == name


@pytest.mark.parametrize(
    "key", [None, "", OLD[:-1], OLD + "x", OLD.upper(), digest(OLD).hex(), "schlüssel-中文", "\udcff", "\x00", "one"]
)
def test_nothing_else_lets_anybody_in(key: str | None) -> None:
    harness = Harness()
    assert harness.asks(key) is None
    assert harness.refusals(AccessRefusal.WRONG_KEY if key else AccessRefusal.NO_KEY) == 1.0


@pytest.mark.parametrize("key", [OLD, OTHER, "wrong"])
def test_whichever_key_it_is_all_are_compared_in_constant_time(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = comparisons(monkeypatch)
    ring().owner_of(key)
    assert sorted(compared) == sorted((digest(key), digest(known)) for known in (OLD, NEW, OTHER))


def test_where_no_key_is_asked_for_everybody_is_anonymous() -> None:
    access = CallerAccessImpl(
        None,
        admin=AdminKey(None, allowed=()),
        wrong_keys=WrongKeys(Door.CALLER, metrics=new_metrics(), clock=Clock()),
    )
    assert {access.identify(pytest.fail, peer=lambda: PEER, admin_may=may) for may in (False, True)} == {ANONYMOUS}


def test_the_administrator_may_not_do_what_costs() -> None:
    assert Harness().asks(ADMIN_KEY, admin_may=False) is None


def test_the_administrator_is_let_in_from_where_administrators_are() -> None:
    harness = Harness(admin_at="10.0.0.8/32")
    assert harness.asks(ADMIN_KEY, peer=NEIGHBOUR) == ADMIN
    assert harness.asks(ADMIN_KEY, peer=PEER) is None
    assert harness.asks(OLD, peer=PEER) == "one"


def test_wrong_keys_lock_out_no_caller_behind_the_same_address_but_the_administrator_s_key_for_a_while() -> None:
    harness = Harness()
    for _ in range(MOST_FAILURES):
        harness.asks("wrong")
    assert harness.asks(OLD) == "one"
    assert harness.asks(ADMIN_KEY) is None
    assert harness.asks(ADMIN_KEY, peer=NEIGHBOUR) == ADMIN
    harness.clock.advance(WINDOW_S)
    assert harness.asks(ADMIN_KEY) == ADMIN


def test_who_shows_no_key_yet_may_still_show_the_administrator_s() -> None:
    harness = Harness()
    for _ in range(2 * MOST_FAILURES):
        harness.asks(None)
    assert harness.asks(ADMIN_KEY) == ADMIN


def test_of_many_wrong_keys_all_are_counted_a_few_told_and_none_shown() -> None:
    harness = Harness()
    with capture_logs() as lines:
        for _ in range(100):
            harness.asks("wrong")
    line = {"event": "caller_refused", "log_level": "warning", "peer": PEER, "reason": "wrong_key"}
    assert lines == [line] * MOST_FAILURES
    assert harness.refusals(AccessRefusal.WRONG_KEY) == 100.0


def test_a_ring_that_is_replaced_knows_the_new_keys_only() -> None:
    harness = Harness()
    assert harness.ring.replace({"one": frozenset({digest(NEW)}), "three": frozenset({digest(OTHER)})})
    assert [harness.asks(key) for key in (OLD, NEW, OTHER)] == [None, "one", "three"]
    assert harness.ring.names == {"one", "three"}


def test_a_ring_that_is_replaced_by_an_equal_one_did_not_change() -> None:
    assert not ring().replace({"two": frozenset({digest(OTHER)}), "one": frozenset({digest(NEW), digest(OLD)})})
