"""Delivery of published events: to Kafka, by background tasks, or nowhere without Kafka."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from api_models import DependencyStatus, EventData, EventDropReason, ProcessingEvent
from implementations.events.connection import KafkaConnection
from implementations.events.degraded_modes import DegradedModes
from implementations.events.event_queue import EventQueue
from implementations.events.lane import Lane
from implementations.events.message import message_of
from implementations.events.spool import Spool
from metrics import Metrics
from protocols import ClockProtocol, EventHealth, SleepProtocol, Work

FLUSH_TIMEOUT_S = 5.0
FLUSH_POLL_S = 0.02
TICK_S = 1.0
KAFKA_AWAY = "kafka_away"


class Outbox(Protocol):
    """Accepts published events for delivery."""

    def put(self, event: EventData) -> None:
        """Accept the event; never waits."""
        ...

    async def stored(self) -> None:
        """Wait until what was accepted survives a crash, if it is to, but not long."""
        ...

    def health(self) -> EventHealth:
        """The known state of Kafka and of pending events."""
        ...

    def tasks(self) -> Mapping[str, Work]:
        """What must run in the background."""
        ...

    async def flush(self) -> None:
        """Wait for pending events to be delivered, in bounded time."""
        ...


class NoOutbox:
    """Without Kafka: discards events."""

    def put(self, event: EventData) -> None:
        """Nothing is kept."""

    async def stored(self) -> None:
        """Nothing is to survive."""

    def health(self) -> EventHealth:
        """Kafka is disabled."""
        return EventHealth(kafka=DependencyStatus.DISABLED)

    def tasks(self) -> Mapping[str, Work]:
        """Nothing to do."""
        return {}

    async def flush(self) -> None:
        """Nothing is pending."""


class KafkaOutbox:
    """lane: creates the lane of one kind of event. traceparent: that of the current request, if any.

    now: the wall clock, for event timestamps; clock: monotonic seconds.
    """

    def __init__(
        self,
        queue: EventQueue,
        connection: KafkaConnection,
        *,
        lane: Callable[[ProcessingEvent], Lane],
        spool: Spool | None,
        service_name: str,
        max_age_s: float,
        metrics: Metrics,
        traceparent: Callable[[], str | None],
        now: Callable[[], datetime],
        clock: ClockProtocol,
        sleep: SleepProtocol,
    ) -> None:
        self._queue = queue
        self._connection = connection
        self._lanes = {event: lane(event) for event in ProcessingEvent}
        self._modes = DegradedModes(self.health, metrics=metrics)
        self._spool = spool
        self._service_name = service_name
        self._max_age_s = max_age_s
        self._traceparent = traceparent
        self._now = now
        self._clock = clock
        self._sleep = sleep
        if spool is not None:
            queue.restore(spool.kept())

    def put(self, event: EventData) -> None:
        """Queue the event; with a spool its task also writes it to disk."""
        self._queue.put(
            message_of(
                event,
                service_name=self._service_name,
                traceparent=self._traceparent(),
                now=self._now(),
                now_s=self._clock(),
            )
        )

    async def stored(self) -> None:
        """Wait for the spool, if there is one."""
        if self._spool is not None:
            await self._spool.stored()

    def health(self) -> EventHealth:
        """Whether Kafka accepted the last messages, and what is waiting."""
        return EventHealth(
            kafka=DependencyStatus.HEALTHY if self._connection.is_healthy else DependencyStatus.UNHEALTHY,
            buffering=self._awaited,
            dropping=self._queue.dropped_lately,
            spool_fault=None if self._spool is None else self._spool.fault,
        )

    def tasks(self) -> Mapping[str, Work]:
        """The one sender; with a spool also its writer, apart because it goes on when the sender dies."""
        writer: Mapping[str, Work] = {} if self._spool is None else {"event_spool": self._spool.run}
        return {"event_sender": self.run, **writer}

    async def run(self) -> None:
        """Send published events, forever."""
        parts = [self._connection.keep_open, self._housekeep, *(lane.run for lane in self._lanes.values())]
        async with asyncio.TaskGroup() as group:
            for work in parts:
                group.create_task(_endless(work))

    async def flush(self) -> None:
        """Wait until everything is acknowledged, five seconds at most. A Kafka that may be back is tried at once."""
        give_up_at_s = self._clock() + FLUSH_TIMEOUT_S
        self._connection.hurry()
        for lane in self._lanes.values():
            lane.hurry()
        while self._queue.pending and self._clock() < give_up_at_s:
            await self._sleep(FLUSH_POLL_S)

    def close(self) -> None:
        """Close the spool; count pending events as kept or lost."""
        if self._spool is not None:
            self._spool.close()
        self._queue.close()

    @property
    def _awaited(self) -> str | None:
        """What events wait for; None while they are being sent."""
        if self._queue.pending and not self._connection.is_healthy:
            return self._connection.waits_for or KAFKA_AWAY
        return (
            ", ".join(sorted({lane.waits_for or KAFKA_AWAY for lane in self._lanes.values() if lane.is_held_up}))
            or None
        )

    async def _housekeep(self) -> None:
        """Periodically expire old events and log mode changes."""
        while True:
            self._queue.expire(self._max_age_s, self._reason)
            self._modes.log_changes()
            await self._sleep(TICK_S)

    def _reason(self, event: ProcessingEvent) -> EventDropReason:
        return self._connection.waits_for or self._lanes[event].waits_for or EventDropReason.EXPIRED


async def _endless(work: Work) -> None:
    """The work; an error also if something that it waited for was cancelled: a task group would go on without it."""
    try:
        await work()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError("what it waited for was cancelled") from None
