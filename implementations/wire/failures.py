"""Maps every failure between us and a provider to exactly one class.

Checked in this order: what this machine lacks, the HTTP library's exception, phrases in the message of the error body,
its codes, the error of another vendor that it quotes, the status.
What each of them means is in `failure_tables.py`.
"""

import errno
import os
from collections.abc import Mapping
from http import HTTPStatus

import aiohttp

from api_models import JsonObject
from exceptions import (
    BrokenReplyError,
    ContentRefusedError,
    NoConnectionLeftError,
    ProviderConnectionError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RequestRejectedError,
    UnknownModelError,
    UnreadableReplyError,
)
from implementations.wire.failure_tables import (
    ABOUT_THE_ESSAYS,
    EXCHANGES,
    LASTING,
    PHRASES,
    STATUS_CLASSES,
    STATUSES,
    WORDS,
    Kind,
)
from implementations.wire.json_reading import at
from implementations.wire.retry_after import wait_s
from implementations.wire.vendor_error import VendorError

INVALID_REQUEST = "invalid_request"  # in no table: it says no more than the status
NO_FILE = "this process has no file descriptor left for a connection"
NO_MEMORY = "this machine has no memory left for a connection"
SHORTAGES: Mapping[int | None, str] = {
    errno.EMFILE: NO_FILE,
    errno.ENFILE: NO_FILE,
    errno.EADDRNOTAVAIL: "this machine has no local port, or no address, for a connection",
    errno.ENOBUFS: NO_MEMORY,
    errno.ENOMEM: NO_MEMORY,
}


def failure_of_exchange(error: BaseException) -> ProviderError:
    """The class for an exception of the HTTP library; drops its text, which may hold a URL."""
    shortage = SHORTAGES.get(_errno_of(error))
    if shortage is not None:
        return NoConnectionLeftError(shortage, retry_after_s=1.0)
    kind, details = next((kind, details) for raised, kind, details in EXCHANGES if isinstance(error, raised))
    return kind(details.format(error))


def _errno_of(error: BaseException) -> int | None:
    """The system's error number, None once there was a connection: a question that is on its way may be billed.

    Where no file is left, a look-up fails with any (glibc): opening a file tells.
    """
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as reason:
            return reason.errno
    return error.errno if isinstance(error, OSError) and type(error) is not aiohttp.ClientOSError else None


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
    """The class for an error response. body: its JSON, None if it is not JSON; now_s: epoch seconds.

    Every provider says in JSON that it refuses a key. A 403 without, or with Cloudflare's, is a page of a firewall in
    front of it, which one essay may have upset. A 407 is the proxy's own, who asks for a login.
    """
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return ProviderConnectionError("the proxy answered 407")
    if status == HTTPStatus.FORBIDDEN and (body is None or at(body, "cloudflare_error")):
        return UnreadableReplyError("it answered 403 without saying why")
    return _failure(status, headers, VendorError.of(body), now_s=now_s)


def failure_in_success(body: JsonObject, now_s: float) -> ProviderError | None:
    """The class for an error inside a 2xx response, None if there is none. now_s: epoch seconds.

    Its code replaces the status; without one it counts as 500, or as 400 if it says so in a word. One whose fields are
    all empty is none: gateways written in Go may send it with every answer.
    """
    error = at(body, "error")
    if not (any(error.values()) if isinstance(error, dict) else error):
        return None
    error_body = VendorError.of(body)
    is_rejection = INVALID_REQUEST in error_body.words
    implied = HTTPStatus.BAD_REQUEST if is_rejection else HTTPStatus.INTERNAL_SERVER_ERROR
    return _failure(error_body.code_as_status or implied, {}, error_body, now_s=now_s)


def _failure(status: int, headers: Mapping[str, str], error_body: VendorError, *, now_s: float) -> ProviderError:
    """The class, with the wait only where a retry is of use: Gemini names seconds with a quota that lasts for a day."""
    kind, details = _kind(status, error_body)
    return kind(
        details,
        retry_after_s=wait_s(headers, error_body, now_s=now_s) if kind.is_retryable else None,
        is_final=headers.get("x-should-retry", "").lower() == "false" or error_body.is_retryable is False,
    )


def _kind(status: int, error_body: VendorError) -> tuple[Kind, str]:
    """The class and our own details. An error that the provider marks as retryable is a temporary shortage.

    A key that is not known stays unknown, whatever the mark.
    """
    if status == HTTPStatus.FORBIDDEN and error_body.is_moderated:
        return ContentRefusedError, "it answered 403, moderated"
    kind, details = _blamed(status, error_body)
    if kind.forces_open and error_body.is_of_routed_vendor:
        return UnknownModelError, f"it answered {status} for the vendor that it chose"  # whose account it is, not ours
    is_shortage = error_body.is_retryable and kind in LASTING and status != HTTPStatus.UNAUTHORIZED
    return (RateLimitedError if is_shortage else kind), details


def _blamed(status: int, error_body: VendorError) -> tuple[Kind, str]:
    """That its server failed says less than a status that asks us to slow down: OpenAI sends both when overloaded."""
    by_status = STATUSES.get(status) or STATUS_CLASSES.get(status // 100, BrokenReplyError)
    phrases = PHRASES.get(status, {})
    phrase = next((phrase for phrase in phrases if phrase in error_body.sentence), None)
    if phrase is not None:
        return phrases[phrase], f"it answered {status}, {phrase}"
    word = next((word for word in WORDS if word in error_body.words), None)
    if word is not None and not (WORDS[word] is ProviderUnavailableError and by_status.throttles):
        return WORDS[word], f"it answered {status}, {word}"
    quoted = error_body.quoted
    if quoted is not None:
        kind, details = _blamed(status, quoted)
        if kind in ABOUT_THE_ESSAYS or by_status is RequestRejectedError:
            return kind, details
    return by_status, f"it answered {status}"
