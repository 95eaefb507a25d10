"""One request from the query to the events, around judges that play a script."""

import asyncio
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest

from api_models import (
    AttemptOutcome,
    CacheHit,
    CacheMiss,
    CacheOutcome,
    CircuitState,
    CostTracked,
    ErrorCode,
    ProcessingEvent,
    ProviderFailed,
    ProviderName,
    Purchase,
    RequestCompleted,
    RequestEventData,
    RequestStarted,
    TemperatureUse,
    Usage,
)
from config import MEMORY_OF_BODY, MIB, ServiceSettings
from exceptions import (
    AttemptCutShortError,
    BrokenReplyError,
    CircuitOpenError,
    ConnectionLostError,
    ContentRefusedError,
    ContextTooLongError,
    CostLimitExceededError,
    DeadlineExceededError,
    DefectError,
    InvalidReplyError,
    NotCachedError,
    NoUsableProviderError,
    ProviderError,
    ProviderOverloadedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitedError,
    RequestRejectedError,
    ServiceError,
    ServiceOverloadedError,
    ServiceStoppingError,
    ThrottlePausedError,
)
from implementations.accounting.ledger import Ledger
from implementations.answers_impl import LANDING_S, AnswersImpl
from implementations.cache_manager_impl import CacheManagerImpl
from implementations.judging.catalogue import ModelCatalogue
from implementations.judging.prompt import build_prompt
from implementations.llm_orchestrator_impl import COPIES, UNFINISHED, LLMOrchestratorImpl
from implementations.provider_selector_impl import ProviderSelectorImpl
from implementations.request_builder_impl import RequestBuilderImpl
from implementations.resilience.bulkhead import Bulkhead, Slot
from implementations.resilience.call import PATIENCE_S, SHORTEST_ATTEMPT_S, Record, current_call
from implementations.resilience.memory_limit import MemoryLimit
from implementations.resilience.metering import Metered
from implementations.resilience.single_flight import SingleFlight
from implementations.shared_state.generation import Generation
from protocols import (
    CachedReply,
    CacheUse,
    Candidate,
    ComparisonQuery,
    CurrentSettings,
    Judge,
    ModelTraits,
    ProviderReply,
    ProviderRequest,
)
from tests.fakes import (
    CORRELATION_ID,
    KNOWN_MODEL,
    NOON,
    Calendar,
    Clock,
    FakeProvider,
    FixedPrices,
    FixedSettings,
    Held,
    Recorder,
    accounting_of,
    booked_today,
    current_settings,
    guards,
    local_cache,
    middle,
    new_metrics,
    query,
    ranking,
    receipts,
    reply,
    sample,
    settle,
    tolerant_catalogue,
    unlimited,
)

ANTHROPIC, OPENAI = ProviderName.ANTHROPIC, ProviderName.OPENAI
OPENAI_REPLY = reply(provider=OPENAI, model="model-of-openai", cost_usd=0.5)


class Harness:
    """The orchestrator with real neighbours; only the judges, the clocks and the events are fakes."""

    def __init__(
        self, judges: Mapping[ProviderName, FakeProvider], *, catalogue: ModelCatalogue | None = None, **changes: Any
    ) -> None:
        catalogue = catalogue or tolerant_catalogue()
        self.clock = Clock()
        self.metrics = new_metrics()
        self.events = Recorder()
        self.guards = guards(self.metrics, self.clock)
        self.flights = SingleFlight[ProviderReply]()
        self.capacity = Bulkhead(limit=100, queue_limit=100)
        self.cache = CacheManagerImpl(
            local=local_cache(self.clock, size_bytes=1_000_000, max_entries=100),
            shared=None,
            generation=Generation(),
            local_ttl_s=600,
            near_ttl_s=2.0,
            is_alone=True,
            metrics=self.metrics,
            jitter=middle,
        )
        self.ledger = Ledger(now=Calendar())
        self.accounting = accounting = accounting_of(
            FixedPrices(), metrics=self.metrics, now=Calendar(), ledger=self.ledger
        )
        selector = ProviderSelectorImpl(
            judges={
                name: Judge(
                    provider=Metered(fake, budget=unlimited(), accounting=accounting, clock=self.clock),
                    metered=fake,
                    probe=fake,
                )
                for name, fake in judges.items()
            },
            guards=self.guards,
            ranking=ranking(accounting),
            findings={},
            configured=frozenset(judges),
            catalogue=catalogue,
            builder=RequestBuilderImpl(catalogue=catalogue, base_urls={}),
            accounting=accounting,
        )
        self._selector, self._settings = selector, FixedSettings(current_settings(**changes))
        self.rebuild()

    def rebuild(self) -> None:
        """Put the orchestrator together, of the parts as they are now."""
        self.orchestrator = LLMOrchestratorImpl(
            runtime_settings=self._settings,
            selector=self._selector,
            answers=self.answers(),
            capacity=self.capacity,
            events=self.events,
            metrics=self.metrics,
            clock=self.clock,
        )
        self.compare = self.orchestrator.compare

    def answers(self) -> AnswersImpl:
        """What answers from one candidate, of the parts as they are now."""
        return AnswersImpl(
            cache=self.cache,
            look_up=self.cache.get,
            flights=self.flights,
            accounting=self.accounting,
            events=self.events,
            receipts=receipts(self.events, self.metrics),
            clock=self.clock,
        )

    def completed(self) -> RequestCompleted:
        """The one *completed*, which is always the last word about its request."""
        (event,) = self.events.of(RequestCompleted)
        return event


