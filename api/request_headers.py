"""What the headers of a comparison say: how to read the body, whether to use the cache, how long to try."""

import re

from quart import Request
from werkzeug.http import parse_options_header

from exceptions import InvalidQueryError, UnsupportedContentTypeError
from protocols import CacheUse

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
LONGEST_TIMEOUT_MS = 10**18 - 1
JSON_TYPE = re.compile(r"application/(json|[\w.-]+\+json)")
UTF_8 = frozenset({"utf-8", "utf8"})
DIGITS = re.compile(r"[0-9]{1,18}")


def require_plain_json(request: Request) -> None:
    """A missing type passes, and so does any parameter but another charset. Raises UnsupportedContentTypeError."""
    content_type, parameters = parse_options_header(request.headers.get("Content-Type"))
    if content_type and not JSON_TYPE.fullmatch(content_type.lower()):
        raise UnsupportedContentTypeError("send application/json in UTF-8")
    if parameters.get("charset", "utf-8").lower() not in UTF_8:
        raise UnsupportedContentTypeError("send application/json in UTF-8")
    if _listed(request, "Content-Encoding") - {"", "identity"}:
        raise UnsupportedContentTypeError("send the body as it is, without a Content-Encoding")


def cache_use(request: Request) -> CacheUse:
    """Never buying goes before never reading, and that before never keeping."""
    directives = _listed(request, "Cache-Control")
    for use in (CacheUse.ONLY, CacheUse.BYPASS, CacheUse.REFRESH):
        if use in directives:
            return use
    return CacheUse.NORMAL


def timeout_s(request: Request) -> float | None:
    """The caller's own limit in seconds, which may be longer than ours. Raises InvalidQueryError."""
    header = request.headers.get(TIMEOUT_HEADER)
    if header is None:
        return None
    if not DIGITS.fullmatch(header.strip()) or int(header) == 0:
        raise InvalidQueryError(f"{TIMEOUT_HEADER}: must be a whole number of milliseconds above 0")
    return int(header) / 1000


def _listed(request: Request, name: str) -> set[str]:
    """The members of a header that is a list, over all its lines."""
    return {member.strip().lower() for line in request.headers.getlist(name) for member in line.split(",")}
