"""Answers one query from one candidate: from the cache, from a flight in progress, or bought from the provider stack.

A purchase is a flight of its own: it is booked, announced and cached whether or not the request that started it waits.
"""

import asyncio
from functools import partial
from uuid import uuid4

from api_models import CacheOutcome
from exceptions import CostLimitExceededError, DeadlineExceededError, NotCachedError, ServiceError
from implementations.events import request_events
from implementations.events.receipts import Receipts
from implementations.resilience.call import SHORTEST_ATTEMPT_S, Call, Deadline, Record, calling, current_call
from implementations.resilience.single_flight import SingleFlight, result_of
from implementations.resilience.stalls import any_done
from protocols import (
    Answer,
    CachedReply,
    CacheUse,
    Candidate,
    ComparisonQuery,
    CurrentSettings,
    LLMAccountingProtocol,
    LLMCacheManagerProtocol,
    LLMEventPublisherProtocol,
    LookUp,
    ProviderReply,
    TimeShare,
)
from value_object import value_object

LANDING_S = 0.05  # a flight ends this long before the request that started it gives up


@value_object
class LeftFlight:
    """A flight that goes on although its candidate's share of the time is over.

    record: the flight's, if this request started it; recorded: how many of its attempts the request has recorded.
    """

    candidate: Candidate
    outcome: CacheOutcome
    record: Record
    recorded: int


