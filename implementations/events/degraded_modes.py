"""The degraded modes of events: they wait for Kafka (buffering), some are dropped (dropping), the spool has a fault.

Each mode is a gauge and part of the health report; entering and leaving it is logged once.
"""

from collections.abc import Callable, Mapping
from functools import partial

import structlog

from api_models import DegradedMode
from metrics import Metrics
from protocols import EventHealth

MODES: Mapping[DegradedMode, Callable[[EventHealth], bool]] = {
    DegradedMode.EVENTS_BUFFERING: lambda health: health.buffering is not None,
    DegradedMode.EVENTS_DROPPING: lambda health: health.dropping,
    DegradedMode.EVENTS_SPOOL_FAULT: lambda health: health.spool_fault is not None,
}

log = structlog.get_logger("events")


class DegradedModes:
    """health: returns the known state."""

    def __init__(self, health: Callable[[], EventHealth], *, metrics: Metrics) -> None:
        self._health = health
        self._logged: frozenset[DegradedMode] = frozenset()
        for mode in MODES:
            metrics.degraded_mode.of(mode).set_function(partial(self._is_in, mode))

    def log_changes(self) -> None:
        """Log the modes entered or left since the last call."""
        health = self._health()
        known = frozenset(mode for mode, is_on in MODES.items() if is_on(health))
        for mode in sorted(known - self._logged):
            log.warning("degraded_mode_entered", mode=mode, waits_for=health.buffering, spool_fault=health.spool_fault)
        for mode in sorted(self._logged - known):
            log.info("degraded_mode_left", mode=mode)
        self._logged = known

    def _is_in(self, mode: DegradedMode) -> bool:
        return MODES[mode](self._health())
