"""Trace propagation: to providers only if spans are recorded here, to events always."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from api_models import ProviderName
from protocols import TracerProtocol


def outbound_headers(tracer: TracerProtocol) -> Callable[[], Mapping[str, str]]:
    """The trace context headers sent to a provider, and nothing else."""
    if not tracer.records:
        return dict

    def headers() -> Mapping[str, str]:
        here = tracer.current()
        return {} if here is None else here.headers()

    return headers


def traceparent(tracer: TracerProtocol) -> Callable[[], str | None]:
    """The traceparent of events; the caller's if no spans are recorded here."""

    def found() -> str | None:
        here = tracer.current()
        return None if here is None else here.traceparent

    return found


def queueing(
    tracer: TracerProtocol, provider: ProviderName | None = None
) -> Callable[[], AbstractContextManager[object]]:
    """A span around queueing: for a provider, or without one for admission to the service."""
    if not tracer.records:
        return nullcontext
    if provider is None:
        return lambda: tracer.span("queue admission", attributes={})
    return lambda: tracer.span("queue provider", attributes={"llm_provider.provider": provider})