class AnswersImpl:
    """One query's answers. look_up: in this cache, with spans where they are recorded."""

    def __init__(
        self,
        query: ComparisonQuery,
        settings: CurrentSettings,
        *,
        cache: LLMCacheManagerProtocol,
        look_up: LookUp,
        flights: SingleFlight[ProviderReply],
        accounting: LLMAccountingProtocol,
        events: LLMEventPublisherProtocol,
        receipts: Receipts,
    ) -> None:
        self._query = query
        self._cache = cache
        self._look_up = look_up
        self._flights = flights
        self._accounting = accounting
        self._events = events
        self._receipts = receipts
        self._reads = settings.cache_enabled and query.cache_use.reads
        self._if_bought = CacheOutcome.MISS if self._reads else CacheOutcome.BYPASS
        # How long what is bought serves others, by the cache; None if it does not.
        self._ttl_s = settings.cache_ttl_s if settings.cache_enabled and query.cache_use.writes else None
        self._serves_nobody_else = query.cache_use is not CacheUse.NORMAL and self._ttl_s is None
        self._left: dict[asyncio.Task[ProviderReply], LeftFlight] = {}
        self._has_waited_in_vain = False  # for a flight that goes on, or that took all of its time

    async def answer(self, candidate: Candidate, *, share: TimeShare) -> Answer:
        """Answer from the cache (which has its own timeout), from a flight in progress, or by a new call."""
        key = candidate.request.fingerprint()
        known = await self._known(key, candidate) if self._reads else None
        if known is not None:
            self._accounting.saved(candidate.request, known.reply)
            return Answer(candidate=candidate, reply=known.reply, outcome=CacheOutcome.HIT, age_s=known.age_s)
        if not self._query.cache_use.buys:
            raise NotCachedError("ask again without only-if-cached")
        return self._landed() or await self._from_flight(key, candidate, share)

    async def late_answer(self) -> Answer | None:
        """The answer of the first left flight that lands with one, if one does before the deadline."""
        deadline = current_call().deadline
        while self._left and await any_done(*self._left, within_s=deadline.remaining_s()):
            if (answer := self._landed()) is not None:
                return answer
        return None

    def end(self) -> None:
        """Record what left flights have cost by now, at the request's end; those that serve nobody else buy no more."""
        for left in self._left.values():
            _record_rest(left)
            left.record.is_abandoned = self._serves_nobody_else

    async def _from_flight(self, key: str, candidate: Candidate, share: TimeShare) -> Answer:
        """The answer, within this candidate's share of the deadline; that of a flight left earlier, if it lands first.

        A request that joined the flight of another may join or start the next one (`_may_join_next`). One that has
        waited in vain starts another flight only if it has the time for an attempt.
        """
        call = current_call()
        flight_key = (self._cache.generation, key) if self._query.cache_use is CacheUse.NORMAL else uuid4()
        while True:
            deadline = call.deadline.share(share)
            left_s, joins_another = deadline.remaining_s(), self._flights.is_under_way(flight_key)
            is_in_vain = self._has_waited_in_vain and not joins_another and call.longest_wait_s() < 0
            if left_s <= 0 or is_in_vain:
                raise DeadlineExceededError(provider=candidate.request.provider, provider_was_asked=False)
            outcome = CacheOutcome.COALESCED if joins_another else self._if_bought
            # The call of the flight that is started here; one that is joined has a call and a record of its own.
            own = call.for_flight(call.purchase_deadline.share(share).earlier_by(LANDING_S), deadline)
            flight = self._flights.board(
                flight_key, partial(self._purchase, key, candidate, own), on_start=call.holds_slot_for
            )
            try:
                while await any_done(flight, *self._left, within_s=left_s):
                    if flight.done():
                        reply = result_of(flight)
                        return Answer(candidate=candidate, reply=reply, outcome=_shared_or(outcome, own.record))
                    if (late := self._landed()) is not None:
                        return late
                    left_s = deadline.remaining_s()
                self._leave(flight, own.record, candidate, outcome)
                raise DeadlineExceededError(provider=candidate.request.provider, provider_was_asked=True)
            except ServiceError as failure:
                self._has_waited_in_vain |= own.deadline.remaining_s() < LANDING_S
                if not (joins_another and _may_join_next(failure, share, deadline)):
                    raise
            finally:
                call.record.add(own.record)
                own.record.is_abandoned = self._serves_nobody_else and flight not in self._left

    def _leave(
        self, flight: asyncio.Task[ProviderReply], record: Record, candidate: Candidate, outcome: CacheOutcome
    ) -> None:
        self._has_waited_in_vain = True
        self._left[flight] = LeftFlight(
            candidate=candidate, outcome=outcome, record=record, recorded=len(record.attempts)
        )

    def _landed(self) -> Answer | None:
        """The answer of a left flight that has landed with one. What a flight cost is recorded however it ended."""
        answer = None
        for flight in [flight for flight in self._left if flight.done()]:
            left = self._left.pop(flight)
            _record_rest(left)
            if answer is None and not flight.cancelled() and flight.exception() is None:
                outcome = _shared_or(left.outcome, left.record)
                answer = Answer(candidate=left.candidate, reply=flight.result(), outcome=outcome)
        return answer

    async def _known(self, key: str, candidate: Candidate) -> CachedReply | None:
        call = current_call()
        began_s = call.deadline.clock()
        known = await self._look_up(key)
        call.record.cache_s += call.deadline.clock() - began_s
        self._events.publish(request_events.looked_up(self._query, candidate, key, known=known is not None))
        return known

    async def _purchase(self, key: str, candidate: Candidate, call: Call) -> ProviderReply:
        """The flight. call: its own, of which the deadline is a candidate's share of a full request's."""
        generation = self._cache.generation
        call.record.on_attempt = self._receipts.issuer(self._query, candidate.request)
        if self._reads:
            call.record.look_again = partial(self._look_up, key)
        try:
            with calling(call):
                reply = await candidate.provider.generate_comparison(candidate.request)
        except CostLimitExceededError:  # our own limit, not a provider failure
            raise
        except ServiceError as failure:
            failure.ran_out_of_time |= call.longest_wait_s() < 0 or call.longest_pause_s() < failure.pause_s
            self._events.publish(request_events.provider_failed(self._query, candidate, failure))
            raise
        is_new = not call.record.has_found_it and generation == self._cache.generation
        if self._ttl_s is not None and is_new:
            self._cache.put(key, reply, ttl_s=self._ttl_s)
        return reply


def _shared_or(outcome: CacheOutcome, record: Record) -> CacheOutcome:
    """Who started a flight that found another replica's purchase has bought nothing, but shares that one."""
    return CacheOutcome.COALESCED if record.has_found_it else outcome


def _record_rest(left: LeftFlight) -> None:
    """Add its attempts since it was left to the request's record."""
    record, rest = current_call().record, left.record.attempts[left.recorded :]
    record.attempts += rest
    record.upstream_s += sum(attempt.duration_s for attempt in rest)


def _may_join_next(failure: ServiceError, share: TimeShare, deadline: Deadline) -> bool:
    """Whether a request that joined a flight which failed like this has time for the next one.

    The flight may have had too little time for what this request has time for, an attempt or a pause that the provider
    asks for.
    """
    if share is TimeShare.HALF:  # another candidate may be asked
        return False
    return failure.ran_out_of_time and deadline.remaining_s() >= failure.pause_s + SHORTEST_ATTEMPT_S
