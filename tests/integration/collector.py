"""A collector of spans on a real socket that reads OTLP as protobuf, or does what a test lets it do."""

import gzip
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from tests.integration.service_process import silent


class Collector(ThreadingHTTPServer):
    """Keeps what it is sent and answers every batch with its status, unless its handler does something else."""

    def __init__(self, status: int, handler: type["Handler"], tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.scheme = "http"
        if tls is not None:
            self.scheme, self.socket = "https", tls.wrap_socket(self.socket, server_side=True)
        self.status = status
        self.batches: list[ExportTraceServiceRequest] = []
        self.paths: set[str] = set()
        self.header_names: set[str] = set()

    @property
    def url(self) -> str:
        """What the service is given."""
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    @property
    def resources(self) -> list[ResourceSpans]:
        """Everything that arrived, by batch."""
        return [resource for batch in self.batches for resource in batch.resource_spans]

    @property
    def spans(self) -> Mapping[str, Span]:
        """By name; of several the last."""
        scopes = [scope for resource in self.resources for scope in resource.scope_spans]
        return {span.name: span for scope in scopes for span in scope.spans}


class Handler(BaseHTTPRequestHandler):
    """Writes nothing on stderr."""

    server: Collector

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        """Keep it, and answer."""
        plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.batches.append(ExportTraceServiceRequest.FromString(plain))
        self.server.paths.add(self.path)
        self.server.header_names |= {name.lower() for name in self.headers}
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class calls it so
        """Say nothing."""


@contextmanager
def collecting(
    status: int = 200, *, handler: type[Handler] = Handler, tls: ssl.SSLContext | None = None
) -> Iterator[Collector]:
    """Listen until the block ends; with a context by TLS."""
    with Collector(status, handler, tls) as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


@contextmanager
def refusing() -> Iterator[str]:
    """A collector that has no room for anything."""
    with collecting(status=503) as collector:
        yield collector.url


@contextmanager
def hanging() -> Iterator[str]:
    """A collector that takes every connection and never answers."""
    with silent() as address:
        yield f"http://{address}"


def values(attributes: Any) -> dict[str, str]:
    """What attributes of OTLP say, as text."""
    return {one.key: _text(one) for one in attributes}


def _text(attribute: KeyValue) -> str:
    kind = attribute.value.WhichOneof("value")
    return str(getattr(attribute.value, kind)) if kind else ""
