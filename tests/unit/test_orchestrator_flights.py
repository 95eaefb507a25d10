"""Who shares a purchase, who starts the next one, and what becomes of it when its callers leave."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from api_models import (
    CacheOutcome,
    CircuitState,
    CostTracked,
    ProviderFailed,
    ProviderName,
    Purchase,
    RequestCompleted,
    RequestStarted,
    Usage,
)
from exceptions import (
    AttemptCutShortError,
    BrokenReplyError,
    ContentRefusedError,
    DeadlineExceededError,
    ProviderOverloadedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitedError,
    ServiceError,
    ServiceStoppingError,
    ThrottlePausedError,
)
from implementations.answers_impl import LANDING_S
from implementations.llm_orchestrator_impl import UNFINISHED
from implementations.resilience.call import SHORTEST_ATTEMPT_S, Record, current_call
from implementations.resilience.policies import Throttled
from implementations.resilience.retry_budget import RetryBudget
from implementations.resilience.throttle_gate import APART_S, ThrottleGate
from implementations.retry_manager_impl import RetryManagerImpl
from protocols import CachedReply, CacheUse, ComparisonQuery, ComparisonResult, ProviderReply, ProviderRequest
from tests.fakes import (
    KNOWN_MODEL,
    Clock,
    FakeProvider,
    Held,
    InstantSleep,
    begun,
    current_settings,
    query,
    reply,
    sample,
    settle,
)
from tests.orchestrator_harness import ANTHROPIC, OPENAI, OPENAI_REPLY, Harness, harness_of, in_turn
from tests.virtual_loop import LoopClock, arriving_during_a_stall, in_virtual_time


async def test_identical_questions_share_one_purchase() -> None:
    held = Held(reply())
    harness = harness_of(held)
    tasks = [asyncio.create_task(harness.compare(query())) for _ in range(50)]
    await held.reached.wait()
    await settle()
    held.go.set()
    buyer, *others = await asyncio.gather(*tasks)
    assert (buyer.cache_outcome, buyer.cost_usd) == (CacheOutcome.MISS, 0.25)
    for other in others:
        assert (other.cache_outcome, other.cost_usd, other.coalesced) == (CacheOutcome.COALESCED, 0.0, True)
        assert (other.reply, other.attempts) == (reply(), ())
    assert len(harness.events.of(CostTracked)) == 1
    assert len(harness.events.of(RequestStarted)) == len(harness.events.of(RequestCompleted)) == 50
    assert sum(event.cost_estimate or 0.0 for event in harness.events.of(RequestCompleted)) == 0.25
    assert sample(harness.metrics, "llm_provider_coalesced_requests_total") == 49


@pytest.mark.parametrize(
    ("asked", "paused_s", "outcome"),
    [
        (query(), 5.0, CacheOutcome.COALESCED),
        (query(), 0.5, CacheOutcome.MISS),
        (query(cache_use=CacheUse.REFRESH), 5.0, CacheOutcome.BYPASS),
    ],
)
@in_virtual_time
async def test_what_another_replica_bought_during_a_long_wait_is_not_bought_again(
    asked: ComparisonQuery, paused_s: float, outcome: CacheOutcome
) -> None:
    harness = harness_of(reply(), guarded=True)
    (candidate,) = harness.selector.candidates(asked, current_settings())
    harness.guards[ANTHROPIC].gate.pause(paused_s)
    waiting = asyncio.create_task(harness.compare(asked))
    await settle()
    harness.cache.put(candidate.request.fingerprint(), reply(), ttl_s=60.0)
    harness.clock.advance(paused_s + APART_S)
    result = await waiting
    is_found = outcome is CacheOutcome.COALESCED
    assert (result.cache_outcome, result.cost_usd, len(result.attempts)) == (
        outcome,
        0.25 * (not is_found),
        not is_found,
    )
    known = await harness.cache.get(candidate.request.fingerprint())
    assert known is not None
    assert (known.age_s > 0) is is_found, "what was found is as old as it was"


async def test_a_shared_failure_says_to_each_caller_what_was_tried_for_that_caller() -> None:
    held = Held(ProviderUnavailableError("overloaded"))
    harness = harness_of(held)

    async def attempts() -> int:
        try:
            await harness.compare(query())
        except ServiceError as failure:
            return len(failure.attempts_in_words)
        raise AssertionError

    with patch.object(harness.events, "stored", lambda: asyncio.sleep(0)):  # as with a spool
        asked = [asyncio.create_task(attempts()) for _ in range(3)]
        await held.reached.wait()
        held.go.set()
        assert await asyncio.gather(*asked) == [1, 0, 0]


@pytest.mark.parametrize("failure", [ProviderTimeoutError("late"), AttemptCutShortError("too late")])
async def test_who_joined_a_flight_that_ran_out_of_time_joins_the_next_one(failure: ServiceError) -> None:
    first, second = Held(failure), Held(reply())
    harness = harness_of(first, second)
    starter = asyncio.create_task(harness.compare(query()))
    await first.reached.wait()
    harness.clock.advance(50.0)
    late = [asyncio.create_task(harness.compare(query())) for _ in range(3)]
    await settle()
    harness.clock.advance(4.5)
    first.go.set()
    with pytest.raises(type(failure)):
        await starter
    await second.reached.wait()
    second.go.set()
    results = await asyncio.gather(*late)
    assert [result.reply for result in results] == [reply()] * 3
    assert sum(result.cache_outcome is CacheOutcome.MISS for result in results) == 1


async def test_who_started_a_flight_that_ran_out_of_time_does_not_buy_again() -> None:
    """A flight ends a little sooner than its request, which has enough left for an attempt."""

    async def late(_: ProviderRequest) -> ProviderReply:
        harness.clock.advance(55.0 - SHORTEST_ATTEMPT_S - LANDING_S / 2)
        raise ProviderTimeoutError("late")

    judge = FakeProvider(late, reply())
    harness = Harness({ANTHROPIC: judge})
    with pytest.raises(ProviderTimeoutError):
        await harness.compare(query())
    assert len(judge.requests) == 1


async def joined_late(harness: Harness, first: Held) -> ComparisonResult:
    """What who joins a flight shortly before its end gets, when it has run out of time for who started it."""
    starter = asyncio.create_task(harness.compare(query(provider=ANTHROPIC)))
    await first.reached.wait()
    harness.clock.advance(50.0)
    late = await begun(harness.compare(query()))
    harness.clock.advance(4.5)
    first.go.set()
    with pytest.raises(ProviderTimeoutError):
        await starter
    return await late


async def test_who_joined_a_flight_that_ran_out_of_time_starts_the_next_if_no_other_candidate_may_be_asked() -> None:
    first, other = Held(ProviderTimeoutError("late")), FakeProvider()
    harness = Harness({ANTHROPIC: FakeProvider(first, reply()), OPENAI: other})
    harness.guards[OPENAI].circuit.force(CircuitState.OPEN, reason="maintenance", actor="an operator")
    assert (await joined_late(harness, first)).reply == reply()
    assert other.requests == []


async def test_who_joined_a_flight_that_ran_out_of_time_buys_nothing_with_too_little_time_of_his_own() -> None:
    first = Held(ProviderTimeoutError("late"))
    judge = FakeProvider(first, reply())
    harness = Harness({ANTHROPIC: judge})
    starter = asyncio.create_task(harness.compare(query()))
    await first.reached.wait()
    harness.clock.advance(50.0)
    hasty = await begun(harness.compare(query(timeout_s=4.5 + SHORTEST_ATTEMPT_S / 2)))
    harness.clock.advance(4.5)
    first.go.set()
    outcomes = await asyncio.gather(starter, hasty, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ProviderTimeoutError] * 2
    assert len(judge.requests) == 1


async def test_who_joined_a_flight_that_failed_with_time_left_fails_with_it() -> None:
    held = Held(ProviderTimeoutError("late"))
    harness = harness_of(held)
    starter = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    harness.clock.advance(55.0 - LANDING_S - 1.5 * SHORTEST_ATTEMPT_S)
    late = [asyncio.create_task(harness.compare(query())) for _ in range(2)]
    await settle()
    held.go.set()
    outcomes = await asyncio.gather(starter, *late, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ProviderTimeoutError] * 3


PAUSES = (RateLimitedError, ProviderOverloadedError, ThrottlePausedError)


async def beside_one_who_may_ask_others(failure: ServiceError) -> tuple[ProviderReply | BaseException, int]:
    """What a caller who named the provider gets of the same flight's failure, and how often it was asked."""
    held = Held(failure)
    pinned = FakeProvider(held, reply())
    harness = Harness({ANTHROPIC: pinned, OPENAI: FakeProvider(OPENAI_REPLY)})
    free = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    bound = await begun(harness.compare(query(provider=ANTHROPIC)))
    held.go.set()
    assert (await free).reply == OPENAI_REPLY
    (outcome,) = await asyncio.gather(bound, return_exceptions=True)
    return outcome if isinstance(outcome, BaseException) else outcome.reply, len(pinned.requests)


