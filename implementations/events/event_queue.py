"""The events published but not yet acknowledged: bounded in messages and bytes, one FIFO line per kind of event.

Every message is accounted for: published + restored = delivered + dropped + pending, at any time.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import structlog

from api_models import EventDropReason, ProcessingEvent
from implementations.events.message import Message
from implementations.events.spool import Spool
from metrics import Metrics
from protocols import ClockProtocol

LOG_INTERVAL_S = 10.0
LATELY_S = 60.0

# First to last; within a class the oldest goes first.
DROP_ORDER: tuple[tuple[ProcessingEvent, ...], ...] = (
    (ProcessingEvent.LLM_CACHE_HIT, ProcessingEvent.LLM_CACHE_MISS, ProcessingEvent.LLM_USAGE_ANALYTICS),
    (ProcessingEvent.LLM_REQUEST_STARTED,),
    (ProcessingEvent.LLM_REQUEST_COMPLETED,),
    (ProcessingEvent.LLM_PROVIDER_FAILURE,),
    (ProcessingEvent.LLM_COST_TRACKING, ProcessingEvent.LLM_COST_ALERT, ProcessingEvent.LLM_ADMIN_CHANGED),
)

log = structlog.get_logger("events")


class EventQueue:
    """clock: monotonic seconds. spool: keeps a copy of all pending messages on disk, or None."""

    def __init__(
        self, *, max_messages: int, max_bytes: int, spool: Spool | None, metrics: Metrics, clock: ClockProtocol
    ) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._spool = spool
        self._metrics = metrics
        self._clock = clock
        self._lines: dict[ProcessingEvent, deque[Message]] = {event: deque() for event in ProcessingEvent}
        self._taken = set[Message]()
        self._arrived = {event: asyncio.Event() for event in ProcessingEvent}
        self._bytes = 0
        self._pending = 0
        self._dropped_unlogged = 0
        self._logged_s = float("-inf")
        self._dropped_s = float("-inf")
        self._dropped_for: EventDropReason | None = None
        metrics.events_queue_depth.set_function(lambda: self._pending)
        metrics.events_queue_bytes.set_function(lambda: self._bytes)
        metrics.events_oldest.set_function(self._oldest_s)

    @property
    def pending(self) -> int:
        """Messages not yet acknowledged, including those in flight."""
        return self._pending

    @property
    def dropped_lately(self) -> bool:
        """A message was dropped within the last minute."""
        return self._clock() - self._dropped_s < LATELY_S

    def restore(self, messages: Iterable[Message]) -> None:
        """Add what an earlier process left in the spool."""
        for message in messages:
            self._metrics.events_restored.inc()
            self._append(message)

    def put(self, message: Message) -> None:
        """Add a message; if the queue is full, drop the oldest of the lowest class, which may be this one."""
        if self._spool is not None:
            self._spool.insert(message)
        self._append(message)

    def has_waiting(self, event: ProcessingEvent) -> bool:
        """Whether a message of this kind waits to be sent."""
        return bool(self._lines[event])

    async def wait(self, event: ProcessingEvent) -> None:
        """Wait until there is a message of this kind to send."""
        await self._arrived[event].wait()

    def take(self, event: ProcessingEvent, most: int) -> list[Message]:
        """Take the oldest of one kind, in order. Each must then be delivered, dropped or given back."""
        line = self._lines[event]
        taken = [line.popleft() for _ in range(min(most, len(line)))]
        self._taken.update(taken)
        self._notice(event)
        return taken

    def give_back(self, event: ProcessingEvent, messages: Sequence[Message]) -> None:
        """Return taken messages to the front of the line, in the order in which they were taken."""
        self._lines[event].extendleft(reversed(messages))
        self._taken.difference_update(messages)
        self._notice(event)

    def delivered(self, messages: Sequence[Message]) -> None:
        """Kafka acknowledged them."""
        for message in messages:
            self._metrics.events_delivered.of(message.event.topic).inc()
        self._forget(messages)

    def drop(self, messages: Sequence[Message], reason: EventDropReason) -> None:
        """Drop messages that were taken."""
        for message in messages:
            self._metrics.events_dropped.of(message.event.topic, reason).inc()
        self._forget(messages)
        self._dropped_unlogged += len(messages)
        self._dropped_s, self._dropped_for = self._clock(), reason
        self._log_dropped()

    def expire(self, max_age_s: float, reason: Callable[[ProcessingEvent], EventDropReason]) -> None:
        """Drop messages that waited too long; the reason depends on what their topic waits for."""
        too_old_s = self._clock() - max_age_s
        for event, line in self._lines.items():
            expired = []
            while line and line[0].since_s < too_old_s:
                expired.append(line.popleft())
            if expired:
                self.drop(expired, reason(event))
            self._notice(event)
        self._log_dropped()

    def close(self) -> None:
        """At process exit, after the spool is closed: pending messages stay in it, or are lost."""
        self._log_dropped(interval_s=0.0)
        lost = self._pending if self._spool is None else self._spool.unstored
        kept = self._pending - lost
        if kept:
            log.warning("events_kept_in_spool", count=kept)
        if lost:
            log.error("events_lost_at_exit", count=lost)
        self._metrics.events_lost_at_exit.inc(lost)
        self._pending = kept

    def _oldest_s(self) -> float:
        now_s = self._clock()
        oldest = (*self._taken, *(line[0] for line in self._lines.values() if line))
        return now_s - min((message.since_s for message in oldest), default=now_s)

    def _append(self, message: Message) -> None:
        self._lines[message.event].append(message)
        self._pending += 1
        self._bytes += message.size_bytes
        while self._pending > self._max_messages or self._bytes > self._max_bytes:
            self.drop([self._lines[self._expendable()].popleft()], EventDropReason.OVERFLOW)
        self._notice(message.event)

    def _expendable(self) -> ProcessingEvent:
        """The kind whose oldest message is dropped next. Those in flight cannot be; the newest always can."""
        waiting = next(found for kinds in DROP_ORDER if (found := [event for event in kinds if self._lines[event]]))
        return min(waiting, key=lambda event: self._lines[event][0].since_s)

    def _forget(self, messages: Sequence[Message]) -> None:
        self._pending -= len(messages)
        self._bytes -= sum(message.size_bytes for message in messages)
        self._taken.difference_update(messages)
        if self._spool is not None:
            self._spool.delete(messages)

    def _notice(self, event: ProcessingEvent) -> None:
        if self._lines[event]:
            self._arrived[event].set()
        else:
            self._arrived[event].clear()

    def _log_dropped(self, *, interval_s: float = LOG_INTERVAL_S) -> None:
        """Log at most every ten seconds, what came in between with the next line."""
        if self._dropped_unlogged and self._clock() - self._logged_s >= interval_s:
            log.error("events_dropped", count=self._dropped_unlogged, last_reason=self._dropped_for)
            self._logged_s, self._dropped_unlogged = self._clock(), 0