def harness_of(*script: Any, **changes: Any) -> Harness:
    """With one provider, which plays this script."""
    return Harness({ANTHROPIC: FakeProvider(*script)}, **changes)


async def test_a_bought_answer_is_told_in_order_and_completed_once() -> None:
    async def slowly(_: ProviderRequest) -> ProviderReply:
        harness.clock.advance(2.0)
        return reply()

    harness = harness_of(slowly)
    result = await harness.compare(query())
    assert harness.events.names == [
        ProcessingEvent.LLM_REQUEST_STARTED,
        ProcessingEvent.LLM_CACHE_MISS,
        ProcessingEvent.LLM_COST_TRACKING,
        ProcessingEvent.LLM_REQUEST_COMPLETED,
    ]
    assert (result.reply, result.cost_usd, result.cache_outcome) == (reply(), 0.25, CacheOutcome.MISS)
    assert (result.age_s, result.fallback_used, result.cached, result.coalesced) == (None, False, False, False)
    assert (result.timings.total_s, result.timings.upstream_s) == (2.0, 2.0)
    assert [attempt.outcome for attempt in result.attempts] == [AttemptOutcome.SUCCESS]
    labels = {"provider": "anthropic", "model": KNOWN_MODEL}
    assert sample(harness.metrics, "llm_provider_response_duration_seconds_sum", **labels, cached="false") == 2.0
    labels |= {"request_type": "comparison", "status": "success"}
    assert sample(harness.metrics, "llm_provider_requests_total", **labels) == 1
    for event in harness.events.of(RequestEventData):
        assert (event.correlation_id, event.metadata) == (CORRELATION_ID, {"batch": "b-1"})


async def test_the_events_of_a_purchase_say_what_was_bought() -> None:
    harness = harness_of(reply())
    result = await harness.compare(query())
    (started,), (tracked,), completed = (
        harness.events.of(RequestStarted),
        harness.events.of(CostTracked),
        harness.completed(),
    )
    assert (started.provider, started.request_type, started.user_id) == (None, "comparison", "teacher-7")
    assert (tracked.provider, tracked.cost_estimate_usd, tracked.cached) == (ANTHROPIC, 0.25, False)
    assert (tracked.service_name, tracked.request_timestamp) == ("service-under-test", NOON)
    assert tracked.prompt_sha256 == build_prompt(query()).sha256
    assert completed.prompt_sha256 == result.reply.prompt_sha256
    assert (completed.success, completed.cost_estimate, completed.cached) == (True, 0.25, False)
    assert completed.error_message is None
    assert result.prompt_version == build_prompt(query()).version
    assert completed.token_usage == reply().purchase.usage.as_token_usage()


async def test_a_known_answer_is_free_and_tells_its_age_and_what_it_saved() -> None:
    harness = harness_of(reply())
    await harness.compare(query())
    harness.clock.advance(60)
    harness.events.events.clear()
    result = await harness.compare(query(correlation_id=CORRELATION_ID))
    assert (result.cache_outcome, result.age_s, result.cost_usd, result.attempts) == (CacheOutcome.HIT, 60, 0.0, ())
    assert result.reply.purchase.usage == reply().purchase.usage
    assert harness.events.names == [
        ProcessingEvent.LLM_REQUEST_STARTED,
        ProcessingEvent.LLM_CACHE_HIT,
        ProcessingEvent.LLM_REQUEST_COMPLETED,
    ]
    assert harness.events.of(CacheHit)[0].cache_key
    booked = booked_today(harness.ledger, ANTHROPIC)
    assert (booked.requests, booked.cache_hits, booked.cost_micro_usd, booked.saved_micro_usd) == (
        1,
        1,
        250_000,
        250_000,
    )
    assert (harness.completed().cached, harness.completed().cost_estimate) == (True, 0.0)


async def test_a_known_answer_is_given_to_whoever_asks_the_same_question() -> None:
    harness = harness_of(reply())
    await harness.compare(query())
    of_another = query(user_id="teacher-8", caller="another", correlation_id=UUID(int=8), metadata={"batch": "b-2"})
    assert (await harness.compare(of_another)).cache_outcome is CacheOutcome.HIT


async def test_another_replicate_of_the_question_is_bought_anew() -> None:
    harness = harness_of(reply(), reply())
    await harness.compare(query())
    assert (await harness.compare(query(replicate=1))).cache_outcome is CacheOutcome.MISS


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


async def test_who_joined_a_flight_that_ran_out_of_time_starts_the_next_if_no_other_candidate_may_be_asked() -> None:
    first, other = Held(ProviderTimeoutError("late")), FakeProvider()
    harness = Harness({ANTHROPIC: FakeProvider(first, reply()), OPENAI: other})
    harness.guards[OPENAI].circuit.force(CircuitState.OPEN, reason="maintenance", actor="an operator")
    starter = asyncio.create_task(harness.compare(query(provider=ANTHROPIC)))
    await first.reached.wait()
    harness.clock.advance(50.0)
    late = asyncio.create_task(harness.compare(query()))
    await settle()
    harness.clock.advance(4.5)
    first.go.set()
    with pytest.raises(ProviderTimeoutError):
        await starter
    assert (await late).reply == reply()
    assert other.requests == []