@pytest.mark.parametrize("kind", PAUSES)
async def test_a_pause_too_long_for_a_flight_is_waited_out_by_who_joined_it_and_has_the_time(
    kind: type[ServiceError],
) -> None:
    assert await beside_one_who_may_ask_others(kind("come back later", retry_after_s=40)) == (reply(), 2)


@pytest.mark.parametrize(
    "failure",
    [*(kind("come back later", retry_after_s=55) for kind in PAUSES), QuotaExceededError("no", retry_after_s=40)],
)
async def test_a_pause_that_nobody_has_time_for_ends_all_who_joined(failure: ServiceError) -> None:
    assert await beside_one_who_may_ask_others(failure) == (failure, 1)


@pytest.mark.parametrize("kind", PAUSES)
async def test_a_pause_too_long_for_who_started_the_flight_is_waited_out_by_who_joined_it(
    kind: type[ServiceError],
) -> None:
    held = Held(kind("come back later", retry_after_s=10))
    judge = FakeProvider(held, reply())
    harness = Harness({ANTHROPIC: judge})
    hasty = asyncio.create_task(harness.compare(query(timeout_s=3.0)))
    await held.reached.wait()
    patient = await begun(harness.compare(query()))
    held.go.set()
    with pytest.raises(kind):
        await hasty
    assert (await patient).reply == reply()
    assert len(judge.requests) == 2


