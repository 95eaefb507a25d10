"""What every request has: a correlation id in and out, one log line and one count when it ends."""

import time
from collections.abc import Mapping
from http import HTTPStatus
from uuid import UUID, uuid4

import structlog
from pydantic import TypeAdapter, ValidationError
from quart import Quart, Response, g, request

from api_models import CallerOutcome, DisconnectPhase
from exceptions import ServiceError
from metrics import CALLER_LEFT, Metrics
from protocols import AdmissionProtocol

CORRELATION_HEADER = "X-Correlation-ID"
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
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = structlog.get_logger("request")


def adopt_correlation_id(value: object) -> UUID:
    """Use the value from now on if it is a UUID as text; else keep the header's or our own. Returns the one in use."""
    found = _uuid(value)
    if found is not None:
        _use(found)
    return correlation_id()


def correlation_id() -> UUID:
    """The one of this request."""
    found: UUID = g.correlation_id
    return found


def trace_id() -> str | None:
    """That of this request, 32 hex digits; None without tracing and without a caller's trace."""
    found: str | None = g.get("trace_id")
    return found


def caller() -> str:
    """Who asks."""
    found: str = g.caller
    return found


def asked_by(name: str) -> None:
    """This request is booked under that name, which must come from a closed set."""
    g.caller = name
    note(caller=name)


def note(**fields: object) -> None:
    """Add fields to the line that is written when this request ends."""
    g.log_fields.update(fields)


def noted() -> Mapping[str, object]:
    """What was noted so far."""
    found: Mapping[str, object] = g.log_fields
    return found


def outcome() -> int:
    """The status of the answer, or CALLER_LEFT while there is none."""
    found: int = g.get("status", CALLER_LEFT)
    return found


def enter(phase: DisconnectPhase) -> None:
    """Say what this request is at, in case its caller leaves."""
    g.phase = phase


def fail(failure: ServiceError) -> None:
    """Say why this request ends without the answer that was asked for."""
    g.failure = failure
    note(error_type=failure.code, error_details=failure.details, failed_provider=failure.provider)


def install(app: Quart, *, metrics: Metrics, admission: AdmissionProtocol) -> None:
    """Register the hooks."""

    async def begin() -> None:
        g.began_s = time.perf_counter()
        g.log_fields = {}
        g.failure = None
        g.phase = DisconnectPhase.ANSWERING
        metrics.http_in_flight.inc()
        structlog.contextvars.clear_contextvars()
        _use(_uuid(request.headers.get(CORRELATION_HEADER)) or uuid4())

    async def finish(response: Response) -> Response:
        g.status = response.status_code
        response.headers[CORRELATION_HEADER] = str(correlation_id())
        response.headers.setdefault("Cache-Control", "no-store")
        if admission.is_draining:
            response.headers["Connection"] = "close"
        return response

    async def report(_error: BaseException | None) -> None:
        status = outcome()
        elapsed_s = time.perf_counter() - g.began_s
        rule = request.url_rule.rule if request.url_rule else "unmatched"
        method = request.method if request.method in METHODS else "other"
        metrics.http_in_flight.dec()
        metrics.http_request_ended(method=method, endpoint=rule, status=status, elapsed_s=elapsed_s)
        if "caller" in g:
            metrics.caller_requests.of(g.caller, _outcome(status)).inc()
        if status == CALLER_LEFT:
            metrics.client_disconnects.of(g.phase).inc()
        if g.failure is not None:
            metrics.turned_away(g.failure)
        write = log.debug if request.path in QUIET_PATHS else log.info
        write(
            "request_finished",
            method=method,
            route=rule,
            status=status,
            duration_ms=round(elapsed_s * 1000, 1),
            **g.log_fields,
        )

    app.before_request(begin)
    app.after_request(finish)
    app.teardown_request(report)


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


def _use(found: UUID) -> None:
    g.correlation_id = found
    structlog.contextvars.bind_contextvars(correlation_id=str(found))
