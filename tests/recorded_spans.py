"""Spans made as in the running service, and kept where a test can read them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dishka import Provider, Scope, provide
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from config import ServiceSettings
from implementations.observability.open_telemetry import OpenTelemetry
from implementations.observability.span_export import tracer_provider
from protocols import TracerProtocol


class RecordedSpans(Provider):
    """To be given to `create_app`: the service traces, and its spans end here."""

    def __init__(self, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
        super().__init__()
        self._provider = provider
        self._exporter = exporter
        self.own = OpenTelemetry(provider)

    @provide(scope=Scope.APP, override=True)
    def tracer(self) -> TracerProtocol:
        """Replace the tracer."""
        return self.own

    def all(self) -> list[ReadableSpan]:
        """Every span that has ended, the oldest first."""
        self._provider.force_flush()
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        """The only span of this name."""
        (found,) = (span for span in self.all() if span.name == name)
        return found

    def tree(self) -> list[str]:
        """The names, the oldest first, each indented below the one that it belongs to."""
        spans = self.all()
        depths: dict[int, int] = {}
        for span in spans:
            depths[ids(span)[1]] = depths.get(span.parent.span_id, -1) + 1 if span.parent else 0
        return ["  " * depths[ids(span)[1]] + span.name for span in spans]

    def everything(self) -> str:
        """All that a collector could read."""
        return " ".join(span.to_json() for span in self.all())


def ids(span: ReadableSpan) -> tuple[int, int]:
    """Of the trace and of the span."""
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def told(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes."""
    return dict(span.attributes or {})


@contextmanager
def recorded_spans(*, sample_ratio: float = 1.0) -> Iterator[RecordedSpans]:
    """Record until the block ends."""
    exporter = InMemorySpanExporter()
    provider = tracer_provider(exporter, service=ServiceSettings(), sample_ratio=sample_ratio)
    try:
        yield RecordedSpans(provider, exporter)
    finally:
        provider.shutdown()
