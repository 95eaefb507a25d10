"""Accepts the service's events; never waits, never fails. The outbox delivers them to Kafka."""

import structlog

from api_models import EventData, EventDropReason
from implementations.events.outbox import Outbox
from implementations.events.usage_window import UsageWindow
from metrics import Metrics
from protocols import EventHealth

log = structlog.get_logger("events")


class EventPublisherImpl:
    """enabled: whether events are published at all."""

    def __init__(self, *, enabled: bool, outbox: Outbox, usage: UsageWindow, metrics: Metrics) -> None:
        self._enabled = enabled
        self._outbox = outbox
        self._usage = usage
        self._metrics = metrics

    def publish(self, event: EventData) -> None:
        """Count the event and pass it to the outbox."""
        if not self._enabled:
            return
        self._metrics.events.of(event.event).inc()
        self._usage.observe(event)
        try:
            self._outbox.put(event)
        except Exception:  # publishing must not fail the request; it is counted
            self._metrics.events_dropped.of(event.event.topic, EventDropReason.DEFECT).inc()
            log.exception("event_defect", event_type=event.event.event_type)

    async def stored(self) -> None:
        """Wait, but not for long, until what was published survives a crash, where it is meant to."""
        await self._outbox.stored()

    async def publish_usage(self) -> None:
        """Close the current usage window and publish it; without a wait, as a step of a background task."""
        self.publish(self._usage.turn())

    def health(self) -> EventHealth:
        """The known state of Kafka and of the pending events."""
        return self._outbox.health()
