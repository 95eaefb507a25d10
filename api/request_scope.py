"""The state of the current request, for all code that runs for it."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import structlog
from pydantic import TypeAdapter, ValidationError

from api.connection import ServiceRequest
from api_models import RequestPhase
from exceptions import ServiceError
from metrics import CALLER_LEFT

CORRELATION_HEADER = "X-Correlation-ID"
CORRELATION_LINE = CORRELATION_HEADER.lower().encode()
AS_IN_THE_BODY = TypeAdapter(UUID)  # uuid.UUID itself accepts more spellings than the body's field
UNKNOWN_PEER = "unknown"


@dataclass(slots=True)
class RequestScope:
    """The state of the current request. peer: returns the client's address, computed on demand."""

    request: ServiceRequest
    correlation_id: UUID
    began_s: float
    answered_s: float | None = None
    notes: dict[str, object] = field(default_factory=dict)
    phase: RequestPhase = RequestPhase.ANSWERING
    status: int = CALLER_LEFT
    caller: str | None = None
    failure: ServiceError | None = None
    trace_id: str | None = None
    peer: Callable[[], str] = lambda: UNKNOWN_PEER


_current: ContextVar[RequestScope] = ContextVar("request_scope")
current_scope = _current.get  # raises LookupError outside of a request


def begin(request: ServiceRequest) -> RequestScope:
    """Start the scope of this request; its correlation id is the caller's if that is a UUID."""
    correlation_id = _uuid(next(iter(request.lines(CORRELATION_LINE)), None)) or uuid4()
    scope = RequestScope(request, correlation_id, time.perf_counter())
    _current.set(scope)
    structlog.contextvars.clear_contextvars()  # a pipelined request starts in the context of its predecessor
    structlog.contextvars.bind_contextvars(correlation_id=str(correlation_id))
    return scope


def adopt_correlation_id(value: object) -> UUID:
    """Adopt the value if it is a UUID as text, else keep the header's or our own. Returns the one in use."""
    scope, found = current_scope(), _uuid(value)
    if found is not None:
        scope.correlation_id = found
        structlog.contextvars.bind_contextvars(correlation_id=str(found))
    return scope.correlation_id


def caller() -> str:
    """The caller's name. Raises LookupError before authentication."""
    found = current_scope().caller
    if found is None:
        raise LookupError("the caller is not authenticated")
    return found


def attribute_to(name: str) -> None:
    """Attribute this request to a caller; the name must come from a closed set."""
    scope = current_scope()
    scope.caller = scope.notes["caller"] = name


def note(**fields: object) -> None:
    """Add fields to the log line of this request."""
    current_scope().notes.update(fields)


def note_failure(failure: ServiceError) -> None:
    """Record why this request fails."""
    current_scope().failure = failure
    note(error_type=failure.code, error_details=failure.details, failed_provider=failure.provider)
    attempts = failure.attempts_in_words
    if attempts:
        note(attempts=len(attempts), cost_usd=failure.cost_usd, failed_attempts=attempts)


def _uuid(value: object) -> UUID | None:
    try:
        return AS_IN_THE_BODY.validate_python(value) if isinstance(value, str) else None
    except ValidationError:
        return None
