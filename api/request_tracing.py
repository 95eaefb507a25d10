"""The trace of a request: it continues the caller's or starts one. Polled paths have none.

A span carries the route, never the path, which may contain arbitrary input.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import structlog

from api.application import Application
from api.connection import ServiceRequest
from api.request_report import FIRST_ERROR_STATUS, FIRST_FAILURE_STATUS, METHODS, QUIET_PATHS
from api.request_scope import RequestScope, current_scope
from metrics import CALLER_LEFT
from protocols import Attributes, AttributeValue, TraceContext, TracerProtocol

LEFT = "caller_left"
UNTRACED = nullcontext()
NOTES = ("provider", "model", "cache", "attempts", "cost_usd", "failed_provider")


def install(app: Application, *, tracer: TracerProtocol) -> None:
    """Give every request of this application a span, except for polled paths."""

    def around(request: ServiceRequest) -> AbstractContextManager[None]:
        caller = _caller(request)
        if request.path in QUIET_PATHS or (caller is None and not tracer.records):
            return UNTRACED
        return traced(request, caller)

    @contextmanager
    def traced(request: ServiceRequest, caller: TraceContext | None) -> Iterator[None]:
        scope, serving = current_scope(), ExitStack()
        span = serving.enter_context(
            tracer.serve(_name(request), caller=caller, attributes=_request_attributes(request))
        )
        trace = tracer.current()
        if trace is not None:
            scope.trace_id = trace.trace_id
            structlog.contextvars.bind_contextvars(trace_id=trace.trace_id)
            if tracer.records:
                structlog.contextvars.bind_contextvars(span_id=trace.span_id)
        try:
            yield
        finally:
            with serving:  # the status decides how the span ended, not an exception
                span.set_attributes(_response_attributes(scope))
                if scope.status >= FIRST_FAILURE_STATUS:
                    span.fail(_error_type(scope))

    app.traced = around


def _caller(request: ServiceRequest) -> TraceContext | None:
    """More than one traceparent is invalid; several tracestate lines form one list."""
    parents = request.lines(b"traceparent")
    return TraceContext.read(parents[0], ",".join(request.lines(b"tracestate"))) if len(parents) == 1 else None


def _name(request: ServiceRequest) -> str:
    method = request.method if request.method in METHODS else "HTTP"
    return f"{method} {request.url_rule.rule}" if request.url_rule else method


def _request_attributes(request: ServiceRequest) -> Attributes:
    always = {
        "http.request.method": request.method if request.method in METHODS else "_OTHER",
        "url.scheme": request.scheme,
    }
    return {**always, "http.route": request.url_rule.rule} if request.url_rule else always


def _response_attributes(scope: RequestScope) -> Attributes:
    known = {f"llm_provider.{name}": scope.notes.get(name) for name in NOTES}
    attributes: dict[str, AttributeValue] = {
        name: value for name, value in known.items() if isinstance(value, str | int | float)
    }
    attributes["llm_provider.correlation_id"] = str(scope.correlation_id)
    if scope.status != CALLER_LEFT:
        attributes["http.response.status_code"] = scope.status
    if scope.status >= FIRST_ERROR_STATUS:
        attributes["error.type"] = _error_type(scope)
    return attributes


def _error_type(scope: RequestScope) -> str:
    """The contract's error code, as in the log and the response."""
    return LEFT if scope.status == CALLER_LEFT else str(scope.notes.get("error_type", scope.status))
