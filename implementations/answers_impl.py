"""Answers from one candidate: from the cache, from a flight in progress, or bought from the provider stack.

A purchase is a flight of its own: it is booked, announced and cached whether or not the request that started it waits.
"""

from functools import partial
from uuid import uuid4

from api_models import CacheOutcome
from exceptions import CostLimitExceededError, DeadlineExceededError, NotCachedError, ServiceError
from implementations.events import request_events
from implementations.events.receipts import Receipts
from implementations.resilience.call import SHORTEST_ATTEMPT_S, Call, LeftFlight, calling, current_call
from implementations.resilience.single_flight import SingleFlight, StillInFlightError, has_landed
from protocols import (
    Answer,
    CachedReply,
    CacheUse,
    Candidate,
    ClockProtocol,
    ComparisonQuery,
    CurrentSettings,
    LLMAccountingProtocol,
    LLMCacheManagerProtocol,
    LLMEventPublisherProtocol,
    LookUp,
    ProviderReply,
    TimeShare,
)

LANDING_S = 0.05  # a flight ends this long before the request that started it gives up


class AnswersImpl:
    """look_up: in this cache, with spans where they are recorded. clock: monotonic seconds."""

    def __init__(
        self,
        *,
        cache: LLMCacheManagerProtocol,
        look_up: LookUp,
        flights: SingleFlight[ProviderReply],
        accounting: LLMAccountingProtocol,
        events: LLMEventPublisherProtocol,
        receipts: Receipts,
        clock: ClockProtocol,
    ) -> None:
        self._cache = cache
        self._look_up = look_up
        self._flights = flights
        self._accounting = accounting
        self._events = events
        self._receipts = receipts
        self._clock = clock

    async def answer(
        self, candidate: Candidate, query: ComparisonQuery, settings: CurrentSettings, *, share: TimeShare
    ) -> Answer:
        """Answer from the cache (which has its own timeout), from a flight in progress, or by a new call."""
        key = candidate.request.fingerprint()
        reads = settings.cache_enabled and query.cache_use.reads
        known = await self._known(key, candidate, query) if reads else None
        if known is not None:
            self._accounting.saved(candidate.request, known.reply)
            return Answer(candidate=candidate, reply=known.reply, outcome=CacheOutcome.HIT, age_s=known.age_s)
        if not query.cache_use.buys:
            raise NotCachedError("ask again without only-if-cached")
        bought = CacheOutcome.MISS if reads else CacheOutcome.BYPASS
        ttl_s = settings.cache_ttl_s if settings.cache_enabled and query.cache_use.writes else None
        return await self._from_flight(key, candidate, query, ttl_s, bought=bought, share=share)

    async def late_answer(self) -> Answer | None:
        """The answer of a flight that the current call has left under way, if one lands before the deadline."""
        call = current_call()
        for left in call.left_flights:
            landed = await has_landed(left.task, within_s=call.deadline.remaining_s())
            if landed and not left.task.cancelled() and left.task.exception() is None:
                untold = left.record.attempts[left.told :]
                call.record.attempts += untold
                call.record.upstream_s += sum(attempt.duration_s for attempt in untold)
                return Answer(candidate=left.candidate, reply=left.task.result(), outcome=left.outcome)
        return None

    async def _from_flight(
        self,
        key: str,
        candidate: Candidate,
        query: ComparisonQuery,
        ttl_s: float | None,
        *,
        bought: CacheOutcome,
        share: TimeShare,
    ) -> Answer:
        """The answer, within this candidate's share of the deadline. bought: its outcome if this request buys it.

        ttl_s: how long the answer serves others, by the cache; None if it does not.
        The flight of another request may have too little time for what this one has time for, an attempt or a pause
        that the provider asks for: it then joins or starts the next, unless another candidate may be asked.
        A request that has waited in vain starts another flight only if it has the time for an attempt.
        """
        call = current_call()
        flight_key = (self._cache.generation, key) if query.cache_use is CacheUse.NORMAL else uuid4()
        while True:
            patience = call.deadline.share(share)
            left_s, joins_another = patience.remaining_s(), self._flights.is_under_way(flight_key)
            outcome = CacheOutcome.COALESCED if joins_another else bought
            is_in_vain = call.record.has_waited_in_vain and not joins_another and call.longest_wait_s() < 0
            if left_s <= 0 or is_in_vain:
                raise _too_late(candidate, provider_was_asked=False)
            flight = call.for_flight(call.purchase_deadline.share(share).earlier_by(LANDING_S), patience)
            try:
                reply = await self._flights.join(
                    flight_key,
                    partial(self._purchase, key, candidate, query, ttl_s, flight),
                    within_s=left_s,
                    on_start=call.holds_slot_for,
                )
                return Answer(candidate=candidate, reply=reply, outcome=outcome)
            except StillInFlightError as left:
                call.record.has_waited_in_vain = True
                call.left_flights.append(
                    LeftFlight(
                        candidate=candidate,
                        outcome=outcome,
                        task=left.flight,
                        record=flight.record,
                        told=len(flight.record.attempts),
                    )
                )
                raise _too_late(candidate, provider_was_asked=True) from None
            except ServiceError as failure:
                call.record.has_waited_in_vain |= flight.deadline.remaining_s() < LANDING_S
                may_try_again = joins_another and share is not TimeShare.HALF and failure.ran_out_of_time
                if not may_try_again or patience.remaining_s() < failure.pause_s + SHORTEST_ATTEMPT_S:
                    raise
            finally:
                call.record.add(flight.record)
                flight.record.is_abandoned = query.cache_use is not CacheUse.NORMAL and ttl_s is None

    async def _known(self, key: str, candidate: Candidate, query: ComparisonQuery) -> CachedReply | None:
        began_s = self._clock()
        known = await self._look_up(key)
        current_call().record.cache_s += self._clock() - began_s
        self._events.publish(request_events.looked_up(query, candidate, key, known=known is not None))
        return known

    async def _purchase(
        self, key: str, candidate: Candidate, query: ComparisonQuery, ttl_s: float | None, flight: Call
    ) -> ProviderReply:
        """The flight: it belongs to no single request, so its deadline is a candidate's share of a full request's."""
        generation = self._cache.generation
        try:
            with calling(flight), self._receipts.issued(query, candidate.request, flight.record.attempts):
                reply = await candidate.provider.generate_comparison(candidate.request)
        except CostLimitExceededError:  # our own limit, not a provider failure
            raise
        except ServiceError as failure:
            failure.ran_out_of_time |= flight.longest_wait_s() < 0 or flight.longest_pause_s() < failure.pause_s
            self._events.publish(request_events.provider_failed(query, candidate, failure))
            raise
        if ttl_s is not None and generation == self._cache.generation:
            self._cache.put(key, reply, ttl_s=ttl_s)
        return reply


def _too_late(candidate: Candidate, *, provider_was_asked: bool) -> ServiceError:
    return DeadlineExceededError(
        "the request's deadline has passed",
        provider=candidate.request.provider,
        provider_was_asked=provider_was_asked,
    )
