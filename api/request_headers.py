"""Reads the headers of a comparison: content type, use of the cache, time limit."""

import re

from werkzeug.http import parse_options_header

from api.connection import ServiceRequest
from exceptions import InvalidQueryError, UnsupportedContentTypeError
from protocols import CacheUse

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
TIMEOUT_LINE = TIMEOUT_HEADER.lower().encode()
LONGEST_TIMEOUT_MS = 2**63 - 1  # what clients in many languages send for no limit
USUAL = ["application/json"]
LONGEST_TYPE = 1000  # characters; parsing 64 KB of parameters takes 0.1 s
JSON_TYPE = re.compile(r"application/(json|[\w.-]+\+json)")
UTF_8 = frozenset({"utf-8", "utf8"})
DIGITS = re.compile(r"[0-9]{1,19}")


def require_plain_json(request: ServiceRequest) -> None:
    """Accept UTF-8 JSON or a missing type, without a content encoding. Raises UnsupportedContentTypeError.

    A browser must name it: what a foreign page posts without a type is sent at once, JSON only after a preflight.
    """
    lines = request.lines(b"content-type")
    if lines == USUAL and not request.lines(b"content-encoding"):
        return
    line = next(iter(lines), "")
    content_type, parameters = parse_options_header(line) if len(line) <= LONGEST_TYPE else (line, {})
    is_json = JSON_TYPE.fullmatch(content_type.lower()) if content_type else not request.lines(b"origin")
    if not is_json or parameters.get("charset", "utf-8").lower() not in UTF_8:
        raise UnsupportedContentTypeError("send application/json in UTF-8")
    if _listed(request, b"content-encoding") - {"", "identity"}:
        raise UnsupportedContentTypeError("send the body as it is, without a Content-Encoding")


def refuse_foreign_page(request: ServiceRequest) -> None:
    """Require JSON of a browser, with or without a body. Raises UnsupportedContentTypeError.

    What a foreign page posts otherwise is sent without a preflight.
    """
    if request.lines(b"origin"):
        require_plain_json(request)


def cache_use(request: ServiceRequest) -> CacheUse:
    """The strictest directive wins: no-store, then no-cache; with only-if-cached they leave nothing to answer from."""
    directives = _listed(request, b"cache-control")
    if CacheUse.ONLY in directives:
        return CacheUse.NOTHING if directives & {CacheUse.BYPASS, CacheUse.REFRESH} else CacheUse.ONLY
    for use in (CacheUse.BYPASS, CacheUse.REFRESH):
        if use in directives:
            return use
    return CacheUse.NORMAL


def timeout_s(request: ServiceRequest) -> float | None:
    """The caller's time limit in seconds, possibly longer than ours. Raises InvalidQueryError."""
    lines = request.lines(TIMEOUT_LINE)
    if not lines:
        return None
    header = lines[0]
    if not DIGITS.fullmatch(header.strip()) or not 0 < int(header) <= LONGEST_TIMEOUT_MS:
        raise InvalidQueryError(f"{TIMEOUT_HEADER}: must be a whole number of milliseconds above 0, in 64 bits")
    return int(header) / 1000


def _listed(request: ServiceRequest, name: bytes) -> set[str]:
    """The members of a list header, over all its lines."""
    return {member.strip().lower() for line in request.lines(name) for member in line.split(",")}
