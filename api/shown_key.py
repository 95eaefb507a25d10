"""Reads the API key of a request."""

from quart import Request

BEARER = "bearer "
BLANKS = " \t"  # no others: the last byte of a UTF-8 key may be a space in Latin-1


def shown_key(request: Request) -> str | None:
    """The key from `Authorization: Bearer`, else from `X-API-Key`, else None."""
    authorization = request.headers.get("Authorization", "")
    is_bearer = authorization.lower().startswith(BEARER)
    key = authorization[len(BEARER) :].strip(BLANKS) if is_bearer else request.headers.get("X-API-Key")
    return None if key is None else _as_sent(key)


def _as_sent(text: str) -> str:
    """Headers are decoded as Latin-1, but a key with other characters was sent as UTF-8."""
    return text.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
