"""The warnings of /healthz, in words; docs/runbooks.md covers each."""

from collections.abc import Collection, Iterator, Sequence
from datetime import date

from api_models import CircuitState, DegradedMode, DependencyStatus, ProviderName
from protocols import CacheHealth, EventHealth, ProviderStatus

MOCK = "the mock judges: no verdict is real"
NOBODY = "no provider is enabled and configured"
ONLY_NAMED = "no default provider is available: requests that name no provider fail"
DRAINING = "the service is stopping"
LOOK_UP_FAILED = "the last look-up failed"
HELD_CLOSED = "circuit held closed"
MODEL_DEPRECATED = "the vendor retires its default model"
DAY_AHEAD = "the accounting day has not begun yet"
TRIED_NEXT = "the next call tries it again"
KAFKA_AWAY = "Kafka does not answer, but no event waits for it"
MODES = {
    DegradedMode.CACHE_READ_ONLY: "Redis accepts no new answers",
    DegradedMode.CACHE_LOCAL_ONLY: "Redis is away, so each replica answers from its own cache",
    DegradedMode.EVENTS_BUFFERING: "events wait in this process",
    DegradedMode.EVENTS_DROPPING: "events were dropped within the last minute, and counted",
    DegradedMode.EVENTS_SPOOL_FAULT: "the spool of events has a fault, so some may be lost",
    DegradedMode.PROVIDER_OPEN: "a provider is not asked at the moment",
    DegradedMode.BUDGET_LOCAL: "Redis does not keep the cost limits, so each replica enforces its own share",
}


def provider_warnings(
    statuses: Sequence[ProviderStatus], *, ranked: Collection[ProviderName], mock: bool, draining: bool
) -> Iterator[str]:
    """Warnings about the providers. ranked: those that requests without a provider are sent to."""
    usable = [status for status in statuses if status.is_usable]
    if mock:
        yield MOCK
    if not usable:
        yield NOBODY
    elif not mock and not any(status.name in ranked for status in usable):
        yield ONLY_NAMED
    if draining:
        yield DRAINING
    for status in usable:
        yield from _warnings_about(status)


def task_warnings(down: Collection[str]) -> Iterator[str]:
    """The background tasks that died and await their restart."""
    for task in sorted(down):
        yield f"the background task {task} is down"


def day_warnings(accounting_day: date, today: date) -> Iterator[str]:
    """The accounting day never goes back, so it stays ahead where the clock was."""
    if accounting_day > today:
        yield f"{DAY_AHEAD}: {accounting_day}"


def mode_warnings(cache: CacheHealth, events: EventHealth, *, budget_is_local: bool) -> Iterator[str]:
    """The degraded modes of the optional dependencies."""
    if cache.degraded_mode is not None:
        yield _mode(cache.degraded_mode, cache.cause)
    if events.buffering is not None:
        yield _mode(DegradedMode.EVENTS_BUFFERING, events.buffering)
    elif events.kafka is DependencyStatus.UNHEALTHY:
        yield KAFKA_AWAY
    if events.dropping:
        yield _mode(DegradedMode.EVENTS_DROPPING)
    if events.spool_fault is not None:
        yield _mode(DegradedMode.EVENTS_SPOOL_FAULT, events.spool_fault)
    if budget_is_local:
        yield _mode(DegradedMode.BUDGET_LOCAL)


def _warnings_about(status: ProviderStatus) -> Iterator[str]:
    """Of a usable provider."""
    if status.circuit_state is CircuitState.OPEN:
        yield _mode(DegradedMode.PROVIDER_OPEN, f"{status.name}: {status.reason or TRIED_NEXT}")
    elif status.reason is not None:
        yield f"{status.name}: {status.reason}"
    elif status.held_because is not None:
        yield f"{status.name}: {HELD_CLOSED}: {status.held_because}"
    if status.last_probe is not None and not status.last_probe.success:
        yield f"{status.name}: {LOOK_UP_FAILED}: {status.last_probe.message}"
    if status.model_deprecated_on is not None:
        yield f"{status.name}: {MODEL_DEPRECATED}: {status.default_model} on {status.model_deprecated_on}"


def _mode(mode: DegradedMode, cause: str | None = None) -> str:
    return f"{mode}: {MODES[mode]}" + ("" if cause is None else f" ({cause})")
