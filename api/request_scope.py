"""What every request has: a correlation id in and out, one log line and one count when it ends."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from uuid import UUID, uuid4

import structlog
from pydantic import TypeAdapter, ValidationError
from quart.typing import ResponseTypes

from api.application import Application, Finish
from api.connection import ServiceRequest
from api_models import CallerOutcome, DisconnectPhase
from exceptions import ServiceError
from metrics import CALLER_LEFT, Metrics
from protocols import AdmissionProtocol

CORRELATION_HEADER = "X-Correlation-ID"
CORRELATION_LINE = CORRELATION_HEADER.lower().encode()
# What probes, scrapers and the operations page ask again and again.
QUIET_PATHS = frozenset(
    {
        "/healthz",
        "/livez",
        "/readyz",
        "/metrics",
        "/api/v1/operations",
        "/api/v1/providers",
        "/api/v1/cache/stats",
    }
)
AS_IN_THE_BODY = TypeAdapter(UUID)  # uuid.UUID itself takes more spellings than the body's field does
UNKNOWN_PEER = "unknown"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(slots=True)
class RequestScope:
    """What is known of the request under way. peer: tells where it came from, when somebody wants to know."""

    asked: ServiceRequest
    correlation_id: UUID
    began_s: float
    notes: dict[str, object] = field(default_factory=dict)
    phase: DisconnectPhase = DisconnectPhase.ANSWERING
    status: int = CALLER_LEFT
    caller: str | None = None
    failure: ServiceError | None = None
    trace_id: str | None = None
    peer: Callable[[], str] = lambda: UNKNOWN_PEER


_current: ContextVar[RequestScope] = ContextVar("request_scope")


def here() -> RequestScope:
    """The scope of the request that this code runs for. Raises LookupError outside of one."""
    return _current.get()


def adopt_correlation_id(value: object) -> UUID:
    """Use the value from now on if it is a UUID as text; else keep the header's or our own. Returns the one in use."""
    scope, found = here(), _uuid(value)
    if found is not None:
        scope.correlation_id = found
        structlog.contextvars.bind_contextvars(correlation_id=str(found))
    return scope.correlation_id


def caller() -> str:
    """Who asks. Raises LookupError where nobody looked who it is."""
    found = here().caller
    if found is None:
        raise LookupError("the gate was not passed")
    return found


def asked_by(name: str) -> None:
    """This request is booked under that name, which must come from a closed set."""
    scope = here()
    scope.caller = scope.notes["caller"] = name


def note(**fields: object) -> None:
    """Add fields to the line that is written when this request ends."""
    here().notes.update(fields)


def fail(failure: ServiceError) -> None:
    """Say why this request ends without the answer that was asked for."""
    here().failure = failure
    note(error_type=failure.code, error_details=failure.details, failed_provider=failure.provider)


def install(app: Application, *, metrics: Metrics, admission: AdmissionProtocol) -> None:
    """Every request of this application gets a scope, an identity, a log line and a place in the metrics."""
    log = structlog.get_logger("request").bind()  # as it is configured now; else that is looked up for every line
    in_flight = 0
    metrics.http_in_flight.set_function(lambda: in_flight)

    def finish(scope: RequestScope, response: ResponseTypes) -> None:
        scope.status = response.status_code
        response.headers[CORRELATION_HEADER] = str(scope.correlation_id)
        if not response.headers.getlist("Cache-Control"):
            response.headers["Cache-Control"] = "no-store"
        if admission.is_draining:
            response.headers["Connection"] = "close"

    def report(scope: RequestScope, asked: ServiceRequest) -> None:
        elapsed_s = time.perf_counter() - scope.began_s
        rule = asked.url_rule.rule if asked.url_rule else "unmatched"
        method = asked.method if asked.method in METHODS else "other"
        metrics.http_request_ended(method=method, endpoint=rule, status=scope.status, elapsed_s=elapsed_s)
        if scope.caller is not None:
            metrics.caller_requests.of(scope.caller, _outcome(scope.status)).inc()
        if scope.status == CALLER_LEFT:
            metrics.client_disconnects.of(scope.phase).inc()
        if scope.failure is not None:
            metrics.turned_away(scope.failure)
        write = log.debug if asked.path in QUIET_PATHS else log.info
        write(
            "request_finished",
            method=method,
            route=rule,
            status=scope.status,
            duration_ms=round(elapsed_s * 1000, 1),
            **scope.notes,
        )

    @contextmanager
    def around(asked: ServiceRequest) -> Iterator[Finish]:
        nonlocal in_flight
        correlation_id = _uuid(next(iter(asked.lines(CORRELATION_LINE)), None)) or uuid4()
        scope = RequestScope(asked, correlation_id, time.perf_counter())
        _current.set(scope)
        structlog.contextvars.clear_contextvars()  # the server begins a pipelined request inside the one before it
        structlog.contextvars.bind_contextvars(correlation_id=str(correlation_id))
        in_flight += 1
        try:
            yield partial(finish, scope)
        finally:
            in_flight -= 1
            report(scope, asked)

    app.scoped = around


def _outcome(status: int) -> CallerOutcome:
    if status == CALLER_LEFT:
        return CallerOutcome.LEFT
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return CallerOutcome.FAILED
    return CallerOutcome.REFUSED if status >= HTTPStatus.BAD_REQUEST else CallerOutcome.SUCCESS


def _uuid(value: object) -> UUID | None:
    try:
        return AS_IN_THE_BODY.validate_python(value) if isinstance(value, str) else None
    except ValidationError:
        return None
