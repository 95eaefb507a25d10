"""The degraded modes of events: they wait for Kafka (buffering), some are dropped (dropping), the spool has a fault.

Each mode is a gauge and part of the health report; entering and leaving it is logged once.
"""

from collections.abc import Callable, Collection, Mapping

import structlog

from api_models import DegradedMode
from implementations.events.connection import KafkaConnection
from implementations.events.event_queue import EventQueue
from implementations.events.lane import Lane
from implementations.events.spool import Spool
from metrics import Metrics

KAFKA_AWAY = "kafka_away"

log = structlog.get_logger("events")


class DegradedModes:
    """lanes: all lanes; each exposes what it waits for. spool: None without one."""

    def __init__(
        self,
        queue: EventQueue,
        connection: KafkaConnection,
        lanes: Collection[Lane],
        spool: Spool | None,
        *,
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._connection = connection
        self._lanes = lanes
        self._spool = spool
        self._logged: frozenset[DegradedMode] = frozenset()
        self._modes: Mapping[DegradedMode, Callable[[], bool]] = {
            DegradedMode.EVENTS_BUFFERING: lambda: self.buffering is not None,
            DegradedMode.EVENTS_DROPPING: lambda: self.dropping,
            DegradedMode.EVENTS_SPOOL_FAULT: lambda: self.spool_fault is not None,
        }
        for mode, is_on in self._modes.items():
            metrics.degraded_mode.of(mode).set_function(is_on)

    @property
    def buffering(self) -> str | None:
        """What events wait for; None while they are being sent."""
        if self._queue.pending and not self._connection.is_well:
            return self._connection.waits_for or KAFKA_AWAY
        return ", ".join(sorted({lane.waits_for for lane in self._lanes if lane.waits_for is not None})) or None

    @property
    def dropping(self) -> bool:
        """Events were dropped within the last minute."""
        return self._queue.dropped_lately

    @property
    def spool_fault(self) -> str | None:
        """What is wrong with the spool; None if nothing is, or if there is none."""
        return None if self._spool is None else self._spool.fault

    def log_changes(self) -> None:
        """Log the modes entered or left since the last call."""
        known = frozenset(mode for mode, is_on in self._modes.items() if is_on())
        for mode in sorted(known - self._logged):
            log.warning("degraded_mode_entered", mode=mode, waits_for=self.buffering, spool_fault=self.spool_fault)
        for mode in sorted(self._logged - known):
            log.info("degraded_mode_left", mode=mode)
        self._logged = known
