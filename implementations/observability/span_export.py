"""Span export: buffered in bounded memory and sent by a background thread. No request waits for it.

A collector that is down, hangs or refuses costs only spans, and one log line a minute and at the end.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from requests.adapters import HTTPAdapter

from config import ServiceSettings
from protocols import ClockProtocol

EXPORT_TIMEOUT_S = 3.0
CLOSE_TIMEOUT_S = 2.0
LINE_EVERY_S = 60.0
QUEUE_SPANS = 4096
BATCH_SPANS = 256
DELAY_MS = 1000
ATTRIBUTE_CHARACTERS = 256
MOST_ANSWER_BYTES = 64 * 1024
TRACES = "/v1/traces"
FOREIGN_LOGGERS = ("opentelemetry", "urllib3")

log = structlog.get_logger("tracing")


def tracer_provider(exporter: SpanExporter, *, service: ServiceSettings, sample_ratio: float) -> TracerProvider:
    """A TracerProvider that exports in batches. For a caller's trace, the caller's sampling decision applies."""
    provider = TracerProvider(
        resource=Resource(
            {
                "service.name": service.name,
                "service.version": service.version,
                "service.instance.id": str(uuid4()),
                "deployment.environment.name": service.environment,
            }
        ),
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        span_limits=SpanLimits(max_span_attribute_length=ATTRIBUTE_CHARACTERS),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=QUEUE_SPANS,
            max_export_batch_size=BATCH_SPANS,
            schedule_delay_millis=DELAY_MS,
            export_timeout_millis=EXPORT_TIMEOUT_S * 1000,
        )
    )
    return provider


class Exchanges(HTTPAdapter):
    """The exchanges with the collector, whose certificate OpenSSL's default authorities vouch for, as for all servers.

    last: how the latest one ended, as a status or the class of what broke it.
    """

    last = ""

    def cert_verify(self, *_: object) -> None:
        """Name none to urllib3, which then loads the defaults; requests would name those it brings along."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Remember how it ended."""
        try:
            answer = super().send(*args, **kwargs)
        except requests.RequestException as error:
            cause: BaseException = error
            while cause.__context__ is not None:
                cause = cause.__context__
            self.last = type(cause).__name__
            raise
        self.last = str(answer.status_code)
        return answer


def drop_the_rest(answer: requests.Response, **_: object) -> None:
    """Read a usual body, so that its connection is kept, and no more: only the status counts, and it may be endless."""
    with contextlib.suppress(Exception):  # the status has come: a body that breaks off takes nothing back
        answer.raw.read(MOST_ANSWER_BYTES, decode_content=False)
    answer.close()


def otlp_exporter(endpoint: str, exchanges: Exchanges) -> SpanExporter:
    """OTLP as protobuf over HTTP, without proxy, netrc or redirects. endpoint: with or without the path /v1/traces.

    Its own log is off; `Counted` logs instead.
    """
    for name in FOREIGN_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0  # one raises; a 3xx that is returned would count as accepted
    for scheme in ("http://", "https://"):
        session.mount(scheme, exchanges)
    session.hooks["response"] = [drop_the_rest]
    return OTLPSpanExporter(
        endpoint=f"{endpoint.removesuffix(TRACES)}{TRACES}",
        timeout=EXPORT_TIMEOUT_S,
        compression=Compression.Gzip,
        session=session,
    )


class Counted(SpanExporter):
    """An exporter that logs, once a minute while any are lost, how many spans were, and why the last of them.

    clock: monotonic seconds. is_failing: the last batch was lost.
    """

    def __init__(self, exporter: SpanExporter, exchanges: Exchanges, *, clock: ClockProtocol) -> None:
        self._exporter = exporter
        self._exchanges = exchanges
        self._clock = clock
        self._lost = 0
        self._last_reason = ""
        self._quiet_until_s = clock()
        self.is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans; count and log lost ones."""
        result = self._exporter.export(spans)
        self.is_failing = result is SpanExportResult.FAILURE
        if self.is_failing:
            self._lost += len(spans)
            self._last_reason = self._exchanges.last
        if self._clock() >= self._quiet_until_s:
            self.log_loss()
        return result

    def log_loss(self) -> None:
        """Log the loss since the last line, if any."""
        if self._lost:
            log.warning("spans_lost", spans=self._lost, last_reason=self._last_reason)
            self._lost, self._quiet_until_s = 0, self._clock() + LINE_EVERY_S

    def shutdown(self) -> None:
        """Shut down the exporter."""
        self._exporter.shutdown()


async def close(provider: TracerProvider, exporter: Counted) -> None:
    """Send what is buffered, unless the last batch was lost. A thread that hangs delays the exit by CLOSE_TIMEOUT_S."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    if exporter.is_failing:
        exporter.shutdown()

    def shut_down() -> None:
        provider.shutdown()
        with contextlib.suppress(RuntimeError):  # the wait timed out and the loop is closed
            loop.call_soon_threadsafe(done.set)

    try:
        threading.Thread(target=shut_down, name="tracing_end", daemon=True).start()
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await done.wait()
    except (TimeoutError, RuntimeError):  # the latter where no thread can be started
        log.warning("spans_not_sent_at_exit")
    exporter.log_loss()