async def beside_one_in_haste(
    inner: FakeProvider, held: Held, timeout_s: float, meanwhile: Callable[[ThrottleGate], None]
) -> ProviderReply:
    """What one with time gets who joins the flight of another with less, with retries and a gate before the judge."""
    clock, sleep = Clock(), InstantSleep()
    gate = ThrottleGate(queue_limit=10, clock=clock)

    async def nap(seconds: float) -> None:
        clock.advance(seconds)
        await sleep(seconds)

    throttled = Throttled(inner, gate=gate, sleep=nap)
    retries = RetryManagerImpl(budget=RetryBudget(), sleep=nap)

    async def judge(asked: ProviderRequest) -> ProviderReply:
        return await retries.run(lambda: throttled.generate_comparison(asked))

    harness = Harness({ANTHROPIC: FakeProvider(judge, judge)})
    hasty = asyncio.create_task(harness.compare(query(timeout_s=timeout_s)))
    await held.reached.wait()
    patient = await begun(harness.compare(query()))
    meanwhile(gate)
    held.go.set()
    await asyncio.wait([hasty])
    return (await patient).reply


async def test_a_pause_met_while_retrying_is_waited_out_by_who_joined_and_has_the_time() -> None:
    """The failure that was retried says nothing of the pause that ended the flight."""
    held = Held(ProviderUnavailableError("down"))
    judge = FakeProvider(held, reply())
    assert await beside_one_in_haste(judge, held, 5.0, lambda gate: gate.pause(20.0)) == reply()


