"""What one comparison carries down the stack: its deadline, and a record of its attempts and times.

It travels in a context variable, because a provider's one method takes one argument. A flight has its own deadline and
record: it may outlive the request that started it, which may meanwhile have gone on to another provider.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self

from implementations.resilience.stalls import within
from protocols import COST_DIGITS, Attempt, CachedReply, ClockProtocol, TimeShare
from value_object import value_object

SHORTEST_ATTEMPT_S = 1.0  # after a wait: with less time left, nothing is bought
TELLING_SHARE = 0.4  # of the attempt timeout: the silence of a provider that had less says nothing about it
ATTEMPT_SHARE = 0.98  # of a brief call
ENOUGH = 1.5  # times the usual duration of a call: most calls take less
REDIS_TIMEOUT_S = 0.25  # for all that one request asks of Redis


@value_object
class Deadline:
    """A point on a monotonic clock, and the timeout of one attempt before it. Seconds."""

    expires_at_s: float
    attempt_timeout_s: float
    clock: ClockProtocol

    def remaining_s(self) -> float:
        """Never negative."""
        return max(0.0, self.expires_at_s - self.clock())

    def share(self, share: TimeShare) -> Self:
        """What one candidate gets of it. `MOST` leaves the others the time of a look-up in Redis."""
        match share:
            case TimeShare.ALL:
                return self
            case TimeShare.MOST:
                return self.earlier_by(min(REDIS_TIMEOUT_S, self.remaining_s() / 2))
            case TimeShare.HALF:
                return self._until(self.clock() + self.remaining_s() / 2)

    def at_most(self, expires_at_s: float) -> Self:
        """The earlier of this deadline and the given time."""
        return self._until(min(self.expires_at_s, expires_at_s))

    def earlier_by(self, seconds: float) -> Self:
        """This deadline, that much sooner."""
        return self._until(self.expires_at_s - seconds)

    def attempt_s(self) -> float:
        """The timeout of an attempt that starts now."""
        return min(self.attempt_timeout_s, self.remaining_s())

    @property
    def telling_s(self) -> float:
        """How long an attempt must take for its timeout to count against the provider."""
        return TELLING_SHARE * self.attempt_timeout_s

    def _until(self, expires_at_s: float) -> Self:
        return type(self)(expires_at_s=expires_at_s, attempt_timeout_s=self.attempt_timeout_s, clock=self.clock)


@dataclass(slots=True, kw_only=True)
class Record:
    """Attempts in order, and seconds spent by kind. redis_s: all waits for Redis, those before a flight included.

    is_abandoned: nobody waits for the flight any more, and nobody could be answered with what it would still buy.
    provider_request_id: the provider's own name for the attempt under way, once it has answered with one. on_attempt:
    called with each attempt as it ends. look_again: asks the cache what another replica has bought meanwhile;
    has_found_it: it had the answer.
    """

    attempts: list[Attempt] = field(default_factory=list)
    on_attempt: Callable[[Attempt], None] = lambda _: None
    look_again: Callable[[], Awaitable[CachedReply | None]] | None = None
    has_found_it: bool = False
    cache_s: float = 0.0
    redis_s: float = 0.0
    queued_s: float = 0.0
    upstream_s: float = 0.0
    replaced_connection: bool = False
    is_abandoned: bool = False
    provider_request_id: str | None = None

    def ended(self, attempt: Attempt) -> None:
        """An attempt has ended."""
        self.attempts.append(attempt)
        self.on_attempt(attempt)

    def add(self, other: Self) -> None:
        """Merge another record, as far as it is complete by now."""
        self.attempts += other.attempts
        self.cache_s += other.cache_s
        self.redis_s = max(self.redis_s, other.redis_s)
        self.queued_s += other.queued_s
        self.upstream_s += other.upstream_s
        self.replaced_connection = self.replaced_connection or other.replaced_connection

    @property
    def cost_usd(self) -> float | None:
        """The cost of this comparison's own attempts in US dollars, failed ones too; None if a price is unknown."""
        total_usd = 0.0
        for attempt in self.attempts:
            if attempt.purchase is None:
                continue
            if attempt.purchase.cost_usd is None:
                return None
            total_usd += attempt.purchase.cost_usd
        return round(total_usd, COST_DIGITS)


