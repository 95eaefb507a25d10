"""The trace of a request: it continues the caller's or begins one. Probes and scrapes have none.

A span tells the route and never the path, which may hold whatever somebody typed.
"""

from collections.abc import Mapping
from contextlib import ExitStack

import structlog
from quart import Quart, Request, g, request

from api.request_scope import METHODS, QUIET_PATHS, correlation_id, noted, outcome
from metrics import CALLER_LEFT
from protocols import Attributes, TraceContext, TracerProtocol

FIRST_ERROR_STATUS = 400
FIRST_FAILURE_STATUS = 500
LEFT = "caller_left"
NOTES = ("provider", "model", "cache", "attempts", "cost_usd")


def install(app: Quart, *, tracer: TracerProtocol) -> None:
    """Register the hooks; those of the request's scope come first."""

    async def begin() -> None:
        g.span = None
        caller = _caller(request)
        if request.path in QUIET_PATHS or (caller is None and not tracer.records):
            return
        g.tracing = ExitStack()
        g.span = g.tracing.enter_context(tracer.serve(_name(request), caller=caller, attributes=_asked(request)))
        here = tracer.here()
        if here is not None:
            g.trace_id = here.trace_id
            structlog.contextvars.bind_contextvars(trace_id=here.trace_id)
            if tracer.records:
                structlog.contextvars.bind_contextvars(span_id=here.span_id)

    async def end(_error: BaseException | None) -> None:
        if g.get("span") is None:
            return
        with g.tracing:
            g.span.tell(_answered(noted(), outcome()))
            if outcome() >= FIRST_FAILURE_STATUS:
                g.span.fail(_error_type(noted(), outcome()))

    app.before_request(begin)
    app.teardown_request(end)


def _caller(request: Request) -> TraceContext | None:
    """Two traceparents are as good as none; several lines of a tracestate are one list."""
    parents = request.headers.getlist("traceparent")
    return TraceContext.read(parents[0], ",".join(request.headers.getlist("tracestate"))) if len(parents) == 1 else None


def _name(request: Request) -> str:
    method = request.method if request.method in METHODS else "HTTP"
    return f"{method} {request.url_rule.rule}" if request.url_rule else method


def _asked(request: Request) -> Attributes:
    asked = {
        "http.request.method": request.method if request.method in METHODS else "_OTHER",
        "url.scheme": request.scheme,
    }
    return {**asked, "http.route": request.url_rule.rule} if request.url_rule else asked


def _answered(notes: Mapping[str, object], status: int) -> Attributes:
    known = {f"llm_provider.{name}": notes.get(name) for name in NOTES}
    told: dict[str, str | bool | int | float | tuple[str, ...]] = {
        name: value for name, value in known.items() if isinstance(value, str | int | float)
    }
    told["llm_provider.correlation_id"] = str(correlation_id())
    if status != CALLER_LEFT:
        told["http.response.status_code"] = status
    if status >= FIRST_ERROR_STATUS:
        told["error.type"] = _error_type(notes, status)
    return told


def _error_type(notes: Mapping[str, object], status: int) -> str:
    """The contract's word; the failure of an answer is logged and told under the same one."""
    return LEFT if status == CALLER_LEFT else str(notes.get("error_type", status))