async def test_only_the_pause_itself_is_held_against_who_started_a_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the back-off that it is a part of: the failure says no more than the pause."""
    monkeypatch.setattr("implementations.retry_manager_impl.THROTTLED_BACKOFF", lambda _: 0.9)
    held = Held(RateLimitedError("slow down", retry_after_s=0.2))
    judge = FakeProvider(held, reply())
    assert await beside_one_in_haste(judge, held, 1.5, lambda _: None) == reply()


async def test_a_flight_has_not_run_out_of_time_because_who_started_it_was_in_haste() -> None:
    held = Held(ProviderTimeoutError("late"))
    judge = FakeProvider(held, reply())
    harness = Harness({ANTHROPIC: judge})
    asked = [asyncio.create_task(harness.compare(query(timeout_s=timeout_s))) for timeout_s in (20.0, None)]
    await settle()
    harness.clock.advance(20.0)
    held.go.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ProviderTimeoutError] * 2
    assert len(judge.requests) == 1


async def test_who_joined_a_flight_that_ran_out_of_time_asks_another_candidate_if_there_is_one() -> None:
    first, other = Held(ProviderTimeoutError("late")), FakeProvider(OPENAI_REPLY)
    harness = Harness({ANTHROPIC: FakeProvider(first), OPENAI: other})
    assert (await joined_late(harness, first)).reply == OPENAI_REPLY


async def test_who_leaves_a_flight_under_way_with_no_time_for_an_attempt_starts_no_other() -> None:
    hanging, other = Held(reply()), FakeProvider(OPENAI_REPLY)
    harness = Harness({ANTHROPIC: FakeProvider(hanging), OPENAI: other})
    with pytest.raises(DeadlineExceededError) as late:
        await harness.compare(query(timeout_s=0.001))
    assert late.value.provider is ANTHROPIC
    assert other.requests == []
    await hanging.goes_on()


@pytest.mark.parametrize(("left_s", "asked"), [(SHORTEST_ATTEMPT_S / 2, 0), (SHORTEST_ATTEMPT_S + LANDING_S, 1)])
async def test_after_a_flight_that_took_the_time_another_is_started_only_with_time_for_an_attempt(
    left_s: float, asked: int
) -> None:
    async def late(_: ProviderRequest) -> ProviderReply:
        harness.clock.advance(55.0 - left_s)
        raise ProviderTimeoutError("late")

    other = FakeProvider(AttemptCutShortError("no answer"))
    harness = Harness({ANTHROPIC: FakeProvider(late), OPENAI: other})
    with pytest.raises(ServiceError):
        await harness.compare(query())
    assert len(other.requests) == asked


async def test_after_a_flight_that_failed_early_another_is_started_with_however_little_time() -> None:
    judges = {ANTHROPIC: FakeProvider(ProviderUnavailableError("down")), OPENAI: FakeProvider(OPENAI_REPLY)}
    assert (await Harness(judges, request_timeout_s=SHORTEST_ATTEMPT_S / 2).compare(query())).reply == OPENAI_REPLY


def after(
    seconds: float, outcome: ProviderReply | BaseException
) -> Callable[[ProviderRequest], Awaitable[ProviderReply]]:
    """A step of a script that takes so long on the loop's time."""

    async def step(_: ProviderRequest) -> ProviderReply:
        await asyncio.sleep(seconds)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return step


def timed(*outcomes: Any, **changes: Any) -> Harness:
    """Anthropic, OpenAI and Google, asked in this order, on the loop's time.

    Who waits for 10 s asks the second one after 5 s, and the third one, if there is one, after 7.5 s.
    """
    return in_turn(*outcomes, clock=LoopClock(), **changes)