async def test_who_joined_a_flight_that_ran_out_of_time_buys_nothing_with_too_little_time_of_his_own() -> None:
    first = Held(ProviderTimeoutError("late"))
    judge = FakeProvider(first, reply())
    harness = Harness({ANTHROPIC: judge})
    starter = asyncio.create_task(harness.compare(query()))
    await first.reached.wait()
    harness.clock.advance(50.0)
    hasty = asyncio.create_task(harness.compare(query(timeout_s=4.5 + SHORTEST_ATTEMPT_S / 2)))
    await settle()
    harness.clock.advance(4.5)
    first.go.set()
    outcomes = await asyncio.gather(starter, hasty, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ProviderTimeoutError] * 2
    assert len(judge.requests) == 1


async def test_who_joined_a_flight_that_failed_with_time_left_fails_with_it() -> None:
    held = Held(ProviderTimeoutError("late"))
    harness = harness_of(held)
    asked = [asyncio.create_task(harness.compare(query())) for _ in range(3)]
    await held.reached.wait()
    await settle()
    held.go.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ProviderTimeoutError] * 3


PAUSES = (RateLimitedError, ProviderOverloadedError, ThrottlePausedError)


async def beside_one_who_may_ask_others(failure: ServiceError) -> tuple[ProviderReply | BaseException, int]:
    """What a caller who named the provider gets of the same flight's failure, and how often it was asked."""
    held = Held(failure)
    pinned = FakeProvider(held, reply())
    harness = Harness({ANTHROPIC: pinned, OPENAI: FakeProvider(OPENAI_REPLY)})
    free = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    bound = asyncio.create_task(harness.compare(query(provider=ANTHROPIC)))
    await settle()
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
    starter = asyncio.create_task(harness.compare(query(provider=ANTHROPIC)))
    await first.reached.wait()
    harness.clock.advance(50.0)
    late = asyncio.create_task(harness.compare(query()))
    await settle()
    harness.clock.advance(4.5)
    first.go.set()
    with pytest.raises(ProviderTimeoutError):
        await starter
    assert (await late).reply == OPENAI_REPLY


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


@pytest.mark.parametrize("failure", [ProviderUnavailableError("overloaded"), ProviderTimeoutError("late")])
async def test_a_failure_that_asks_for_it_is_answered_by_the_next_provider(failure: ServiceError) -> None:
    harness = Harness({ANTHROPIC: FakeProvider(failure), OPENAI: FakeProvider(OPENAI_REPLY)})
    result = await harness.compare(query())
    assert (result.reply.provider, result.fallback_used) == (OPENAI, True)
    assert [attempt.provider for attempt in result.attempts] == [ANTHROPIC, OPENAI]
    assert harness.events.names == [
        ProcessingEvent.LLM_REQUEST_STARTED,
        ProcessingEvent.LLM_CACHE_MISS,
        ProcessingEvent.LLM_PROVIDER_FAILURE,
        ProcessingEvent.LLM_CACHE_MISS,
        ProcessingEvent.LLM_COST_TRACKING,
        ProcessingEvent.LLM_REQUEST_COMPLETED,
    ]
    assert [event.provider for event in harness.events.of(CacheMiss)] == [ANTHROPIC, OPENAI]


async def test_a_failure_that_another_provider_cannot_mend_ends_the_request() -> None:
    failure = NoUsableProviderError("asked without settings", provider=ANTHROPIC)
    second = FakeProvider(OPENAI_REPLY)
    harness = Harness({ANTHROPIC: FakeProvider(failure), OPENAI: second})
    with pytest.raises(NoUsableProviderError) as passed:
        await harness.compare(query())
    assert passed.value is failure
    assert second.requests == []


async def test_our_own_limit_is_told_as_no_failure_of_a_provider() -> None:
    harness = Harness({name: FakeProvider(CostLimitExceededError("nothing is left")) for name in (ANTHROPIC, OPENAI)})
    with pytest.raises(CostLimitExceededError):
        await harness.compare(query())
    assert harness.events.of(ProviderFailed) == []
    assert harness.completed().success is False


async def test_what_is_too_dear_here_may_be_free_elsewhere() -> None:
    harness = Harness(
        {ANTHROPIC: FakeProvider(CostLimitExceededError("nothing is left")), OPENAI: FakeProvider(OPENAI_REPLY)}
    )
    assert (await harness.compare(query())).reply == OPENAI_REPLY


async def test_what_is_too_dear_afterwards_does_not_hide_who_really_failed() -> None:
    failed = ProviderUnavailableError("overloaded")
    harness = Harness(
        {ANTHROPIC: FakeProvider(failed), OPENAI: FakeProvider(CostLimitExceededError("nobody knows what it costs"))}
    )
    with pytest.raises(ProviderUnavailableError) as told:
        await harness.compare(query())
    assert told.value is failed


async def test_what_a_wait_may_mend_is_told_before_a_limit_of_ours() -> None:
    crowded = ServiceOverloadedError("too many wait already", retry_after_s=1.0)
    harness = Harness(
        {ANTHROPIC: FakeProvider(crowded), OPENAI: FakeProvider(CostLimitExceededError("nothing is left"))}
    )
    with pytest.raises(ServiceOverloadedError) as told:
        await harness.compare(query())
    assert told.value is crowded


async def test_a_failure_says_what_was_tried_before_it() -> None:
    harness = Harness({name: FakeProvider(ProviderUnavailableError("overloaded")) for name in (ANTHROPIC, OPENAI)})
    with pytest.raises(ProviderUnavailableError) as told:
        await harness.compare(query())
    assert told.value.attempts == ["anthropic: unavailable after 0 ms", "openai: unavailable after 0 ms"]


