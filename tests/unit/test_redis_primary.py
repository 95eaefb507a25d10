"""Which address is believed when several servers say where the primary is, and some say nothing."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as NotConnectedError
from structlog.testing import capture_logs

from implementations.shared_state.connections import Command
from implementations.shared_state.lateness import SLOW_S
from implementations.shared_state.primary import Primary, told_by_node, told_by_sentinel
from metrics import Metrics
from tests.fakes import new_metrics, samples_of
from tests.virtual_loop import LoopClock, in_virtual_time


class Witness:
    """says: the reply to everything; an exception is raised, unless it is a reply; None is never said."""

    def __init__(self, says: object) -> None:
        self.says = says
        self.closed = False

    async def send(self, *commands: Command, on_turn: Callable[[], object] = lambda: None) -> list[Any]:
        if isinstance(self.says, Exception) and not isinstance(self.says, ResponseError):
            raise self.says
        if self.says is None:
            await asyncio.Event().wait()
        return [self.says for _ in commands]

    def renew(self) -> None:
        """There is none."""

    async def close(self) -> None:
        self.closed = True


def primary(*says: object, metrics: Metrics | None = None) -> tuple[Primary, list[Witness]]:
    witnesses = [Witness(one) for one in says]
    known = Primary(witnesses, [("WHERE",)], lambda replies: replies[0], metrics=metrics or new_metrics())
    return known, witnesses


OLD, NEW = (6, ("10.0.0.1", 6379)), (7, ("10.0.0.2", 6379))


@pytest.mark.parametrize(
    "says",
    [(OLD, NEW), (NEW, OLD), (NotConnectedError(), NEW), (ValueError(), NEW), (None, OLD, NEW)],
    ids=["newest last", "newest first", "one is away", "one talks nonsense", "one hangs"],
)
@in_virtual_time
async def test_the_latest_epoch_is_believed_whoever_else_is_silent(says: tuple[object, ...]) -> None:
    clock = LoopClock()
    began_s = clock()
    found = await primary(*says)[0].find()
    took_s = clock() - began_s
    assert found == NEW[1]
    assert took_s == (pytest.approx(SLOW_S) if None in says else 0)


async def test_what_was_known_holds_while_nobody_answers_and_is_logged_when_it_changes_or_is_confirmed() -> None:
    known, (witness,) = primary(NEW)
    with capture_logs() as logs:
        for says in (NEW, NEW, NotConnectedError(), NotConnectedError(), NEW, OLD):
            witness.says = says
            last = await known.find()
    assert last == OLD[1]  # set up anew, perhaps, which begins with a lower epoch
    assert [(line["event"], line.get("host"), line.get("port")) for line in logs] == [
        ("redis_primary", "10.0.0.2", 6379),
        ("redis_primary_unconfirmed", None, None),
        ("redis_primary", "10.0.0.2", 6379),
        ("redis_primary", "10.0.0.1", 6379),
    ]


async def test_the_log_says_what_is_wrong_with_those_that_do_not_know() -> None:
    known, witnesses = primary(AuthenticationError(), ResponseError(), NEW)
    with capture_logs() as logs:
        await known.find()
        witnesses[2].says = NoPermissionError()
        await known.find()
    assert [line["faults"] for line in logs] == [
        ["authentication", "refused"],
        ["authentication", "refused", "denied"],
    ]


async def test_the_metric_counts_those_that_do_not_know_while_another_one_does() -> None:
    metrics = new_metrics()
    known, witnesses = primary(NotConnectedError(), NotConnectedError(), AuthenticationError(), NEW, metrics=metrics)
    found = []
    for _ in range(2):
        await known.find()
        counted = samples_of(metrics, "llm_provider_redis_witnesses_failing")
        found.append({one.labels["fault"]: one.value for one in counted if one.value})
        witnesses[0].says = witnesses[2].says = OLD
    assert found == [{"connection": 2, "authentication": 1}, {"connection": 1}]


async def test_a_primary_that_nobody_ever_knew_is_no_address() -> None:
    known, witnesses = primary(NotConnectedError(), ValueError())
    for _ in range(2):
        with pytest.raises(NotConnectedError):
            await known.find()
    await known.close()
    assert all(witness.closed for witness in witnesses)


FIELDS = [b"name", b"essays", b"ip", b"10.0.0.1", b"config-epoch", b"6"]


def test_a_sentinel_tells_whom_it_has_promoted_before_it_tells_so_among_the_fields() -> None:
    assert told_by_sentinel([[b"10.0.0.2", b"6379"], FIELDS]) == (6, NEW[1])


NODES = (
    b"one 10.0.0.1:6379@16379 master - 0 1796074408064 6 connected 0-5460\n"
    b"four 10.0.0.4:6379@16379,host slave one 0 1796074408064 6 connected\n"
    b"two 10.0.0.2:6379@16379 myself,master - 0 0 7 connected 5461-16383\n"
)
RANGES = [
    [0, 5460, [b"10.0.0.1", 6379, b"one", []], [b"10.0.0.4", 6379, b"four", []]],
    [5461, 16383, [b"10.0.0.2", 6379, b"two", []]],
]


@pytest.mark.parametrize(("slot", "told"), [(0, OLD), (5460, OLD), (5461, NEW), (16383, NEW)])
def test_a_node_tells_who_owns_the_slot_since_which_epoch(slot: int, told: tuple[int, tuple[str, int]]) -> None:
    assert told_by_node([NODES, RANGES], slot=slot) == told


NO_TESTIMONY = ValueError, TypeError, LookupError
UNKNOWN = ResponseError("ERR No such master with that name")


@pytest.mark.parametrize(
    "replies",
    [[None, UNKNOWN], [UNKNOWN, UNKNOWN], [[b"10.0.0.2", b"6379"], FIELDS[:4]], [[b"\xff", b"6379"], FIELDS]],
)
def test_a_sentinel_that_does_not_know_says_nothing(replies: list[object]) -> None:
    with pytest.raises(NO_TESTIMONY):
        told_by_sentinel(replies)


@pytest.mark.parametrize(
    "replies",
    [
        [NODES, []],
        [NODES, RANGES[:1]],
        [b"", RANGES],
        [NODES, UNKNOWN],
        *([NODES, [[0, 16383, [host, 6379, b"two", []]]]] for host in (None, b"", b"?")),
    ],
)
def test_a_node_that_does_not_know_says_nothing(replies: list[object]) -> None:
    with pytest.raises(NO_TESTIMONY):
        told_by_node(replies, slot=16383)
