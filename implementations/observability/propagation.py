"""How a trace goes on: to the providers only when spans are made here, to events always."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from api_models import ProviderName
from protocols import TracerProtocol


def outbound_headers(tracer: TracerProtocol) -> Callable[[], Mapping[str, str]]:
    """What a provider is told: the trace and the span that asks it, never anything else."""
    if not tracer.records:
        return dict

    def headers() -> Mapping[str, str]:
        here = tracer.current()
        return {} if here is None else here.headers()

    return headers


def traceparent(tracer: TracerProtocol) -> Callable[[], str | None]:
    """What an event carries; a caller's own one when no spans are made here."""

    def found() -> str | None:
        here = tracer.current()
        return None if here is None else here.traceparent

    return found


def queueing(
    tracer: TracerProtocol, provider: ProviderName | None = None
) -> Callable[[], AbstractContextManager[object]]:
    """A span while one waits: for a provider, or without one for a place in the service."""
    if not tracer.records:
        return nullcontext
    if provider is None:
        return lambda: tracer.span("queue admission", attributes={})
    return lambda: tracer.span("queue provider", attributes={"llm_provider.provider": provider})
