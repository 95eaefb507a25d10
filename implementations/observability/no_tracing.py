"""No spans. A caller's own trace is named all the same, in the answer, the log and the events, and goes no further."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from protocols import Attributes, SpanKind, SpanProtocol, TraceContext

_caller: ContextVar[TraceContext | None] = ContextVar("caller", default=None)


class NoSpan:
    """Hears nothing."""

    def set_attributes(self, attributes: Attributes) -> None:
        """Forget it."""

    def fail(self, error_type: str) -> None:
        """Forget it."""


NO_SPAN = NoSpan()


class NoTracing:
    """The tracer of a service that has no collector."""

    records = False

    @contextmanager
    def serve(self, name: str, *, caller: TraceContext | None, attributes: Attributes) -> Iterator[SpanProtocol]:  # noqa: ARG002  the protocol's
        """Remember whose trace it is."""
        token = _caller.set(caller)
        try:
            yield NO_SPAN
        finally:
            _caller.reset(token)

    @contextmanager
    def span(self, name: str, *, attributes: Attributes, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[SpanProtocol]:  # noqa: ARG002  the protocol's
        """Nothing."""
        yield NO_SPAN

    def current(self) -> TraceContext | None:
        """The caller's own place."""
        return _caller.get()
