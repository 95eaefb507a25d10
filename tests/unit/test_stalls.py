"""A stall of our own is no reason to give up: what arrived meanwhile is read first."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from unittest.mock import patch

import aiohttp
import pytest
from redis.exceptions import ConnectionError as NotConnectedError

from exceptions import ProviderConnectionError
from implementations.resilience.bulkhead import Bulkhead
from implementations.resilience.call import brief_call, calling
from implementations.resilience.stalls import stall_grace_s, within
from implementations.shared_state.connections import TURN_S, Command, Connections
from implementations.wire.transport import Transport
from tests.fake_redis import Replica
from tests.fakes import Calendar, Clock, call
from tests.fleet import Fleet
from tests.virtual_loop import LoopClock, arriving_during_a_stall, in_virtual_time

LIMIT_S = 5.0
LONG_S = 70.0


@pytest.mark.parametrize(("late_s", "grace_s"), [(0.0, 0.0), (0.25, 0.25), (3600.0, 0.5)])
def test_what_is_due_is_waited_for_as_long_again_as_we_are_late_but_never_long(late_s: float, grace_s: float) -> None:
    assert stall_grace_s(late_s) == grace_s


@in_virtual_time
async def test_what_arrived_during_a_stall_came_in_time() -> None:
    async with within(LIMIT_S):
        await arriving_during_a_stall(LONG_S)


@pytest.mark.parametrize(
    ("limit_s", "stall_s", "ends_s"), [(5, 0, 5), (5, 3, 5), (5, 5.25, 5.5), (5, 70, 70.5), (-1, 0, 0)]
)
@in_virtual_time
async def test_a_wait_for_what_does_not_arrive_ends_in_time_or_soon_after_the_stall(
    limit_s: float, stall_s: float, ends_s: float
) -> None:
    async def wait(limit: within) -> None:
        async with limit:
            await arriving_during_a_stall(stall_s)
            await asyncio.Event().wait()

    clock, limit = LoopClock(), within(limit_s)
    began_s = clock()
    with pytest.raises(TimeoutError):
        await wait(limit)
    assert limit.expired()
    assert clock() - began_s == pytest.approx(ends_s)


@in_virtual_time
async def test_a_limit_ends_with_its_block() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with within(LIMIT_S):
        pass
    await asyncio.sleep(LONG_S)
    assert complaints == []


@in_virtual_time
async def test_who_queued_during_a_stall_gets_the_slot_that_became_free_meanwhile() -> None:
    bulkhead = Bulkhead(limit=1, queue_limit=1)
    slot = await bulkhead.enter(within_s=LIMIT_S)
    queued = asyncio.create_task(bulkhead.enter(within_s=LIMIT_S))
    await asyncio.sleep(0)
    await arriving_during_a_stall(LONG_S)
    slot.leave()
    await queued


@in_virtual_time
async def test_a_test_of_a_provider_that_answered_during_a_stall_was_answered_in_time() -> None:
    async with brief_call(LIMIT_S, Clock()):
        await arriving_during_a_stall(LONG_S)


@in_virtual_time
async def test_what_a_connection_came_to_during_a_stall_it_came_to_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_: object) -> None:
        await arriving_during_a_stall(LONG_S)
        raise aiohttp.ClientConnectionError

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", connect)
    transport = Transport(trusts_environment=False, now=Calendar())
    with calling(call(Clock())), pytest.raises(ProviderConnectionError) as failed:
        await transport.send("GET", "http://127.0.0.1:9/", headers={})
    await transport.close()
    assert failed.value.details == "the connection broke"  # and not: connecting took too long


@in_virtual_time
async def test_a_reply_of_redis_that_came_during_a_stall_is_read() -> None:
    async def reply(*_: Command, on_turn: Callable[[], object]) -> list[bytes]:
        on_turn()
        await arriving_during_a_stall(LONG_S)
        return [b"cached"]

    replica = Replica()
    with patch.object(replica.server, "send", reply):
        assert await replica.redis.read(("GET", "key")) == [b"cached"]


@pytest.mark.parametrize(
    ("goes_by", "outcome"),
    [
        (partial(arriving_during_a_stall, LONG_S), NotConnectedError),
        (partial(asyncio.sleep, TURN_S + 0.01), TimeoutError),
    ],
)
@in_virtual_time
async def test_who_gets_a_connection_to_redis_too_late_leaves_it_to_others_unless_it_was_free_during_a_stall(
    monkeypatch: pytest.MonkeyPatch, goes_by: Callable[[], Awaitable[None]], outcome: type
) -> None:
    async def spent(_: object) -> bool:
        await asyncio.sleep(0)  # the other one queues
        await goes_by()
        raise NotConnectedError

    monkeypatch.setattr("implementations.shared_state.connections._is_spent", spent)
    pool = Connections("redis://127.0.0.1:9", connections=1)
    outcomes = await asyncio.gather(*(pool.send(("PING",)) for _ in range(2)), return_exceptions=True)
    assert [type(one) for one in outcomes] == [NotConnectedError, outcome]


@in_virtual_time
async def test_the_shared_budget_s_answer_that_came_during_a_stall_decides() -> None:
    """Alone, a replica may spend its share of the limit only."""
    fleet = Fleet(day=1.0, size=2)
    for _ in range(5):
        assert await fleet.buys(0, 0.1)
    fleet.store.goes_on.clear()
    reserving = asyncio.create_task(fleet.reserves(0))
    await asyncio.sleep(0)
    await arriving_during_a_stall(LONG_S)
    fleet.store.goes_on.set()
    assert await reserving is not None