@pytest.mark.parametrize(
    ("use", "outcome"), [(CacheUse.NORMAL, CacheOutcome.MISS), (CacheUse.BYPASS, CacheOutcome.BYPASS)]
)
@in_virtual_time
async def test_a_verdict_that_takes_longer_than_its_turn_answers_if_no_other_candidate_does(
    use: CacheUse, outcome: CacheOutcome
) -> None:
    harness = timed(after(7.0, reply()), ProviderUnavailableError("down"))
    result = await harness.compare(query(timeout_s=10.0, cache_use=use))
    assert (result.reply.provider, result.cache_outcome) == (ANTHROPIC, outcome)
    assert [attempt.provider for attempt in result.attempts] == [OPENAI, ANTHROPIC]
    assert result.timings.upstream_s == sum(attempt.duration_s for attempt in result.attempts) == 7.0
    assert result.cost_usd == harness.completed().cost_estimate == 0.25
    assert len(harness.events.of(CostTracked)) == 1


@in_virtual_time
async def test_who_joined_a_flight_that_takes_longer_than_its_turn_is_answered_by_it_at_no_cost() -> None:
    harness = timed(after(7.0, reply()), ProviderUnavailableError("down"))
    buyer = await begun(harness.compare(query()))
    joined = await harness.compare(query(timeout_s=10.0))
    assert (joined.reply.provider, joined.cache_outcome, joined.cost_usd) == (ANTHROPIC, CacheOutcome.COALESCED, 0.0)
    assert (await buyer).cost_usd == 0.25


@in_virtual_time
async def test_a_late_verdict_that_came_while_the_loop_stood_still_is_told() -> None:
    async def asked(_: ProviderRequest) -> ProviderReply:
        await asyncio.sleep(7.0)
        await arriving_during_a_stall(3600.0)
        return reply()

    harness = timed(asked, ProviderUnavailableError("down"))
    assert (await harness.compare(query(timeout_s=10.0))).reply.provider == ANTHROPIC


@in_virtual_time
async def test_a_flight_left_under_way_that_fails_prolongs_nobody_s_turn() -> None:
    harness = timed(after(6.0, ProviderUnavailableError("down")), after(60.0, OPENAI_REPLY), after(1.0, reply()))
    assert (await harness.compare(query(timeout_s=10.0))).timings.total_s == 8.5


@in_virtual_time
async def test_of_two_flights_left_under_way_the_first_to_land_answers() -> None:
    harness = timed(after(9.0, reply()), after(3.0, OPENAI_REPLY), ProviderUnavailableError("down"))  # at 9 s and 8 s
    result = await harness.compare(query(timeout_s=10.0))
    assert (result.reply, result.fallback_used, result.timings.total_s) == (OPENAI_REPLY, True, 8.0)


@in_virtual_time
async def test_of_two_flights_left_under_way_that_land_at_once_that_of_the_better_candidate_answers() -> None:
    harness = timed(after(9.0, reply()), after(4.0, OPENAI_REPLY), after(60.0, reply()))  # two of them at 9 s
    result = await harness.compare(query(timeout_s=10.0))
    assert (result.reply, result.fallback_used, result.cost_usd) == (reply(), False, 0.75)


@in_virtual_time
async def test_a_late_verdict_is_told_while_another_candidate_is_asked() -> None:
    harness = timed(after(7.0, reply()), after(60.0, OPENAI_REPLY))
    result = await harness.compare(query(timeout_s=10.0))
    assert (result.reply, result.fallback_used, result.cost_usd) == (reply(), False, 0.25)
    assert result.timings.total_s == 7.0
    await asyncio.sleep(60.0)
    assert [told.provider for told in harness.events.of(CostTracked)] == [ANTHROPIC, OPENAI]


@in_virtual_time
async def test_after_a_verdict_that_came_during_the_next_look_up_nobody_else_is_asked() -> None:
    async def look_up(key: str) -> CachedReply | None:
        await asyncio.sleep(2.0)  # which leaves 8 s, of which the first one's turn takes 4 s
        return await find(key)

    other = FakeProvider()
    harness = Harness({ANTHROPIC: FakeProvider(after(5.0, reply())), OPENAI: other}, clock=LoopClock())
    find = harness.cache.get
    with patch.object(harness.cache, "get", look_up):
        harness.rebuild()
    result = await harness.compare(query(timeout_s=10.0))
    assert (result.reply, result.fallback_used, result.cost_usd) == (reply(), False, 0.25)
    assert other.requests == []


