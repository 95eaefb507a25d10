"""Reports every request: its correlation id to the caller, one log line and one count when it ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import structlog
from quart.typing import ResponseTypes

from api.application import Application, Finish
from api.connection import ServiceRequest
from api.request_scope import CORRELATION_HEADER, RequestScope, begin
from api_models import CallerOutcome
from metrics import CALLER_LEFT, Metrics
from protocols import AdmissionProtocol

# Polled by probes, scrapers and the operations page.
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
FIRST_ERROR_STATUS = 400
FIRST_FAILURE_STATUS = 500
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def install(app: Application, *, metrics: Metrics, admission: AdmissionProtocol) -> None:
    """Give every request of this application a scope, a correlation id, a log line and its metrics."""
    app.scoped = _Report(metrics, admission).around


class _Report:
    def __init__(self, metrics: Metrics, admission: AdmissionProtocol) -> None:
        self._in_flight = 0
        self._metrics = metrics
        self._admission = admission
        self._log = structlog.get_logger("request").bind()  # bound once, not looked up for each line
        metrics.http_in_flight.set_function(lambda: self._in_flight)

    @contextmanager
    def around(self, request: ServiceRequest) -> Iterator[Finish]:
        scope = begin(request)
        self._in_flight += 1
        try:
            yield partial(self._finish, scope)
        finally:
            self._in_flight -= 1
            self._write(scope)

    def _finish(self, scope: RequestScope, response: ResponseTypes) -> None:
        scope.status, scope.answered_s = response.status_code, time.perf_counter()
        response.headers.add(CORRELATION_HEADER, str(scope.correlation_id))
        if not response.headers.getlist("Cache-Control"):
            response.headers.add("Cache-Control", "no-store")
        if self._admission.is_draining:
            response.headers["Connection"] = "close"

    def _write(self, scope: RequestScope) -> None:
        request, elapsed_s = scope.request, (scope.answered_s or time.perf_counter()) - scope.began_s
        rule = request.url_rule.rule if request.url_rule else "unmatched"
        method = request.method if request.method in METHODS else "other"
        self._count(scope, method, rule, elapsed_s)
        write = self._log.debug if request.path in QUIET_PATHS else self._log.info
        write(
            "request_finished",
            method=method,
            route=rule,
            status=scope.status,
            duration_ms=round(elapsed_s * 1000, 1),
            **scope.notes,
        )

    def _count(self, scope: RequestScope, method: str, rule: str, elapsed_s: float) -> None:
        metrics = self._metrics
        metrics.http_request_ended(method=method, endpoint=rule, status=scope.status, elapsed_s=elapsed_s)
        if scope.caller is not None:
            metrics.caller_requests.of(scope.caller, _outcome(scope.status)).inc()
        if scope.status == CALLER_LEFT:
            metrics.client_disconnects.of(scope.phase).inc()
        if scope.failure is not None:
            metrics.turned_away(scope.failure)


def _outcome(status: int) -> CallerOutcome:
    if status == CALLER_LEFT:
        return CallerOutcome.LEFT
    if status >= FIRST_FAILURE_STATUS:
        return CallerOutcome.FAILED
    return CallerOutcome.REFUSED if status >= FIRST_ERROR_STATUS else CallerOutcome.SUCCESS