async def test_a_pinned_provider_is_never_silently_replaced() -> None:
    second = FakeProvider(OPENAI_REPLY)
    harness = Harness({ANTHROPIC: FakeProvider(ProviderUnavailableError("overloaded")), OPENAI: second})
    with pytest.raises(ProviderUnavailableError):
        await harness.compare(query(provider=ANTHROPIC))
    assert second.requests == []
    assert not harness.completed().success
    assert harness.completed().provider is ANTHROPIC


async def test_a_pinned_provider_is_replaced_when_the_caller_allows_it() -> None:
    harness = Harness(
        {ANTHROPIC: FakeProvider(ProviderUnavailableError("overloaded")), OPENAI: FakeProvider(OPENAI_REPLY)}
    )
    result = await harness.compare(query(provider=ANTHROPIC, allow_fallback=True))
    assert (result.reply.provider, result.fallback_used) == (OPENAI, True)


async def test_when_everybody_fails_the_error_is_that_of_the_last_one_asked() -> None:
    last = ProviderTimeoutError("late", provider=OPENAI)
    harness = Harness(
        {ANTHROPIC: FakeProvider(ProviderUnavailableError("overloaded")), OPENAI: FakeProvider(last)},
    )
    with pytest.raises(ProviderTimeoutError) as passed:
        await harness.compare(query())
    assert passed.value is last
    failed = harness.events.of(ProviderFailed)
    assert [(event.provider, event.failure_type) for event in failed] == [
        (ANTHROPIC, ErrorCode.EXTERNAL_SERVICE_ERROR),
        (OPENAI, ErrorCode.TIMEOUT),
    ]
    assert harness.completed().error_message == last.sentence
    labels = {"provider": "openai", "model": "none", "request_type": "comparison", "status": "timeout"}
    assert sample(harness.metrics, "llm_provider_requests_total", **labels) == 1


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
    held.go.set()
    await settle()
    assert len(harness.events.of(ProviderFailed)) == len(harness.events.of(RequestCompleted)) == 1


async def test_nobody_usable_is_completed_too() -> None:
    harness = Harness({})
    with pytest.raises(NoUsableProviderError):
        await harness.compare(query())
    assert harness.events.names == [ProcessingEvent.LLM_REQUEST_STARTED, ProcessingEvent.LLM_REQUEST_COMPLETED]
    assert not harness.completed().success


async def test_a_passed_deadline_ends_the_request_while_the_purchase_goes_on_and_is_kept() -> None:
    held = Held(reply())
    harness = harness_of(held)
    with pytest.raises(DeadlineExceededError) as late:
        await harness.compare(query(timeout_s=0.001))
    assert late.value.provider is ANTHROPIC
    assert harness.completed().error_message == DeadlineExceededError.sentence
    await held.reached.wait()
    held.go.set()
    await settle()
    assert len(harness.events.of(CostTracked)) == 1
    assert (await harness.compare(query())).cache_outcome is CacheOutcome.HIT
    assert harness.flights.tasks == frozenset()


async def test_a_candidate_that_was_not_asked_for_lack_of_time_does_not_hide_the_failure_of_the_one_before() -> None:
    async def exhausted(_: ProviderRequest) -> ProviderReply:
        harness.clock.advance(60.0)
        raise ProviderUnavailableError("overloaded")

    second = FakeProvider()
    harness = Harness({ANTHROPIC: FakeProvider(exhausted), OPENAI: second})
    with pytest.raises(ProviderUnavailableError) as failed:
        await harness.compare(query())
    assert failed.value.provider is ANTHROPIC
    assert second.requests == []


async def test_a_callers_wish_never_lengthens_the_request() -> None:
    harness = harness_of(Held(reply()), request_timeout_s=0.1)
    with pytest.raises(DeadlineExceededError):
        await harness.compare(query(timeout_s=9999.0))
    for flight in harness.flights.tasks:
        flight.cancel()
    await settle()


async def test_the_time_of_a_request_begins_with_its_first_byte() -> None:
    judge = FakeProvider(reply())
    harness = Harness({ANTHROPIC: judge}, request_timeout_s=55.0)
    with pytest.raises(DeadlineExceededError):
        await harness.compare(query(reading_s=55.0))
    assert judge.requests == [], "nothing is bought for a request whose time is over"
    assert harness.completed().response_time_ms == 55_000
    result = await harness.compare(query(reading_s=15.0))
    assert result.timings.total_s == 15.0


async def test_a_callers_own_time_begins_with_the_first_byte_too() -> None:
    judge = FakeProvider()
    harness = Harness({ANTHROPIC: judge})
    with pytest.raises(DeadlineExceededError):
        await harness.compare(query(reading_s=2.0, timeout_s=2.0))
    assert judge.requests == []


async def test_a_known_answer_is_given_to_who_has_no_time_left() -> None:
    harness = harness_of(reply())
    await harness.compare(query())
    assert (await harness.compare(query(reading_s=99.0))).cache_outcome is CacheOutcome.HIT


async def test_a_defect_of_the_counting_is_completed_once() -> None:
    harness = harness_of(reply())
    with (
        patch.object(harness.metrics, "comparison_answered", side_effect=ZeroDivisionError),
        pytest.raises(ZeroDivisionError),
    ):
        await harness.compare(query())
    assert not harness.completed().success


async def test_a_caller_who_leaves_is_completed_once_and_the_purchase_is_kept() -> None:
    held = Held(reply())
    harness = harness_of(held)
    task = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    completed = harness.completed()
    assert (completed.success, completed.error_message, completed.cost_estimate) == (False, UNFINISHED, 0.0)
    held.go.set()
    await settle()
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
    held.go.set()
    await settle()
    assert task.cancelled()
    assert harness.completed().cost_estimate == 0.0
    assert [event.cost_estimate_usd for event in harness.events.of(CostTracked)] == [0.125, 0.5]


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
        await harness.compare(query(cache_use=CacheUse.ONLY))
    assert harness.events.of(CostTracked) == []
    assert not harness.completed().success
    await harness.compare(query())
    assert (await harness.compare(query(cache_use=CacheUse.ONLY))).cache_outcome is CacheOutcome.HIT


