"""Turns every failure into the one error body, which never contains the text of a foreign exception."""

from http import HTTPStatus
from math import ceil
from uuid import UUID

import structlog
from quart import Quart, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from api.request_scope import current_scope, note_failure
from api.response_rendering import json_answer
from api_models import ErrorBody
from exceptions import (
    AdminAddressRefusedError,
    AdminKeyRefusedError,
    AdminTriedTooOftenError,
    BodyTooLargeError,
    BodyTooSlowError,
    CallerKeyRefusedError,
    DefectError,
    MethodNotAllowedError,
    RouteNotFoundError,
    ServiceError,
)
from protocols import HistoryProtocol

log = structlog.get_logger("errors")

# What Quart and the reading of the body raise.
BY_STATUS: dict[int, tuple[type[ServiceError], str]] = {
    404: (RouteNotFoundError, "/openapi.json lists the paths"),
    405: (MethodNotAllowedError, "the Allow header names the methods"),
    408: (BodyTooSlowError, "send the body faster"),
    413: (BodyTooLargeError, "send a smaller body"),
}
# Port scans and wrong keys must not push real errors out of the history.
NOT_IN_THE_HISTORY = (
    RouteNotFoundError,
    MethodNotAllowedError,
    CallerKeyRefusedError,
    AdminAddressRefusedError,
    AdminKeyRefusedError,
    AdminTriedTooOftenError,
)


def install(app: Quart, *, history: HistoryProtocol) -> None:
    """Register one handler for all errors; only here are failures noted for the log and recorded in the history."""

    async def render(error: Exception) -> Response:
        failure = _known(error)
        if isinstance(failure, DefectError):
            log.error("defect", exc_info=error)
        note_failure(failure)
        if not isinstance(failure, NOT_IN_THE_HISTORY):
            history.failed(failure, correlation_id=current_scope().correlation_id)
        return _rendered(failure, error)

    app.register_error_handler(Exception, render)


def _rendered(failure: ServiceError, error: Exception) -> Response:
    """The error body with its status and headers."""
    body = body_of(failure, current_scope().correlation_id, current_scope().trace_id)
    response = json_answer(body, status=failure.status)
    if body.retry_after is not None:
        response.headers["Retry-After"] = str(body.retry_after)
    if failure.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def body_of(failure: ServiceError, correlation_id: UUID, trace_id: str | None = None) -> ErrorBody:
    """The error body of this failure."""
    return ErrorBody(
        error=failure.sentence,
        error_type=failure.code,
        details=failure.details,
        correlation_id=correlation_id,
        retry_after=None if failure.retry_after_s is None else max(0, ceil(failure.retry_after_s)),
        provider=failure.provider,
        trace_id=trace_id,
    )


def _known(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, HTTPException) and error.code in BY_STATUS:
        failure, details = BY_STATUS[error.code]
        return failure(details)
    return DefectError("search the log for the correlation id")
