"""Gauges, computed on scrape: which providers are usable, and whether the circuit of a usable one is open."""

from collections.abc import Callable, Sequence
from functools import partial

from api_models import CircuitState, DegradedMode, ProviderName
from metrics import Metrics
from protocols import ProviderStatus


def show_standing(statuses: Callable[[], Sequence[ProviderStatus]], metrics: Metrics) -> None:
    """Bind the gauges to the providers' live statuses."""

    def is_usable(name: ProviderName) -> float:
        return float(any(status.name is name and status.is_usable for status in statuses()))

    def is_open() -> float:
        usable = (status for status in statuses() if status.is_usable)
        return float(any(status.circuit_state is CircuitState.OPEN for status in usable))

    for name in ProviderName:
        metrics.usable.of(name).set_function(partial(is_usable, name))
    metrics.degraded_mode.of(DegradedMode.PROVIDER_OPEN).set_function(is_open)