async def test_only_if_cached_finds_the_answer_of_a_later_candidate() -> None:
    harness = Harness(
        {ANTHROPIC: FakeProvider(CircuitOpenError("open", retry_after_s=3.0)), OPENAI: FakeProvider(OPENAI_REPLY)}
    )
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


async def test_a_defect_is_completed_as_one_and_its_text_stays_inside() -> None:
    harness = harness_of(ValueError("the essay says so"))
    with pytest.raises(ValueError, match="the essay says so"):
        await harness.compare(query())
    completed = harness.completed()
    assert (completed.success, completed.error_message) == (False, DefectError.sentence)
    assert harness.events.of(ProviderFailed) == []
    labels = {"provider": "none", "model": "none", "request_type": "comparison", "status": "unknown_error"}
    assert sample(harness.metrics, "llm_provider_requests_total", **labels) == 1


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


async def test_an_answer_of_unknown_price_costs_nothing_known() -> None:
    harness = harness_of(reply(cost_usd=None))
    result = await harness.compare(query())
    assert result.cost_usd is None
    assert harness.completed().cost_estimate is None
    assert harness.events.of(CostTracked)[0].cost_estimate_usd is None


async def test_a_selector_that_breaks_its_promise_is_a_defect() -> None:
    class Empty:
        def candidates(self, query: ComparisonQuery, settings: CurrentSettings) -> list[Candidate]:
            return []

        def statuses(self, settings: CurrentSettings) -> list[Any]:
            return []

        def status(self, *_: Any) -> Any:
            pytest.fail("nobody asks for a status here")

    harness = harness_of()
    orchestrator = LLMOrchestratorImpl(
        runtime_settings=FixedSettings(current_settings()),
        selector=Empty(),
        answers=harness.answers(),
        capacity=harness.capacity,
        events=harness.events,
        metrics=harness.metrics,
        clock=harness.clock,
    )
    with pytest.raises(DefectError):
        await orchestrator.compare(query())


async def test_while_another_candidate_waits_one_gets_half_of_the_time() -> None:
    left: dict[ProviderName, float] = {}

    async def note(asked: ProviderRequest) -> ProviderReply:
        left[asked.provider] = current_call().deadline.remaining_s()
        harness.clock.advance(5.0)
        raise ProviderUnavailableError("down")

    harness = Harness({name: FakeProvider(note) for name in (ANTHROPIC, OPENAI, ProviderName.GOOGLE)})
    with pytest.raises(ProviderUnavailableError):
        await harness.compare(query())
    usual = {ANTHROPIC: 27.5, OPENAI: 25.0, ProviderName.GOOGLE: 45.0}
    assert left == pytest.approx({name: left_s - LANDING_S for name, left_s in usual.items()})


async def test_a_candidate_is_waited_for_with_half_of_the_callers_own_time_while_another_waits() -> None:
    """The purchase goes on for longer: the caller would get no answer if the first one hung."""
    harness = Harness({name: FakeProvider(ProviderUnavailableError("down")) for name in (ANTHROPIC, OPENAI)})
    patience_s: list[float] = []
    join = harness.flights.join

    async def noted(*flight: Any, within_s: float, **more: Any) -> tuple[ProviderReply, bool]:
        patience_s.append(within_s)
        return await join(*flight, within_s=within_s, **more)

    with patch.object(harness.flights, "join", noted), pytest.raises(ProviderUnavailableError):
        await harness.compare(query(timeout_s=10.0))
    assert patience_s == [5.0, 10.0]


@pytest.mark.parametrize(
    ("circuit", "opens_in_s", "pause_s", "left_s"),
    [
        (CircuitState.OPEN, None, 0.0, 55.0 - PATIENCE_S),
        (CircuitState.OPEN, 28.0, 0.0, 55.0 - PATIENCE_S),
        (CircuitState.OPEN, 27.0, 0.0, 27.5),
        (CircuitState.CLOSED, None, 0.0, 27.5),
        (CircuitState.CLOSED, None, 54.5, 55.0 - PATIENCE_S),
        (CircuitState.CLOSED, None, 54.0, 27.5),
    ],
)
async def test_to_those_that_would_turn_the_question_away_a_candidate_leaves_the_time_of_a_look_up(
    circuit: CircuitState, opens_in_s: float | None, pause_s: float, left_s: float
) -> None:
    left: dict[ProviderName, float] = {}

    async def note(asked: ProviderRequest) -> ProviderReply:
        left[asked.provider] = current_call().deadline.remaining_s()
        return reply()

    harness = Harness({name: FakeProvider(note) for name in (ANTHROPIC, OPENAI, ProviderName.GOOGLE)})
    for name in (OPENAI, ProviderName.GOOGLE):
        harness.guards[name].circuit.force(circuit, reason="maintenance", actor="an operator", for_s=opens_in_s)
        harness.guards[name].gate.pause(pause_s)
    await harness.compare(query())
    assert left == pytest.approx({ANTHROPIC: left_s - LANDING_S})