@pytest.mark.parametrize("end", [ProviderUnavailableError("late"), asyncio.CancelledError()])
@in_virtual_time
async def test_a_flight_left_under_way_that_fails_ends_no_other_candidates_turn(end: BaseException) -> None:
    result = await timed(after(7.0, end), after(4.0, OPENAI_REPLY)).compare(query(timeout_s=10.0))
    assert (result.reply, result.timings.total_s) == (OPENAI_REPLY, 9.0)


def charged() -> BrokenReplyError:
    """A failure that costs an eighth of a dollar."""
    return BrokenReplyError("cut off", purchase=replace(reply().purchase, cost_usd=0.125))


@in_virtual_time
async def test_what_a_flight_left_under_way_was_charged_is_told_even_if_it_fails() -> None:
    harness = timed(after(7.0, charged()), after(4.0, OPENAI_REPLY))
    result = await harness.compare(query(timeout_s=10.0))
    assert [attempt.provider for attempt in result.attempts] == [ANTHROPIC, OPENAI]
    assert result.cost_usd == harness.completed().cost_estimate == 0.625
    assert [told.cost_estimate_usd for told in harness.events.of(CostTracked)] == [0.125, 0.5]


@pytest.mark.parametrize(("outcome", "cost_usd"), [(reply(), 0.25), (charged(), 0.125)])
@in_virtual_time
async def test_what_two_flights_that_land_at_once_were_charged_is_told_together(
    outcome: ProviderReply | BrokenReplyError, cost_usd: float
) -> None:
    harness = timed(after(9.0, outcome), after(4.0, OPENAI_REPLY))  # both at 9 s
    result = await harness.compare(query(timeout_s=10.0))
    assert (result.reply, result.cost_usd) == (OPENAI_REPLY, 0.5 + cost_usd)
    assert harness.completed().cost_estimate == 0.5 + cost_usd


@in_virtual_time
async def test_what_a_flight_left_under_way_has_been_charged_is_told_although_it_goes_on() -> None:
    async def asked_twice(request: ProviderRequest) -> ProviderReply:
        with suppress(BrokenReplyError):
            await harness.metered(FakeProvider(after(7.0, charged()))).generate_comparison(request)
        return await after(60.0, reply())(request)

    harness = timed(asked_twice, after(4.0, OPENAI_REPLY))
    result = await harness.compare(query(timeout_s=10.0))
    assert [attempt.provider for attempt in result.attempts] == [OPENAI, ANTHROPIC]
    assert result.timings.upstream_s == sum(attempt.duration_s for attempt in result.attempts) == 11.0
    assert result.cost_usd == harness.completed().cost_estimate == 0.625
    assert [told.cost_estimate_usd for told in harness.events.of(CostTracked)] == [0.125, 0.5]
    await asyncio.sleep(60.0)
    assert [told.cost_estimate_usd for told in harness.events.of(CostTracked)] == [0.125, 0.5, 0.25]


@in_virtual_time
async def test_what_a_flight_was_charged_before_it_was_left_is_told_once() -> None:
    async def asked_twice(request: ProviderRequest) -> ProviderReply:
        with suppress(BrokenReplyError):
            await harness.metered(FakeProvider(after(3.0, charged()))).generate_comparison(request)
        return await after(4.0, reply())(request)

    harness = timed(asked_twice, ProviderUnavailableError("down"))
    result = await harness.compare(query(timeout_s=10.0))
    assert [attempt.provider for attempt in result.attempts] == [ANTHROPIC, OPENAI, ANTHROPIC]
    assert result.timings.upstream_s == sum(attempt.duration_s for attempt in result.attempts) == 10.0
    assert result.cost_usd == harness.completed().cost_estimate == 0.375


@in_virtual_time
async def test_a_flight_left_under_way_that_fails_leaves_the_failure_of_the_last_one_asked() -> None:
    harness = timed(after(7.0, ProviderUnavailableError("late")), ProviderUnavailableError("down"))
    with pytest.raises(ProviderUnavailableError, match="down"):
        await harness.compare(query(timeout_s=10.0))