@value_object
class Call:
    """One comparison in progress.

    deadline: the caller's; purchase_deadline: that of its flights, which the caller's own timeout does not shorten.
    holds_slot_for: called with each task that may outlive the request. starter_deadline: in a flight, until when the
    request that started it waits.
    """

    deadline: Deadline
    purchase_deadline: Deadline
    holds_slot_for: Callable[[asyncio.Task[Any]], None]
    record: Record = field(default_factory=Record)
    starter_deadline: Deadline | None = None

    def longest_wait_s(self) -> float:
        """The longest wait after which an attempt still fits in; negative if none does."""
        return self.deadline.remaining_s() - SHORTEST_ATTEMPT_S

    def longest_pause_s(self) -> float:
        """The longest pause that this call waits out, never negative; in a flight none that its starter could not."""
        return max(0.0, self.awaited_s() - SHORTEST_ATTEMPT_S)

    def longest_queue_s(self, usual_s: float) -> float:
        """The longest wait for a slot after which there is time for an answer that usually takes usual_s.

        Negative if there is none. While another candidate may be asked, an attempt must also have the time to tell
        whether the provider answers at all, unless that is most of the time left: else a long queue hides a provider
        that hangs from its circuit.
        """
        enough_s = max(SHORTEST_ATTEMPT_S, min(ENOUGH * usual_s, self.deadline.attempt_timeout_s))
        longest_s = self.awaited_s() - enough_s
        left_s, telling_s = self.deadline.remaining_s(), self.deadline.telling_s
        is_last = self.purchase_deadline.expires_at_s - self.deadline.expires_at_s < SHORTEST_ATTEMPT_S
        return longest_s if is_last or telling_s > left_s / 2 else min(longest_s, left_s - telling_s)

    def awaited_s(self) -> float:
        """How long this call, and in a flight also the request that started it, has time."""
        starter = self.starter_deadline or self.deadline
        return min(self.deadline.remaining_s(), starter.remaining_s())

    def for_flight(self, deadline: Deadline, starter_deadline: Deadline) -> Self:
        """The same call for a flight, with its own deadline and record, so that it can outlive the request."""
        return type(self)(
            deadline=deadline,
            purchase_deadline=self.purchase_deadline,
            holds_slot_for=self.holds_slot_for,
            record=Record(redis_s=self.record.redis_s, replaced_connection=self.record.replaced_connection),
            starter_deadline=starter_deadline,
        )


_current: ContextVar[Call] = ContextVar("call")
current_call = _current.get  # the call that this code runs for; raises LookupError outside a call


class calling:  # noqa: N801  used like a function
    """Makes this the current call for the block, and for tasks started in it."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> Call:
        """Begin."""
        self._token = _current.set(self._call)
        return self._call

    def __exit__(self, *_: object) -> None:
        """Back to the call before, if any."""
        _current.reset(self._token)


@contextmanager
def waiting_for_redis() -> Iterator[float]:
    """Yields the seconds that this call may still wait for Redis, and counts what is waited inside."""
    call = _current.get(None)
    if call is None:
        yield REDIS_TIMEOUT_S
        return
    clock, record = call.deadline.clock, call.record
    began_s = clock()
    try:
        yield max(0.0, min(REDIS_TIMEOUT_S - record.redis_s, call.deadline.remaining_s()))
    finally:
        record.redis_s += clock() - began_s


@asynccontextmanager
async def brief_call(seconds: float, clock: ClockProtocol) -> AsyncIterator[Call]:
    """A call outside any comparison. Raises TimeoutError after the given seconds.

    Its deadline is slightly earlier, so that an attempt ends with a timeout instead of being cancelled.
    """
    before_s = ATTEMPT_SHARE * seconds
    deadline = Deadline(expires_at_s=clock() + before_s, attempt_timeout_s=before_s, clock=clock)
    call = Call(deadline=deadline, purchase_deadline=deadline, holds_slot_for=lambda _: None)
    async with within(seconds):
        with calling(call):
            yield call
