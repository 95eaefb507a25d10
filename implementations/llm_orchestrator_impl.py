"""Handles one request: query, selector, cache, single flight, provider stack, accounting, events. Read top down."""

import asyncio
from collections.abc import Sequence
from functools import partial
from uuid import uuid4

from api_models import CacheOutcome
from exceptions import (
    CircuitOpenError,
    CostLimitExceededError,
    DeadlineExceededError,
    DefectError,
    NotCachedError,
    ServiceError,
)
from implementations.events import request_events
from implementations.events.receipts import Receipts
from implementations.resilience.bulkhead import Bulkhead
from implementations.resilience.call import SHORTEST_ATTEMPT_S, Call, Deadline, Record, calling, current_call
from implementations.resilience.single_flight import SingleFlight, StillInFlightError
from metrics import Metrics
from protocols import (
    CachedReply,
    CacheUse,
    Candidate,
    ClockProtocol,
    ComparisonQuery,
    ComparisonResult,
    CurrentSettings,
    LLMAccountingProtocol,
    LLMCacheManagerProtocol,
    LLMEventPublisherProtocol,
    LLMProviderSelectorProtocol,
    ProviderReply,
    RuntimeSettingsProtocol,
    Timings,
)
from value_object import value_object

UNFINISHED = "The caller left, or the service stopped, before there was an answer."
LONGEST_QUEUE_S = 5.0
LARGEST_QUEUE_SHARE = 0.1
LANDING_S = 0.05  # a flight ends this long before the request that started it gives up
# Copies of a question's texts in memory during a call: as received, laid out, joined, encoded, being built. Measured.
COPIES = 6


@value_object
class Answer:
    """A candidate's reply and where it came from; age_s: set on a cache hit."""

    candidate: Candidate
    reply: ProviderReply
    outcome: CacheOutcome
    age_s: float | None = None