@in_virtual_time
async def test_who_leaves_a_flight_under_way_with_no_time_for_an_attempt_joins_that_of_another() -> None:
    harness = timed(after(60.0, reply()), after(0.8, OPENAI_REPLY))
    buyer = await begun(harness.compare(query(provider=OPENAI)))
    hasty = await harness.compare(query(timeout_s=0.9))
    assert (hasty.reply, hasty.coalesced) == (OPENAI_REPLY, True)
    await buyer


async def test_one_failed_flight_is_told_once_however_many_wait_for_it() -> None:
    held = Held(ProviderUnavailableError("overloaded"))
    harness = harness_of(held)
    tasks = [asyncio.create_task(harness.compare(query())) for _ in range(10)]
    await held.reached.wait()
    await settle()
    held.go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, ProviderUnavailableError) for outcome in outcomes)
    assert len(harness.events.of(ProviderFailed)) == 1
    assert len(harness.events.of(RequestCompleted)) == 10


async def test_a_candidate_that_fails_after_its_caller_left_is_still_told() -> None:
    held = Held(ProviderUnavailableError("overloaded"))
    harness = harness_of(held)
    task = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    task.cancel()
    await settle()
    await held.goes_on()
    assert len(harness.events.of(ProviderFailed)) == len(harness.events.of(RequestCompleted)) == 1


