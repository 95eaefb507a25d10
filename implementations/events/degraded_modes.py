"""The two degraded modes of events: they wait for Kafka (buffering), or some are dropped (dropping).

Each mode is a gauge and part of the health report; entering and leaving it is logged once.
"""

from collections.abc import Collection

import structlog

from api_models import DegradedMode, EventDropReason
from implementations.events.connection import KafkaConnection
from implementations.events.event_queue import EventQueue
from implementations.events.lane import Lane
from metrics import Metrics

KAFKA_AWAY = "kafka_away"

log = structlog.get_logger("events")


class DegradedModes:
    """lanes: all lanes; each exposes what it waits for."""

    def __init__(
        self, queue: EventQueue, connection: KafkaConnection, lanes: Collection[Lane], *, metrics: Metrics
    ) -> None:
        self._queue = queue
        self._connection = connection
        self._lanes = lanes
        self._logged: frozenset[DegradedMode] = frozenset()
        metrics.degraded_mode.of(DegradedMode.EVENTS_BUFFERING).set_function(lambda: float(self.buffering is not None))
        metrics.degraded_mode.of(DegradedMode.EVENTS_DROPPING).set_function(lambda: float(self.dropping))

    @property
    def buffering(self) -> str | None:
        """What events wait for; None while they are being sent."""
        if self._queue.pending and not self._connection.is_well:
            return EventDropReason.AUTH if self._connection.forbidden else KAFKA_AWAY
        return ", ".join(sorted({lane.waits_for for lane in self._lanes if lane.waits_for is not None})) or None

    @property
    def dropping(self) -> bool:
        """Events were dropped within the last minute."""
        return self._queue.dropped_lately

    def log_changes(self) -> None:
        """Log the modes entered or left since the last call."""
        modes = {DegradedMode.EVENTS_BUFFERING: self.buffering is not None, DegradedMode.EVENTS_DROPPING: self.dropping}
        known = frozenset(mode for mode, is_on in modes.items() if is_on)
        for mode in sorted(known - self._logged):
            log.warning("degraded_mode_entered", mode=mode, waits_for=self.buffering)
        for mode in sorted(self._logged - known):
            log.info("degraded_mode_left", mode=mode)
        self._logged = known
