"""The tracer selected by the settings. Without tracing OpenTelemetry is not even imported."""

import os
import time
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from config import ServiceSettings, TracingSettings
from implementations.observability.no_tracing import NoTracing
from protocols import TracerProtocol

log = structlog.get_logger("tracing")


def tracing(
    settings: TracingSettings, service: ServiceSettings
) -> tuple[TracerProtocol, Callable[[], Awaitable[None]]]:
    """The tracer, and the function that closes it, with two seconds to send buffered spans."""
    if settings.otlp_endpoint is None:
        return NoTracing(), _nothing_to_send
    _ignore_foreign_settings()
    from implementations.observability.open_telemetry import OpenTelemetry  # noqa: PLC0415  30 MiB, half a second
    from implementations.observability.span_export import (  # noqa: PLC0415  likewise
        Counted,
        Exchanges,
        close,
        otlp_exporter,
        tracer_provider,
    )

    exchanges = Exchanges()
    exporter = Counted(otlp_exporter(settings.otlp_endpoint, exchanges), exchanges, clock=time.monotonic)
    provider = tracer_provider(exporter, service=service, sample_ratio=settings.sample_ratio)
    return OpenTelemetry(provider), partial(close, provider, exporter)


async def _nothing_to_send() -> None:
    """Nothing was recorded."""


def _ignore_foreign_settings() -> None:
    """Remove the SDK's own variables (some forty, headers among them), so that only our settings apply."""
    ignored = sorted(name for name in os.environ if name.startswith("OTEL_"))
    for name in ignored:
        del os.environ[name]
    if ignored:
        log.warning("otel_variables_ignored", names=ignored)