async def test_a_circuit_that_is_being_tried_may_let_the_question_pass_when_its_turn_comes() -> None:
    tried = Harness({}).guards[ANTHROPIC]
    tried.circuit.force(CircuitState.OPEN, reason="maintenance", actor="an operator", for_s=0.0)
    tried.circuit.acquire()
    assert (tried.circuit.state, tried.circuit.refusal() is None) == (CircuitState.HALF_OPEN, False)
    assert tried.may_be_asked(1.0)


async def test_a_cached_answer_of_a_candidate_whose_circuit_is_open_is_found_when_the_first_one_hangs() -> None:
    hanging, openai = Held(reply()), FakeProvider(OPENAI_REPLY)
    harness = Harness({ANTHROPIC: FakeProvider(ProviderUnavailableError("down"), hanging), OPENAI: openai})
    await harness.compare(query())
    harness.guards[OPENAI].circuit.force(CircuitState.OPEN, reason="maintenance", actor="an operator")
    answered = await harness.compare(query(timeout_s=0.4))
    assert (answered.reply, answered.cached) == (OPENAI_REPLY, True)
    hanging.go.set()
    await settle()


async def test_the_time_of_all_look_ups_is_told() -> None:
    failing = FakeProvider(ProviderUnavailableError("down"))
    harness = Harness({ANTHROPIC: failing, OPENAI: FakeProvider(OPENAI_REPLY)})
    look_up = harness.cache.get

    async def slowly(key: str) -> CachedReply | None:
        harness.clock.advance(0.25)
        return await look_up(key)

    with patch.object(harness.cache, "get", slowly):
        harness.rebuild()
        timings = (await harness.compare(query())).timings
    assert (timings.cache_s, timings.total_s) == (0.5, 0.5)


async def test_a_provider_that_is_still_being_asked_was_asked() -> None:
    held = Held(reply())
    harness = Harness(
        {ANTHROPIC: FakeProvider(held), OPENAI: FakeProvider(CircuitOpenError("open", retry_after_s=3.0))}
    )
    with pytest.raises(DeadlineExceededError):
        await harness.compare(query(timeout_s=0.05))
    held.go.set()
    await settle()


@pytest.mark.parametrize(
    ("first", "second", "told", "wait_s"),
    [
        (CircuitOpenError("held"), CircuitOpenError("open", retry_after_s=12.0), CircuitOpenError, 12.0),
        (CircuitOpenError("held"), CircuitOpenError("held"), CircuitOpenError, None),
        (CircuitOpenError("held"), ThrottlePausedError("paused", retry_after_s=70.0), CircuitOpenError, 70.0),
        (
            CircuitOpenError("open", retry_after_s=3000.0),
            ThrottlePausedError("paused", retry_after_s=70.0),
            CircuitOpenError,
            70.0,
        ),
        (
            ThrottlePausedError("paused", retry_after_s=60.0),
            ThrottlePausedError("paused", retry_after_s=3000.0),
            ThrottlePausedError,
            60.0,
        ),
    ],
)
async def test_where_nobody_was_asked_the_smallest_wait_is_told(
    first: ServiceError, second: ServiceError, told: type[ServiceError], wait_s: float | None
) -> None:
    harness = Harness({ANTHROPIC: FakeProvider(first), OPENAI: FakeProvider(second)})
    with pytest.raises(told) as caught:
        await harness.compare(query())
    assert caught.value.retry_after_s == wait_s


async def test_the_end_of_a_failed_question_names_the_provider_that_failed() -> None:
    rejected = RequestRejectedError("it answered 400", provider=OPENAI)
    harness = Harness({ANTHROPIC: FakeProvider(ProviderUnavailableError("down")), OPENAI: FakeProvider(rejected)})
    with pytest.raises(RequestRejectedError):
        await harness.compare(query(provider=ANTHROPIC, allow_fallback=True))
    assert harness.completed().provider is OPENAI


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
    task = asyncio.create_task(harness.compare(query(cache_use=use)))
    await settle()
    assert [record.is_abandoned for record in records] == [False]
    task.cancel()
    await settle()
    assert [record.is_abandoned for record in records] == [is_abandoned]
    for flight in harness.flights.tasks:
        flight.cancel()
    await settle()


async def test_a_callers_own_haste_does_not_shorten_what_is_bought_for_him() -> None:
    left: list[float] = []

    async def note(_: ProviderRequest) -> ProviderReply:
        left.append(current_call().deadline.remaining_s())
        return reply()

    await harness_of(note).compare(query(timeout_s=2.0))
    assert left == pytest.approx([55.0 - LANDING_S])


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


async def test_an_attempt_never_has_more_time_than_a_request() -> None:
    usual: list[float] = []

    async def note(_: ProviderRequest) -> ProviderReply:
        usual.append(current_call().deadline.attempt_timeout_s)
        return reply()

    await harness_of(note, request_timeout_s=8.0, attempt_timeout_s=30.0).compare(query())
    assert usual == [8.0], "or a provider that hangs would always count as cut short, and its circuit never open"


@pytest.mark.parametrize(
    ("first", "second", "is_asked"),
    [
        (200, 1000, True),
        (200, 200, False),
        (200, 100, False),
        (200, None, False),
        (None, 100, True),
        (None, None, True),
    ],
)
async def test_a_question_too_long_for_one_window_goes_only_to_a_larger_one(
    first: int | None, second: int | None, *, is_asked: bool
) -> None:
    other = FakeProvider(OPENAI_REPLY)
    windows = {ANTHROPIC: ModelTraits(context_tokens=first), OPENAI: ModelTraits(context_tokens=second)}
    harness = Harness(
        {ANTHROPIC: FakeProvider(ContextTooLongError("it answered 400")), OPENAI: other},
        catalogue=ModelCatalogue({name: {"*": traits} for name, traits in windows.items()}),
    )
    if is_asked:
        assert (await harness.compare(query())).reply == OPENAI_REPLY
    else:
        with pytest.raises(ContextTooLongError):
            await harness.compare(query())
    assert len(other.requests) == is_asked


