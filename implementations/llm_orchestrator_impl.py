"""Handles one request: deadline, slot, candidates one after the other, events and metrics. Read top down.

How one candidate answers is in `answers_impl.py`.
"""

import asyncio
from collections.abc import Sequence

from config import COPIES_IN_MEMORY
from exceptions import ContextTooLongError, DefectError, ServiceError
from implementations.events import request_events
from implementations.judging.prompt import prompt_bytes
from implementations.resilience.bulkhead import Bulkhead
from implementations.resilience.call import Call, Deadline, Record, calling, current_call
from implementations.resilience.most_telling import most_telling
from metrics import Metrics
from protocols import (
    Answer,
    AnswersProtocol,
    AnswersTo,
    Candidate,
    ClockProtocol,
    ComparisonQuery,
    ComparisonResult,
    CurrentSettings,
    LLMEventPublisherProtocol,
    LLMProviderSelectorProtocol,
    RuntimeSettingsProtocol,
    TimeShare,
    Timings,
)

UNFINISHED = "The caller left, or the service stopped, before there was an answer."
LONGEST_QUEUE_S = 5.0
LARGEST_QUEUE_SHARE = 0.1


class LLMOrchestratorImpl:
    """clock: monotonic seconds."""

    def __init__(
        self,
        *,
        runtime_settings: RuntimeSettingsProtocol,
        selector: LLMProviderSelectorProtocol,
        answers_to: AnswersTo,
        capacity: Bulkhead,
        events: LLMEventPublisherProtocol,
        metrics: Metrics,
        clock: ClockProtocol,
    ) -> None:
        self._runtime_settings = runtime_settings
        self._selector = selector
        self._answers_to = answers_to
        self._capacity = capacity
        self._events = events
        self._metrics = metrics
        self._clock = clock

    async def compare(self, query: ComparisonQuery) -> ComparisonResult:
        """Answer the query or raise a ServiceError. The settings are those at the start of the call."""
        asked_s, settings = self._clock(), self._runtime_settings.current()
        began_s = asked_s - query.reading_s
        full = self._deadline(settings, began_s)
        deadline = full if query.timeout_s is None else full.at_most(began_s + query.timeout_s)
        slot = await self._capacity.enter(
            within_s=min(LONGEST_QUEUE_S, deadline.remaining_s() * LARGEST_QUEUE_SHARE),
            size_bytes=COPIES_IN_MEMORY * prompt_bytes(query),
        )
        try:
            call = Call(
                deadline=deadline,
                purchase_deadline=full,
                record=Record(queued_s=self._clock() - asked_s),
                holds_slot_for=slot.keep_for,
            )
            with calling(call):
                return await self._completed(query, settings, call.record, began_s)
        finally:
            slot.leave()

    def _deadline(self, settings: CurrentSettings, began_s: float) -> Deadline:
        """The deadline of a request whose caller sets none."""
        allowed_s = settings.request_timeout_s
        return Deadline(
            expires_at_s=began_s + allowed_s,
            attempt_timeout_s=min(settings.attempt_timeout_s, allowed_s),
            clock=self._clock,
        )

    async def _completed(
        self, query: ComparisonQuery, settings: CurrentSettings, record: Record, began_s: float
    ) -> ComparisonResult:
        """*started* is followed by exactly one *completed*, however the request ends; the caller is told after that."""
        self._events.publish(request_events.started(query))
        try:
            answer = await self._first_answer(query, settings)
            await asyncio.sleep(0)  # others that are ready go first (decision 14)
            result = self._answered(query, answer, record, self._clock() - began_s)
        except asyncio.CancelledError:
            self._cancelled(query, self._clock() - began_s)
            raise
        except Exception as failure:
            self._failed(query, failure, record, self._clock() - began_s)
            await self._events.stored()
            if isinstance(failure, ServiceError):  # not before the wait: all who shared a flight raise the same one
                failure.attempts_in_words = [attempt.in_words for attempt in record.attempts]
                failure.cost_usd = record.cost_usd
            raise
        await self._events.stored()
        return result

    async def _first_answer(self, query: ComparisonQuery, settings: CurrentSettings) -> Answer:
        """From the candidates in turn, or from a purchase that took longer than its turn."""
        answers, candidates = self._answers_to(query, settings), self._selector.candidates(query, settings)
        try:
            return await _answer_in_turn(answers, candidates)
        except ServiceError:
            late = await answers.late_answer()
            if late is None:
                raise
            return late
        finally:
            answers.end()

    def _answered(self, query: ComparisonQuery, answer: Answer, record: Record, elapsed_s: float) -> ComparisonResult:
        result = _result(answer, record, elapsed_s)
        self._metrics.comparison_answered(
            provider=result.reply.provider,
            model=answer.candidate.request.model,
            winner=result.reply.verdict.winner,
            outcome=result.cache_outcome,
            elapsed_s=elapsed_s,
            queued_s=record.queued_s,
        )
        self._events.publish(request_events.answered(query, result))
        return result

    def _cancelled(self, query: ComparisonQuery, elapsed_s: float) -> None:
        self._events.publish(
            request_events.unanswered(query, UNFINISHED, elapsed_s, provider=query.provider, cost_usd=0.0)
        )

    def _failed(self, query: ComparisonQuery, failure: Exception, record: Record, elapsed_s: float) -> None:
        known = failure if isinstance(failure, ServiceError) else DefectError("")
        provider = known.provider or query.provider
        self._events.publish(
            request_events.unanswered(query, known.sentence, elapsed_s, provider=provider, cost_usd=record.cost_usd)
        )
        self._metrics.comparison_failed(provider=provider, error=known.code, queued_s=record.queued_s)


async def _answer_in_turn(answers: AnswersProtocol, candidates: Sequence[Candidate]) -> Answer:
    """Try the candidates in order, as long as time and the class of each failure allow."""
    failures: list[ServiceError] = []
    others = candidates
    while others:
        candidate, *others = others
        try:
            return await answers.answer(candidate, share=_share_before(others))
        except ServiceError as failure:
            if not failure.asks_next_provider or (failure.asks_one_other and failure.repeats(failures)):
                raise
            failures.append(failure.with_traceback(None))  # or it would hold this frame, which holds the list
            if isinstance(failure, ContextTooLongError):
                others = [other for other in others if other.holds_more_than(candidate)]
    raise most_telling(failures)


def _share_before(others: Sequence[Candidate]) -> TimeShare:
    """How much of the time left a candidate gets, given those that come after it."""
    if not others:
        return TimeShare.ALL
    half_s = current_call().deadline.remaining_s() / 2
    may_be_asked = any(other.may_be_asked(half_s) for other in others)
    return TimeShare.HALF if may_be_asked else TimeShare.MOST


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