class LLMOrchestratorImpl:
    """clock: monotonic seconds."""

    def __init__(
        self,
        *,
        runtime_settings: RuntimeSettingsProtocol,
        selector: LLMProviderSelectorProtocol,
        cache: LLMCacheManagerProtocol,
        flights: SingleFlight[ProviderReply],
        capacity: Bulkhead,
        accounting: LLMAccountingProtocol,
        events: LLMEventPublisherProtocol,
        receipts: Receipts,
        metrics: Metrics,
        clock: ClockProtocol,
    ) -> None:
        self._runtime_settings = runtime_settings
        self._selector = selector
        self._cache = cache
        self._flights = flights
        self._capacity = capacity
        self._accounting = accounting
        self._events = events
        self._receipts = receipts
        self._metrics = metrics
        self._clock = clock

    async def compare(self, query: ComparisonQuery) -> ComparisonResult:
        """Answer the query or raise a ServiceError. The settings are those at the start of the call.

        *started* is followed by exactly one *completed*, however the request ends.
        """
        asked_s, settings = self._clock(), self._runtime_settings.current()
        began_s = asked_s - query.reading_s
        full = self._deadline(settings, began_s)
        deadline = full if query.timeout_s is None else full.at_most(began_s + query.timeout_s)
        slot = await self._capacity.enter(
            within_s=min(LONGEST_QUEUE_S, deadline.remaining_s() * LARGEST_QUEUE_SHARE),
            size_bytes=COPIES * query.size_bytes,
        )
        call = Call(
            deadline=deadline,
            purchase_deadline=full,
            record=Record(queued_s=self._clock() - asked_s),
            holds_slot_for=slot.keep_for,
        )
        self._events.publish(request_events.started(query))
        try:
            with calling(call):
                answer = await self._first_answer(query, settings)
            await asyncio.sleep(0)  # others that are ready go first (decision 14)
            return self._answered(query, answer, call.record, self._clock() - began_s)
        except asyncio.CancelledError:
            self._events.publish(request_events.unanswered(query, UNFINISHED, self._clock() - began_s, cost_usd=0.0))
            raise
        except Exception as failure:
            self._failed(query, failure, call.record, self._clock() - began_s)
            raise
        finally:
            slot.leave()

    def _answered(self, query: ComparisonQuery, answer: Answer, record: Record, elapsed_s: float) -> ComparisonResult:
        result = _result(answer, record, elapsed_s)
        self._metrics.comparison_ended(
            provider=result.reply.provider,
            model=answer.candidate.request.model,
            error=None,
            cache_outcome=result.cache_outcome,
            elapsed_s=elapsed_s,
            queued_s=record.queued_s,
        )
        self._events.publish(request_events.answered(query, result))
        return result

    def _failed(self, query: ComparisonQuery, failure: Exception, record: Record, elapsed_s: float) -> None:
        known = failure if isinstance(failure, ServiceError) else DefectError("")
        known.attempts = [attempt.in_words for attempt in record.attempts]
        self._events.publish(request_events.unanswered(query, known.sentence, elapsed_s, cost_usd=record.cost_usd))
        self._metrics.comparison_ended(
            provider=known.provider or query.provider,
            model=None,
            error=known.code,
            cache_outcome=None,
            elapsed_s=elapsed_s,
            queued_s=record.queued_s,
        )

    async def _first_answer(self, query: ComparisonQuery, settings: CurrentSettings) -> Answer:
        """Try the candidates in order, as long as time and the class of each failure allow."""
        candidates = self._selector.candidates(query, settings)
        failures: list[ServiceError] = []
        for candidate in candidates:
            try:
                return await self._ask(candidate, query, settings, is_last=candidate is candidates[-1])
            except ServiceError as failure:
                if not failure.asks_next_provider or (failure.asks_one_other and _repeats(failure, failures)):
                    raise
                failures.append(failure.with_traceback(None))  # or it would hold this frame, which holds the list
        raise _most_telling(failures)

    async def _ask(
        self, candidate: Candidate, query: ComparisonQuery, settings: CurrentSettings, *, is_last: bool
    ) -> Answer:
        """Answer from the cache (which has its own timeout), from a flight in progress, or by a new call."""
        key = candidate.request.fingerprint()
        reads = settings.cache_enabled and query.cache_use.reads
        known = await self._look_up(key, candidate, query) if reads else None
        if known is not None:
            self._accounting.saved(candidate.request, known.reply)
            return Answer(candidate=candidate, reply=known.reply, outcome=CacheOutcome.HIT, age_s=known.age_s)
        if query.cache_use is CacheUse.ONLY:
            raise NotCachedError("ask again without only-if-cached")
        bought = CacheOutcome.MISS if reads else CacheOutcome.BYPASS
        reply, started = await self._bought(key, candidate, query, settings, is_last=is_last)
        return Answer(candidate=candidate, reply=reply, outcome=bought if started else CacheOutcome.COALESCED)

    async def _bought(
        self, key: str, candidate: Candidate, query: ComparisonQuery, settings: CurrentSettings, *, is_last: bool
    ) -> tuple[ProviderReply, bool]:
        """The reply, within this candidate's share of the deadline, and whether this request started the flight.

        A flight that began before this request may use up its time while this one has time left: it joins the next, if
        there is no other candidate.
        """
        call = current_call()
        flight_key = (self._cache.generation, key) if query.cache_use is CacheUse.NORMAL else uuid4()
        while True:
            left_s = call.deadline.share(is_last=is_last).remaining_s()
            if left_s <= 0:
                raise _too_late(candidate, provider_was_asked=False)
            flight = call.apart(call.purchase_deadline.share(is_last=is_last).earlier_by(LANDING_S))
            joins = self._flights.is_under_way(flight_key)
            try:
                return await self._flights.join(
                    flight_key,
                    partial(self._buy, key, candidate, query, settings, flight),
                    within_s=left_s,
                    on_start=call.holds_slot_for,
                )
            except StillInFlightError:
                raise _too_late(candidate, provider_was_asked=True) from None
            except ServiceError as failure:
                goes_on = joins and is_last and failure.ran_out_of_time
                if not goes_on or call.deadline.remaining_s() < SHORTEST_ATTEMPT_S:
                    raise
            finally:
                call.record.add(flight.record)

    async def _look_up(self, key: str, candidate: Candidate, query: ComparisonQuery) -> CachedReply | None:
        began_s = self._clock()
        known = await self._cache.get(key)
        current_call().record.cache_s += self._clock() - began_s
        self._events.publish(request_events.looked_up(query, candidate, key, known=known is not None))
        return known

    async def _buy(
        self, key: str, candidate: Candidate, query: ComparisonQuery, settings: CurrentSettings, flight: Call
    ) -> ProviderReply:
        """The flight: it belongs to no single request, so its deadline is a candidate's share of a full request's."""
        generation = self._cache.generation
        try:
            with calling(flight), self._receipts.issued(query, candidate.request, flight.record.attempts):
                reply = await candidate.provider.generate_comparison(candidate.request)
        except CostLimitExceededError:  # our own limit, not a provider failure
            raise
        except ServiceError as failure:
            failure.ran_out_of_time = flight.deadline.remaining_s() < SHORTEST_ATTEMPT_S
            self._events.publish(request_events.provider_failed(query, candidate, failure))
            raise
        if settings.cache_enabled and query.cache_use.writes and generation == self._cache.generation:
            self._cache.put(key, reply, ttl_s=settings.cache_ttl_s)
        return reply

    def _deadline(self, settings: CurrentSettings, began_s: float) -> Deadline:
        """That of a request whose caller sets none."""
        allowed_s = settings.request_timeout_s
        return Deadline(
            expires_at_s=began_s + allowed_s,
            attempt_timeout_s=min(settings.attempt_timeout_s, allowed_s),
            clock=self._clock,
        )


def _too_late(candidate: Candidate, *, provider_was_asked: bool) -> ServiceError:
    return DeadlineExceededError(
        "the request's deadline has passed",
        provider=candidate.request.provider,
        provider_was_asked=provider_was_asked,
    )


def _repeats(failure: ServiceError, earlier: Sequence[ServiceError]) -> bool:
    return any(type(one) is type(failure) for one in earlier)


def _most_telling(failures: Sequence[ServiceError]) -> ServiceError:
    """The last failure of a provider that was asked; if none was, the open circuit with the shortest wait.

    Failing that, a failure that a short wait may resolve takes precedence over our cost limit.
    """
    if not failures:
        return DefectError("the selector promises at least one candidate")
    asked = [failure for failure in failures if failure.provider_was_asked]
    if asked:
        return asked[-1]
    closed_doors = [failure for failure in failures if isinstance(failure, CircuitOpenError)]
    others = [failure for failure in failures if not isinstance(failure, CostLimitExceededError)]
    return min(closed_doors, key=lambda failure: failure.retry_after_s or 0.0, default=(others or failures)[-1])


def _result(answer: Answer, record: Record, elapsed_s: float) -> ComparisonResult:
    return ComparisonResult(
        reply=answer.reply,
        cost_usd=record.cost_usd,
        cache_outcome=answer.outcome,
        age_s=answer.age_s,
        prompt_version=answer.candidate.request.prompt.version,
        fallback_used=answer.candidate.is_fallback,
        dropped_parameters=answer.candidate.dropped_parameters,
        attempts=tuple(record.attempts),
        timings=Timings(
            total_s=elapsed_s, cache_s=record.cache_s, queued_s=record.queued_s, upstream_s=record.upstream_s
        ),
    )