async def test_an_answer_tells_which_wishes_its_model_could_not_fulfil() -> None:
    stubborn = ModelCatalogue({ANTHROPIC: {"*": ModelTraits(temperature=TemperatureUse.NEVER)}})
    harness = Harness({ANTHROPIC: FakeProvider(reply())}, catalogue=stubborn)
    assert (await harness.compare(query(temperature=0.5))).dropped_parameters == ("temperature_override",)


async def test_a_refusal_asks_one_other_provider_and_a_second_one_is_final() -> None:
    declined = FakeProvider(ContentRefusedError("declined"))
    third = FakeProvider(OPENAI_REPLY)
    harness = Harness(
        {ANTHROPIC: declined, OPENAI: FakeProvider(ContentRefusedError("declined")), ProviderName.GOOGLE: third}
    )
    with pytest.raises(ContentRefusedError):
        await harness.compare(query())
    assert third.requests == []


async def test_after_a_refusal_a_provider_that_is_down_does_not_count_as_the_one_other() -> None:
    google = reply(provider=ProviderName.GOOGLE, model="model-of-google")
    harness = Harness(
        {
            ANTHROPIC: FakeProvider(ContentRefusedError("declined")),
            OPENAI: FakeProvider(ProviderUnavailableError("down")),
            ProviderName.GOOGLE: FakeProvider(google),
        }
    )
    assert (await harness.compare(query())).reply == google


async def test_after_one_that_is_down_a_refusal_still_asks_one_other_provider() -> None:
    google = reply(provider=ProviderName.GOOGLE, model="model-of-google")
    harness = Harness(
        {
            ANTHROPIC: FakeProvider(ProviderUnavailableError("down")),
            OPENAI: FakeProvider(ContentRefusedError("declined")),
            ProviderName.GOOGLE: FakeProvider(google),
        }
    )
    assert (await harness.compare(query())).reply == google


async def test_when_several_failed_the_error_is_that_of_the_last_one_really_asked() -> None:
    harness = Harness(
        {
            ANTHROPIC: FakeProvider(ContentRefusedError("declined")),
            OPENAI: FakeProvider(CircuitOpenError("open", retry_after_s=3.0)),
        }
    )
    with pytest.raises(ContentRefusedError):
        await harness.compare(query())


async def test_when_nobody_was_asked_the_smallest_wait_is_told() -> None:
    harness = Harness(
        {
            ANTHROPIC: FakeProvider(CircuitOpenError("open", retry_after_s=30.0)),
            OPENAI: FakeProvider(CircuitOpenError("open", retry_after_s=3.0)),
            ProviderName.GOOGLE: FakeProvider(CircuitOpenError("open", retry_after_s=12.0)),
        }
    )
    with pytest.raises(CircuitOpenError) as told:
        await harness.compare(query())
    assert told.value.retry_after_s == 3.0


async def test_a_known_answer_is_given_although_its_judge_cannot_be_asked_now() -> None:
    harness = harness_of(reply())
    await harness.compare(query())
    assert (await harness.compare(query())).cached


async def test_the_failure_that_opened_a_circuit_says_so_in_its_event() -> None:
    opening = ProviderUnavailableError("down")
    opening.opened_circuit = True
    harness = Harness({ANTHROPIC: FakeProvider(opening), OPENAI: FakeProvider(ProviderUnavailableError("down"))})
    with pytest.raises(ProviderUnavailableError):
        await harness.compare(query())
    assert [event.circuit_breaker_opened for event in harness.events.of(ProviderFailed)] == [True, False]


async def test_a_place_is_held_until_the_flight_ends_that_its_owner_left() -> None:
    held = Held(reply())
    harness = harness_of(held)
    asked = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert harness.capacity.inside == 1
    held.go.set()
    await settle()
    assert harness.capacity.inside == 0


def test_the_least_memory_that_may_be_set_holds_the_largest_question() -> None:
    """A character takes four bytes at most."""
    least = ServiceSettings(max_request_bytes=MIB, max_memory_mb=MEMORY_OF_BODY)
    assert least.answering_bytes == COPIES * 4 * least.max_request_bytes


async def test_a_question_takes_its_memory_until_nobody_answers_it_any_more() -> None:
    held, memory = Held(reply()), MemoryLimit(1_000_000)
    harness = harness_of(held)
    harness.capacity = Bulkhead(limit=1, queue_limit=9, memory=memory)
    harness.rebuild()
    asked = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    assert memory.taken_bytes == COPIES * query().size_bytes > 0
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert memory.taken_bytes > 0
    held.go.set()
    await settle()
    assert memory.taken_bytes == 0


def test_a_rare_character_makes_a_text_take_more_memory() -> None:
    plain, with_quote = (query(essay_a=essay).size_bytes for essay in ("a" * 1000, "\u201c" + "a" * 999))
    assert 900 < with_quote - plain < 1100


