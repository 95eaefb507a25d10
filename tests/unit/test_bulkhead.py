"""Places, the queue for them, and what may be held longer than its owner stays."""

import asyncio

import pytest

from api_models import ShedReason
from exceptions import ServiceOverloadedError
from implementations.resilience.bulkhead import Bulkhead
from implementations.resilience.memory_limit import MemoryLimit
from tests.fakes import begun, settle


async def test_slots_are_given_until_there_are_none() -> None:
    bulkhead = Bulkhead(limit=2, queue_limit=9)
    first, second = await bulkhead.enter(within_s=0), await bulkhead.enter(within_s=0)
    assert bulkhead.inside == 2
    with pytest.raises(ServiceOverloadedError) as crowded:
        await bulkhead.enter(within_s=0)
    assert crowded.value.retry_after_s is not None
    first.leave()
    second.leave()
    assert (bulkhead.inside, bulkhead.waiting) == (0, 0)


async def test_who_came_first_is_served_first() -> None:
    bulkhead, served = Bulkhead(limit=1, queue_limit=9), list[int]()
    slot = await bulkhead.enter(within_s=0)

    async def wait(number: int) -> None:
        mine = await bulkhead.enter(within_s=60)
        served.append(number)
        mine.leave()

    waiting = [asyncio.create_task(wait(number)) for number in range(5)]
    await settle()
    assert bulkhead.waiting == 5
    slot.leave()
    await asyncio.gather(*waiting)
    assert served == [0, 1, 2, 3, 4]


async def test_a_newcomer_does_not_overtake_the_queue() -> None:
    bulkhead = Bulkhead(limit=1, queue_limit=9)
    slot = await bulkhead.enter(within_s=0)
    waiting = await begun(bulkhead.enter(within_s=60))
    slot.leave()
    with pytest.raises(ServiceOverloadedError):
        await bulkhead.enter(within_s=0)
    (await waiting).leave()
    assert bulkhead.inside == 0


async def test_a_full_queue_turns_away_at_once() -> None:
    bulkhead = Bulkhead(limit=1, queue_limit=2)
    slot = await bulkhead.enter(within_s=0)
    waiting = [asyncio.create_task(bulkhead.enter(within_s=60)) for _ in range(2)]
    await settle()
    with pytest.raises(ServiceOverloadedError):
        await bulkhead.enter(within_s=60)
    slot.leave()
    for one in waiting:
        (await one).leave()
    assert (bulkhead.inside, bulkhead.waiting) == (0, 0)


async def test_who_leaves_the_queue_takes_no_slot_along_and_frees_none() -> None:
    bulkhead = Bulkhead(limit=1, queue_limit=9)
    slot = await bulkhead.enter(within_s=0)
    waiting = [asyncio.create_task(bulkhead.enter(within_s=60)) for _ in range(3)]
    await settle()
    waiting[0].cancel()
    slot.leave()
    waiting[1].cancel()
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    (await waiting[2]).leave()
    assert (bulkhead.inside, bulkhead.waiting) == (0, 0)
    slot = await bulkhead.enter(within_s=0)
    with pytest.raises(ServiceOverloadedError):
        await bulkhead.enter(within_s=0)
    slot.leave()


@pytest.mark.parametrize(("queue_limit", "reason"), [(0, ShedReason.QUEUE_FULL), (9, ShedReason.QUEUE_TIMEOUT)])
async def test_who_is_turned_away_is_told_why_and_frees_no_slot_of_another(
    queue_limit: int, reason: ShedReason
) -> None:
    bulkhead = Bulkhead(limit=1, queue_limit=queue_limit)
    slot = await bulkhead.enter(within_s=0)
    for _ in range(2):
        with pytest.raises(ServiceOverloadedError) as crowded:
            await bulkhead.enter(within_s=0)
        assert (crowded.value.shed, crowded.value.retry_after_s) == (reason, 1.0)
    assert bulkhead.inside == 1
    slot.leave()


async def test_a_slot_and_its_memory_are_held_for_what_goes_on_after_its_owner_left() -> None:
    memory = MemoryLimit(100)
    bulkhead = Bulkhead(limit=1, queue_limit=9, memory=memory)
    slot = await bulkhead.enter(within_s=0, size_bytes=10)
    flight = asyncio.create_task(asyncio.Event().wait())
    slot.keep_for(flight)
    slot.leave()
    assert (bulkhead.inside, memory.taken_bytes) == (1, 10)
    flight.cancel()
    await settle()
    assert (bulkhead.inside, memory.taken_bytes) == (0, 0)


async def test_a_slot_whose_work_ended_first_is_free_when_its_owner_leaves() -> None:
    bulkhead = Bulkhead(limit=1, queue_limit=9)
    slot = await bulkhead.enter(within_s=0)
    flight = asyncio.create_task(asyncio.sleep(0))
    slot.keep_for(flight)
    await flight
    await settle()
    assert bulkhead.inside == 1
    slot.leave()
    assert bulkhead.inside == 0


async def test_who_needs_more_memory_than_is_left_is_turned_away_and_takes_none() -> None:
    memory = MemoryLimit(100)
    bulkhead = Bulkhead(limit=5, queue_limit=9, memory=memory)
    slot = await bulkhead.enter(within_s=0, size_bytes=60)
    with pytest.raises(ServiceOverloadedError) as full:
        await bulkhead.enter(within_s=60, size_bytes=41)
    assert (full.value.shed, full.value.retry_after_s) == (ShedReason.MEMORY, 1.0)
    assert (bulkhead.inside, memory.taken_bytes) == (1, 60)
    (await bulkhead.enter(within_s=0, size_bytes=40)).leave()
    slot.leave()
    assert memory.taken_bytes == 0


async def test_who_needs_more_memory_than_there_is_takes_all_of_it_when_nobody_else_has_any() -> None:
    memory = MemoryLimit(100)
    bulkhead = Bulkhead(limit=5, queue_limit=9, memory=memory)
    slot = await bulkhead.enter(within_s=0, size_bytes=1)
    with pytest.raises(ServiceOverloadedError):
        await bulkhead.enter(within_s=60, size_bytes=101)
    slot.leave()
    slot = await bulkhead.enter(within_s=0, size_bytes=101)
    assert memory.taken_bytes == 100
    slot.leave()
    assert memory.taken_bytes == 0


async def test_who_waits_for_a_slot_has_memory_already_and_gives_it_back_when_there_is_none() -> None:
    memory = MemoryLimit(100)
    bulkhead = Bulkhead(limit=1, queue_limit=9, memory=memory)
    slot = await bulkhead.enter(within_s=0, size_bytes=10)
    waiting = await begun(bulkhead.enter(within_s=60, size_bytes=20))
    assert memory.taken_bytes == 30
    waiting.cancel()
    with pytest.raises(ServiceOverloadedError):
        await bulkhead.enter(within_s=0, size_bytes=20)
    await asyncio.wait([waiting])
    assert memory.taken_bytes == 10
    slot.leave()
    assert memory.taken_bytes == 0
