"""What is found, bought anew and kept, as the cache holds it and the caller wishes."""

import asyncio
from uuid import UUID

import pytest

from api_models import CacheMiss, CacheOutcome, CostTracked, SelectionStrategy
from exceptions import CircuitOpenError, NotCachedError
from protocols import CacheUse
from tests.fakes import FakeProvider, Held, query, reply, settle
from tests.orchestrator_harness import ANTHROPIC, OPENAI, OPENAI_REPLY, Harness, harness_of, in_turn


async def test_a_known_answer_is_given_to_whoever_asks_the_same_question() -> None:
    harness = harness_of(reply())
    await harness.compare(query())
    of_another = query(user_id="teacher-8", caller="another", correlation_id=UUID(int=8), metadata={"batch": "b-2"})
    assert (await harness.compare(of_another)).cache_outcome is CacheOutcome.HIT


async def test_another_replicate_of_the_question_is_bought_anew() -> None:
    harness = harness_of(reply(), reply())
    await harness.compare(query())
    assert (await harness.compare(query(replicate=1))).cache_outcome is CacheOutcome.MISS


async def test_what_was_bought_before_the_cache_was_cleared_is_neither_kept_nor_shared() -> None:
    before, after = Held(reply()), Held(reply(cost_usd=0.5))
    harness = harness_of(before, after)
    early = asyncio.create_task(harness.compare(query()))
    await before.reached.wait()
    await harness.cache.clear()
    afterwards = asyncio.create_task(harness.compare(query()))
    await after.reached.wait()
    for held, task in ((after, afterwards), (before, early)):
        held.go.set()
        assert (await task).cache_outcome is CacheOutcome.MISS
    known = await harness.compare(query())
    assert (known.cache_outcome, known.reply.purchase.cost_usd) == (CacheOutcome.HIT, 0.5)


async def test_a_known_answer_is_given_to_who_has_no_time_left() -> None:
    harness = harness_of(reply())
    await harness.compare(query())
    assert (await harness.compare(query(reading_s=99.0))).cache_outcome is CacheOutcome.HIT


async def test_no_store_neither_reads_nor_writes_nor_shares() -> None:
    harness = harness_of(reply(), reply(), reply(), reply())
    await harness.compare(query())
    await harness.compare(query())
    tasks = [harness.compare(query(cache_use=CacheUse.BYPASS)) for _ in range(2)]
    results = await asyncio.gather(*tasks)
    assert [(result.cache_outcome, result.cost_usd) for result in results] == [(CacheOutcome.BYPASS, 0.25)] * 2
    assert len(harness.events.of(CostTracked)) == 3
    await harness.compare(query(cache_use=CacheUse.BYPASS, replicate=3))
    with pytest.raises(NotCachedError):
        await harness.compare(query(cache_use=CacheUse.ONLY, replicate=3))


async def test_no_cache_asks_anew_without_sharing_and_keeps_the_answer() -> None:
    fresh = reply(cost_usd=0.75)
    harness = harness_of(reply(), fresh)
    await harness.compare(query())
    result = await harness.compare(query(cache_use=CacheUse.REFRESH))
    assert (result.cache_outcome, result.cost_usd, result.age_s) == (CacheOutcome.BYPASS, 0.75, None)
    assert (await harness.compare(query())).reply == fresh


@pytest.mark.parametrize("strategy", SelectionStrategy)
async def test_no_cache_replaces_the_known_answer_whoever_would_be_asked_first_by_now(
    strategy: SelectionStrategy,
) -> None:
    judges = {
        name: FakeProvider(*(reply(provider=name, cost_usd=cost_usd) for cost_usd in (0.25, 0.75)))
        for name in (ANTHROPIC, OPENAI)
    }
    harness = Harness(judges, selection_strategy=strategy)
    for _ in range(2):
        fresh = await harness.compare(query(cache_use=CacheUse.REFRESH))
        known = await harness.compare(query())
        assert (known.cache_outcome, known.reply) == (CacheOutcome.HIT, fresh.reply)


async def test_no_cache_shares_no_purchase_that_is_under_way() -> None:
    """Not even with another that asks anew: it may have begun before what made this one ask."""
    held = [Held(reply()) for _ in range(3)]
    harness = harness_of(*held)
    uses = (CacheUse.NORMAL, CacheUse.REFRESH, CacheUse.REFRESH)
    tasks = [asyncio.create_task(harness.compare(query(cache_use=use))) for use in uses]
    await settle()
    assert [each.reached.is_set() for each in held] == [True] * 3
    for each in held:
        each.go.set()
    outcomes = [result.cache_outcome for result in await asyncio.gather(*tasks)]
    assert outcomes == [CacheOutcome.MISS, CacheOutcome.BYPASS, CacheOutcome.BYPASS]


async def test_only_if_cached_never_buys() -> None:
    harness = harness_of(reply())
    with pytest.raises(NotCachedError):
        await harness.compare(query(cache_use=CacheUse.ONLY, provider=ANTHROPIC))
    assert harness.events.of(CostTracked) == []
    assert (harness.completed().success, harness.completed().provider) == (False, ANTHROPIC)
    await harness.compare(query())
    assert (await harness.compare(query(cache_use=CacheUse.ONLY))).cache_outcome is CacheOutcome.HIT


async def test_only_if_cached_finds_the_answer_of_a_later_candidate() -> None:
    harness = in_turn(CircuitOpenError("open", retry_after_s=3.0), OPENAI_REPLY)
    await harness.compare(query())
    assert (await harness.compare(query(cache_use=CacheUse.ONLY))).reply == OPENAI_REPLY


async def test_without_a_cache_nothing_is_looked_up_or_kept_but_flights_are_shared() -> None:
    held = Held(reply())
    harness = harness_of(held, reply(), cache_enabled=False)
    tasks = [asyncio.create_task(harness.compare(query())) for _ in range(2)]
    await held.reached.wait()
    await settle()
    held.go.set()
    outcomes = [result.cache_outcome for result in await asyncio.gather(*tasks)]
    assert outcomes == [CacheOutcome.BYPASS, CacheOutcome.COALESCED]
    assert (await harness.compare(query())).cache_outcome is CacheOutcome.BYPASS
    assert harness.events.of(CacheMiss) == []