async def test_everything_that_a_call_bought_is_told_and_makes_its_cost() -> None:
    useless = Purchase(model=KNOWN_MODEL, usage=Usage(prompt=100, completion=20), cost_usd=0.125)
    harness = Harness(
        {ANTHROPIC: FakeProvider(ContentRefusedError("declined", purchase=useless)), OPENAI: FakeProvider(OPENAI_REPLY)}
    )
    result = await harness.compare(query())
    assert result.cost_usd == 0.625
    assert [event.cost_estimate_usd for event in harness.events.of(CostTracked)] == [0.125, 0.5]
    assert harness.completed().cost_estimate == 0.625
    assert harness.completed().token_usage == OPENAI_REPLY.purchase.usage.as_token_usage()


@pytest.mark.parametrize(
    "failure", [ProviderTimeoutError("late"), ConnectionLostError("gone"), BrokenReplyError("half")]
)
async def test_what_an_attempt_without_a_reply_cost_is_unknown_and_counts_nothing(failure: ProviderError) -> None:
    harness = Harness({ANTHROPIC: FakeProvider(failure), OPENAI: FakeProvider(OPENAI_REPLY)})
    assert (await harness.compare(query())).cost_usd == 0.5
    assert [event.cost_estimate_usd for event in harness.events.of(CostTracked)] == [0.5]


@pytest.mark.parametrize("late_one_lands", ["before the answer", "after it"])
async def test_what_two_flights_of_one_request_buy_is_told_once_each(late_one_lands: str) -> None:
    late, quick = Held(reply()), Held(OPENAI_REPLY)

    async def asked(request: ProviderRequest) -> ProviderReply:
        harness.clock.advance(-30)  # the first one's share was nothing, the second one has time
        return await late(request)

    harness = Harness({ANTHROPIC: FakeProvider(asked), OPENAI: FakeProvider(quick)})
    answer = asyncio.create_task(harness.compare(query(timeout_s=0.001)))
    await quick.reached.wait()
    for held in (late, quick) if late_one_lands == "before the answer" else (quick, late):
        held.go.set()
        await settle()
    result = await answer
    assert [attempt.provider for attempt in result.attempts] == [OPENAI]
    assert result.cost_usd == harness.completed().cost_estimate == 0.5
    told = {event.provider: event.cost_estimate_usd for event in harness.events.of(CostTracked)}
    assert (len(harness.events.of(CostTracked)), told) == (2, {ANTHROPIC: 0.25, OPENAI: 0.5})
    assert sample(harness.metrics, "llm_provider_caller_cost_dollars_total", caller=query().caller) == 0.75


async def test_a_failed_request_tells_what_it_cost_all_the_same() -> None:
    useless = Purchase(model=KNOWN_MODEL, usage=Usage(prompt=100, completion=20), cost_usd=0.125)
    harness = harness_of(InvalidReplyError("prose", purchase=useless))
    with pytest.raises(InvalidReplyError):
        await harness.compare(query())
    assert (harness.completed().success, harness.completed().cost_estimate) == (False, 0.125)


async def test_a_failure_that_ends_everything_is_not_hidden_by_an_earlier_one() -> None:
    harness = Harness(
        {ANTHROPIC: FakeProvider(ContentRefusedError("declined")), OPENAI: FakeProvider(ServiceStoppingError())}
    )
    with pytest.raises(ServiceStoppingError):
        await harness.compare(query())


async def test_the_wait_for_a_place_is_part_of_the_time() -> None:
    held = Held(reply())
    harness = harness_of(held, reply())
    harness.capacity = Bulkhead(limit=1, queue_limit=1)
    harness.rebuild()
    first = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    second = asyncio.create_task(harness.compare(query(replicate=1)))
    await settle()
    harness.clock.advance(3.0)
    held.go.set()
    await first
    timings = (await second).timings
    assert (timings.total_s, timings.queued_s) == (3.0, 3.0)


@pytest.mark.parametrize("outcome", [reply(), ProviderUnavailableError("down")], ids=["answered", "failed"])
async def test_the_wait_for_a_place_is_counted_however_the_request_ends(outcome: ProviderReply | ServiceError) -> None:
    held = Held(reply())
    harness = harness_of(held, outcome)
    harness.capacity = Bulkhead(limit=1, queue_limit=1)
    harness.rebuild()
    first = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    second = asyncio.create_task(harness.compare(query(replicate=1)))
    await settle()
    harness.clock.advance(3.0)
    held.go.set()
    await asyncio.gather(first, second, return_exceptions=True)
    assert sample(harness.metrics, "llm_provider_queue_wait_seconds_count") == 2
    assert sample(harness.metrics, "llm_provider_queue_wait_seconds_sum") == 3.0


@pytest.mark.parametrize(("timeout_s", "patience_s"), [(None, 5.0), (20.0, 2.0)])
async def test_a_place_is_waited_for_with_a_tenth_of_the_callers_time_and_five_seconds_at_most(
    timeout_s: float | None, patience_s: float
) -> None:
    waits_s: list[float] = []
    harness = harness_of(reply())
    enter = harness.capacity.enter

    async def noted(*, within_s: float, size_bytes: int) -> Slot:
        waits_s.append(within_s)
        return await enter(within_s=within_s, size_bytes=size_bytes)

    with patch.object(harness.capacity, "enter", noted):
        await harness.compare(query(timeout_s=timeout_s))
    assert waits_s == [patience_s]


async def test_who_finds_the_service_full_is_told_so_and_nothing_is_announced() -> None:
    held = Held(reply())
    harness = harness_of(held)
    harness.capacity = Bulkhead(limit=1, queue_limit=0)
    harness.rebuild()
    first = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    told = len(harness.events.events)
    with pytest.raises(ServiceOverloadedError):
        await harness.compare(query(replicate=1))
    assert len(harness.events.events) == told
    held.go.set()
    await first
