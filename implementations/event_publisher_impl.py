"""Takes the events of the service: never waits, never fails. What goes to Kafka is the outbox's business."""

import structlog

from api_models import EventData, EventDropReason
from implementations.events.outbox import Outbox
from implementations.events.usage_window import UsageWindow
from metrics import Metrics
from protocols import EventHealth

log = structlog.get_logger("events")


class EventPublisherImpl:
    """enabled: whether the operator wants events at all."""

    def __init__(self, *, enabled: bool, outbox: Outbox, usage: UsageWindow, metrics: Metrics) -> None:
        self._enabled = enabled
        self._outbox = outbox
        self._usage = usage
        self._metrics = metrics

    def publish(self, event: EventData) -> None:
        """Count the event and hand it over."""
        if not self._enabled:
            return
        self._metrics.events.of(event.event).inc()
        self._usage.observe(event)
        try:
            self._outbox.put(event)
        except Exception as error:  # noqa: BLE001  whoever publishes has better things to do; it is counted
            self._metrics.events_dropped.of(event.event.topic, EventDropReason.DEFECT).inc()
            log.error("event_defect", event_type=event.event.event_type, error=type(error).__name__)  # noqa: TRY400

    def publish_usage(self) -> None:
        """End the window of the usage statistics and publish it."""
        if self._enabled:
            self.publish(self._usage.turn())

    def health(self) -> EventHealth:
        """The known state of Kafka and of what waits for it."""
        return self._outbox.health()
