"""Maps every failure between us and a provider to exactly one class.

Checked in this order: the HTTP library's exception, the codes in the error body, phrases in its message, the status.
Codes are listed by priority, because one body may hold several (a throttled request and the exhausted quota behind
it). Sources: the providers' error references, as of November 2026.
"""

import errno
import ssl
from collections.abc import Mapping
from typing import TypeAlias

import aiohttp

from api_models import JsonObject
from exceptions import (
    BrokenReplyError,
    ConnectionLostError,
    ContentRefusedError,
    ContextTooLongError,
    NoFileLeftError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderOverloadedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitedError,
    RequestRejectedError,
    UnknownModelError,
    UnreadableReplyError,
    UntrustedProviderError,
)
from implementations.wire.error_body import ErrorBody
from implementations.wire.json_reading import at
from implementations.wire.retry_after import wait_s

Kind: TypeAlias = type[ProviderError]

NO_FILE_LEFT = frozenset({errno.EMFILE, errno.ENFILE})

# The first match wins: aiohttp's classes have several parents.
EXCHANGES: tuple[tuple[type[BaseException], Kind, str], ...] = (
    (ssl.SSLCertVerificationError, UntrustedProviderError, "its certificate is not valid"),
    (aiohttp.ServerFingerprintMismatch, UntrustedProviderError, "its certificate is not the expected one"),
    (aiohttp.ClientSSLError, ProviderConnectionError, "the TLS handshake failed"),
    (aiohttp.ConnectionTimeoutError, ProviderConnectionError, "connecting took too long"),
    (aiohttp.ClientConnectorDNSError, ProviderConnectionError, "its name could not be resolved"),
    (aiohttp.ClientProxyConnectionError, ProviderConnectionError, "the proxy could not be reached"),
    (aiohttp.ClientHttpProxyError, ProviderConnectionError, "the proxy refused"),
    (aiohttp.ClientConnectorError, ProviderConnectionError, "the connection was refused"),
    (TimeoutError, ProviderTimeoutError, "no complete answer within the attempt timeout"),
    (aiohttp.ClientConnectionError, ConnectionLostError, "the connection broke"),
    (aiohttp.UploadAbortedError, ProviderConnectionError, "the connection broke while we sent"),
    (aiohttp.ClientPayloadError, BrokenReplyError, "the answer was cut off"),
    (aiohttp.ClientResponseError, BrokenReplyError, "the answer is not HTTP"),
    (aiohttp.RedirectClientError, UnreadableReplyError, "the answer is a redirect"),
    (aiohttp.InvalidURL, UnknownModelError, "its address is not valid"),
    (aiohttp.NonHttpUrlClientError, UnknownModelError, "its address is not valid"),
    (aiohttp.ClientError, ProviderConnectionError, "the exchange failed"),
    (OSError, ProviderConnectionError, "the connection could not be opened"),
)

WORDS: Mapping[str, Kind] = {
    # A temporary shortage, sent with a payment status.
    "in_flight_budget_exhausted": RateLimitedError,
    # Money and quota.
    "insufficient_quota": QuotaExceededError,
    "billing_hard_limit_reached": QuotaExceededError,
    "credit_balance_exhausted": QuotaExceededError,
    "organization_spend_limit_exceeded": QuotaExceededError,
    "project_spend_limit_exceeded": QuotaExceededError,
    "organization_usage_limit_exceeded": QuotaExceededError,
    "enforced_spend_limit_reached": QuotaExceededError,
    "contract_spend_limit_reached": QuotaExceededError,
    "linked_organization_billing_unavailable": QuotaExceededError,
    "linked_organization_spend_limit_reached": QuotaExceededError,
    "billing_error": QuotaExceededError,
    "payment_required": QuotaExceededError,
    "PerDay": QuotaExceededError,
    # The text itself is refused.
    "invalid_prompt": ContentRefusedError,
    "content_policy_violation": ContentRefusedError,
    "content_filter": ContentRefusedError,
    "refusal": ContentRefusedError,
    # The text does not fit.
    "context_length_exceeded": ContextTooLongError,
    "token_limit_exceeded": ContextTooLongError,
    "string_too_long": ContextTooLongError,
    # The model.
    "model_not_found": UnknownModelError,
    "no_endpoints": UnknownModelError,
    "constraint_filtered": UnknownModelError,
    "privacy_restricted": UnknownModelError,
    "model_deprecated": UnknownModelError,
    "not_found": UnknownModelError,
    "not_found_error": UnknownModelError,
    # The key and the account.
    "API_KEY_INVALID": ProviderAuthenticationError,
    "FAILED_PRECONDITION": ProviderAuthenticationError,
    "invalid_api_key": ProviderAuthenticationError,
    "authentication": ProviderAuthenticationError,
    "authentication_error": ProviderAuthenticationError,
    "permission_denied": ProviderAuthenticationError,
    "permission_error": ProviderAuthenticationError,
    # Throttling and overload.
    "rate_limit_exceeded": RateLimitedError,
    "rate_limit_error": RateLimitedError,
    "overloaded_error": ProviderOverloadedError,
    "server_is_overloaded": ProviderOverloadedError,
    "provider_overloaded": ProviderOverloadedError,
    # Provider failures.
    "provider_unavailable": ProviderUnavailableError,
    "api_error": ProviderUnavailableError,
    "timeout_error": ProviderUnavailableError,
    "server_error": ProviderUnavailableError,
    "server": ProviderUnavailableError,
    "timeout": ProviderUnavailableError,
    # Our request.
    "request_too_large": RequestRejectedError,
    "payload_too_large": RequestRejectedError,
    "max_tokens_exceeded": RequestRejectedError,
    "unprocessable": RequestRejectedError,
}

