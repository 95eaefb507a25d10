"""Spans of OpenTelemetry. An exception's text never gets into one, only the word for its kind."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, Status, StatusCode, TraceFlags, TraceState

from api_models import AttemptOutcome
from config import VERSION
from exceptions import ProviderError, ServiceError
from protocols import Attributes, SpanKind, SpanProtocol, TraceContext

SCOPE = "llm-provider-service"
KINDS = {
    SpanKind.SERVER: trace.SpanKind.SERVER,
    SpanKind.CLIENT: trace.SpanKind.CLIENT,
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
}


class OpenTelemetry:
    """The tracer of a service that has a collector; spans go where the provider sends them."""

    records = True

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer(SCOPE, VERSION)

    @contextmanager
    def serve(self, name: str, *, caller: TraceContext | None, attributes: Attributes) -> Iterator[SpanProtocol]:
        """The span of a request: a child of the caller's, or the root of a new trace."""
        with self._opened(name, SpanKind.SERVER, attributes, _remote(caller)) as span:
            yield span

    @contextmanager
    def span(self, name: str, *, attributes: Attributes, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[SpanProtocol]:
        """A child of the current span. A task started in it goes on in this trace."""
        with self._opened(name, kind, attributes, None) as span:
            yield span

    def here(self) -> TraceContext | None:
        """The current span, sampled or not."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return TraceContext(
            trace_id=trace.format_trace_id(context.trace_id),
            span_id=trace.format_span_id(context.span_id),
            flags=f"{context.trace_flags:02x}",
            state=context.trace_state.to_header() or None,
        )

    @contextmanager
    def _opened(
        self, name: str, kind: SpanKind, attributes: Attributes, parent: Context | None
    ) -> Iterator["RecordedSpan"]:
        with self._tracer.start_as_current_span(
            name,
            context=parent,
            kind=KINDS[kind],
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as inner:
            span = RecordedSpan(inner)
            try:
                yield span
            except BaseException as error:
                span.fail(error_type(error))
                raise


class RecordedSpan:
    """One span under way."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._has_failed = False

    def tell(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def fail(self, error_type: str) -> None:
        """Mark it as an error of this type, unless it has one."""
        if not self._has_failed:
            self._has_failed = True
            self._span.set_attribute("error.type", error_type)
            self._span.set_status(Status(StatusCode.ERROR))


def error_type(error: BaseException) -> str:
    """The word under which reports and callers know the failure; the class of one that is not ours."""
    if isinstance(error, ProviderError):
        return error.outcome
    if isinstance(error, ServiceError):
        return error.code
    return AttemptOutcome.CANCELLED if isinstance(error, asyncio.CancelledError) else type(error).__name__


def _remote(caller: TraceContext | None) -> Context:
    """Where the caller stands; nothing of what else goes on in this process."""
    if caller is None:
        return Context()
    context = SpanContext(
        trace_id=int(caller.trace_id, 16),
        span_id=int(caller.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(caller.flags, 16)),
        trace_state=TraceState.from_header([caller.state] if caller.state else []),
    )
    return trace.set_span_in_context(NonRecordingSpan(context), Context())