async def test_a_caller_who_leaves_is_completed_once_and_the_purchase_is_kept() -> None:
    held = Held(reply())
    harness = harness_of(held)
    task = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    harness.clock.advance(2.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    completed = harness.completed()
    assert (completed.success, completed.error_message, completed.cost_estimate) == (False, UNFINISHED, 0.0)
    assert completed.response_time_ms == 2000
    await held.goes_on()
    assert len(harness.events.of(CostTracked)) == 1
    assert len(harness.events.of(RequestCompleted)) == 1
    assert (await harness.compare(query())).cache_outcome is CacheOutcome.HIT


async def test_what_was_bought_for_a_caller_who_leaves_is_told_by_the_purchases_alone() -> None:
    useless = Purchase(model=KNOWN_MODEL, usage=Usage(prompt=100, completion=20), cost_usd=0.125)
    declined, held = ContentRefusedError("declined", purchase=useless), Held(OPENAI_REPLY)
    harness = Harness({ANTHROPIC: FakeProvider(declined), OPENAI: FakeProvider(held)})
    task = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    task.cancel()
    await held.goes_on()
    assert task.cancelled()
    assert harness.completed().cost_estimate == 0.0
    assert [event.cost_estimate_usd for event in harness.events.of(CostTracked)] == [0.125, 0.5]


async def test_a_flight_that_the_shutdown_cancels_completes_its_requests() -> None:
    held = Held(reply())
    harness = harness_of(held)
    task = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    for flight in harness.flights.tasks:
        flight.cancel()
    with pytest.raises(ServiceStoppingError):
        await task
    assert harness.completed().error_message == ServiceStoppingError.sentence


@pytest.mark.parametrize(
    ("use", "cache_enabled", "is_abandoned"),
    [
        (CacheUse.NORMAL, True, False),
        (CacheUse.NORMAL, False, False),  # others may have joined it
        (CacheUse.REFRESH, True, False),
        (CacheUse.REFRESH, False, True),
        (CacheUse.BYPASS, True, True),
    ],
)
async def test_a_purchase_that_serves_nobody_once_its_caller_has_left_is_abandoned(
    use: CacheUse, *, cache_enabled: bool, is_abandoned: bool
) -> None:
    records: list[Record] = []

    async def hang(_: ProviderRequest) -> ProviderReply:
        records.append(current_call().record)
        await asyncio.sleep(3600)
        pytest.fail("nobody waits so long")

    harness = harness_of(hang, cache_enabled=cache_enabled)
    task = await begun(harness.compare(query(cache_use=use)))
    assert [record.is_abandoned for record in records] == [False]
    task.cancel()
    await settle()
    assert [record.is_abandoned for record in records] == [is_abandoned]
    for flight in harness.flights.tasks:
        flight.cancel()
    await settle()


@in_virtual_time
async def test_a_purchase_left_for_the_next_candidate_is_abandoned_when_its_request_has_ended() -> None:
    records: list[Record] = []

    async def asked(request: ProviderRequest) -> ProviderReply:
        records.append(current_call().record)
        return await after(60.0, reply())(request)

    harness = timed(asked, after(3.0, OPENAI_REPLY), cache_enabled=False)
    asking = asyncio.create_task(harness.compare(query(timeout_s=10.0, cache_use=CacheUse.BYPASS)))
    await asyncio.sleep(7.0)
    assert [record.is_abandoned for record in records] == [False]  # its verdict would still be told
    await asking
    assert [record.is_abandoned for record in records] == [True]


async def test_a_callers_own_haste_does_not_shorten_what_is_bought_for_him() -> None:
    left: list[float] = []

    async def note(_: ProviderRequest) -> ProviderReply:
        left.append(current_call().deadline.remaining_s())
        return reply()

    await harness_of(note).compare(query(timeout_s=2.0))
    assert left == pytest.approx([55.0 - LANDING_S])


async def test_a_flight_waits_out_a_pause_only_as_long_as_who_started_it_waits_for_this_candidate() -> None:
    pauses_s: list[float] = []

    async def note(_: ProviderRequest) -> ProviderReply:
        pauses_s.append(current_call().longest_pause_s())
        raise ProviderUnavailableError("down")

    harness = Harness({ANTHROPIC: FakeProvider(note), OPENAI: FakeProvider(note)})
    with pytest.raises(ProviderUnavailableError):
        await harness.compare(query(timeout_s=10.0))
    assert pauses_s == [5.0 - SHORTEST_ATTEMPT_S, 10.0 - SHORTEST_ATTEMPT_S]


@pytest.mark.parametrize("reading_s", [0.0, 5.0])
async def test_a_flight_ends_before_the_request_that_started_it_gives_up(reading_s: float) -> None:
    """Or the next provider would be paid while the first one's answer may still come."""
    ends_s: list[float] = []

    async def note(_: ProviderRequest) -> ProviderReply:
        ends_s.append(current_call().deadline.expires_at_s)
        raise ProviderTimeoutError("late")

    harness = Harness({ANTHROPIC: FakeProvider(note), OPENAI: FakeProvider(note)})
    began_s = harness.clock() - reading_s
    with pytest.raises(ProviderTimeoutError):
        await harness.compare(query(reading_s=reading_s))
    first_patience_s, whole_s = harness.clock() + (55.0 - reading_s) / 2, began_s + 55.0
    assert ends_s == pytest.approx([first_patience_s - LANDING_S, whole_s - LANDING_S])


@pytest.mark.parametrize(("second_takes_s", "first", "cost_usd"), [(4.0, ANTHROPIC, 0.25), (1.0, OPENAI, 0.5)])
@in_virtual_time
async def test_what_two_flights_of_one_request_buy_is_told_once_each(
    second_takes_s: float, first: ProviderName, cost_usd: float
) -> None:
    harness = timed(after(7.0, reply()), after(second_takes_s, OPENAI_REPLY))  # at 7 s, and at 9 s or 6 s
    result = await harness.compare(query(timeout_s=10.0))
    await asyncio.sleep(10.0)  # until both have landed
    assert [attempt.provider for attempt in result.attempts] == [first]
    assert result.cost_usd == harness.completed().cost_estimate == cost_usd
    told = {event.provider: event.cost_estimate_usd for event in harness.events.of(CostTracked)}
    assert (len(harness.events.of(CostTracked)), told) == (2, {ANTHROPIC: 0.25, OPENAI: 0.5})
    assert sample(harness.metrics, "llm_provider_caller_cost_dollars_total", caller=query().caller) == 0.75