# Matched only with a status that blames the request; for these cases the providers send no code.
PHRASES: Mapping[str, Kind] = {
    "api usage limits": QuotaExceededError,
    "api key not valid": ProviderAuthenticationError,
    "api key expired": ProviderAuthenticationError,
    "prompt is too long": ContextTooLongError,
    "maximum context length": ContextTooLongError,
    "input token count": ContextTooLongError,
}
BLAMES_THE_REQUEST = frozenset({400, 413, 422})

STATUSES: Mapping[int, Kind] = {
    400: RequestRejectedError,
    401: ProviderAuthenticationError,
    402: QuotaExceededError,
    403: ProviderAuthenticationError,
    404: UnknownModelError,
    408: ProviderUnavailableError,
    409: ProviderUnavailableError,
    410: UnknownModelError,
    425: ProviderUnavailableError,
    429: RateLimitedError,
    499: ProviderUnavailableError,
    503: ProviderOverloadedError,
    529: ProviderOverloadedError,
}
UNSAID_STATUS = 500
MODERATION = 403
HUNDREDS: Mapping[int, Kind] = {3: UnreadableReplyError, 4: RequestRejectedError, 5: ProviderUnavailableError}


def failure_of_exchange(error: BaseException) -> ProviderError:
    """The class for an exception of the HTTP library; drops its text, which may hold a URL."""
    if isinstance(error, OSError) and error.errno in NO_FILE_LEFT:
        return NoFileLeftError("this process has no file descriptor left for a connection", retry_after_s=1.0)
    kind, details = next((kind, details) for raised, kind, details in EXCHANGES if isinstance(error, raised))
    return kind(details)


def without_frames(error: BaseException) -> BaseException:
    """Strip tracebacks and causes from the error: their frames hold the request body, and some the error (a cycle)."""
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None:
            pending += (one.__cause__, one.__context__)
            one.__traceback__ = one.__cause__ = one.__context__ = None
    return error


def failure_of_answer(status: int, headers: Mapping[str, str], body: object, *, now_s: float) -> ProviderError:
    """The class for an error response. body: its JSON, None if it is not JSON; now_s: epoch seconds."""
    error_body = ErrorBody.of(body)
    kind, details = _kind(status, error_body)
    return kind(
        details,
        retry_after_s=wait_s(headers, error_body, now_s=now_s),
        is_final=headers.get("x-should-retry", "").lower() == "false" or error_body.forbids_repeating,
    )


def failure_in_success(body: JsonObject) -> ProviderError | None:
    """The class for an error inside a 2xx response, None if there is none; its code replaces the status."""
    if not at(body, "error"):
        return None
    error_body = ErrorBody.of(body)
    kind, details = _kind(error_body.code_as_status or UNSAID_STATUS, error_body)
    return kind(details, retry_after_s=wait_s({}, error_body, now_s=0), is_final=error_body.forbids_repeating)


def _kind(status: int, error_body: ErrorBody) -> tuple[Kind, str]:
    """The class and our own details. An error that the provider marks as retryable is a temporary shortage."""
    if status == MODERATION and error_body.is_moderated:
        return ContentRefusedError, "it answered 403, moderated"
    kind, details = _blamed(status, error_body)
    invited = error_body.invites_repeating and kind in {QuotaExceededError, UnknownModelError}
    return (RateLimitedError if invited else kind), details


def _blamed(status: int, error_body: ErrorBody) -> tuple[Kind, str]:
    word = next((word for word in WORDS if word in error_body.words), None)
    if word is not None:
        return WORDS[word], f"it answered {status}, {word}"
    if status in BLAMES_THE_REQUEST:
        phrase = next((phrase for phrase in PHRASES if phrase in error_body.sentence), None)
        if phrase is not None:
            return PHRASES[phrase], f"it answered {status}, {phrase}"
    return STATUSES.get(status) or HUNDREDS.get(status // 100, BrokenReplyError), f"it answered {status}"
