"""A tracer without spans. The caller's trace id still appears in responses, logs and events, but is not propagated."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from protocols import Attributes, SpanProtocol, TraceContext

_caller: ContextVar[TraceContext | None] = ContextVar("caller", default=None)


class NoSpan:
    """A span that records nothing."""

    def set_attributes(self, attributes: Attributes) -> None:
        """Do nothing."""

    def fail(self, error_type: str) -> None:
        """Do nothing."""


NO_SPAN = NoSpan()


class NoTracing:
    """The tracer used without a collector."""

    records = False

    @contextmanager
    def serve(self, name: str, *, caller: TraceContext | None, attributes: Attributes) -> Iterator[SpanProtocol]:  # noqa: ARG002  the protocol's
        """Keep the caller's trace context for the block."""
        token = _caller.set(caller)
        try:
            yield NO_SPAN
        finally:
            _caller.reset(token)

    @contextmanager
    def span(self, name: str, *, attributes: Attributes, is_call: bool = False) -> Iterator[SpanProtocol]:  # noqa: ARG002  the protocol's
        """No span."""
        yield NO_SPAN

    def current(self) -> TraceContext | None:
        """The caller's trace context."""
        return _caller.get()
