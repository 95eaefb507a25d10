"""Who can be asked, and whether one of them is left alone: gauges that are read when they are scraped."""

from collections.abc import Callable, Sequence
from functools import partial

from api_models import CircuitState, DegradedMode, ProviderName
from metrics import Metrics
from protocols import ProviderStatus


def show_standing(statuses: Callable[[], Sequence[ProviderStatus]], metrics: Metrics) -> None:
    """Let the metrics follow the providers, and what the operator decides about them."""

    def is_usable(name: ProviderName) -> float:
        return float(any(status.name is name and status.is_usable for status in statuses()))

    def is_open() -> float:
        usable = (status for status in statuses() if status.is_usable)
        return float(any(status.circuit_state is CircuitState.OPEN for status in usable))

    for name in ProviderName:
        metrics.usable.of(name).set_function(partial(is_usable, name))
    metrics.degraded_mode.of(DegradedMode.PROVIDER_OPEN).set_function(is_open)
