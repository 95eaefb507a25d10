"""Reads the key that a request shows."""

from quart import Request

BEARER = "bearer "
BLANKS = " \t"  # and no other: the last byte of a key in UTF-8 may look like a blank in Latin-1


def shown_key(asked: Request) -> str | None:
    """`Authorization: Bearer` goes before `X-API-Key`; None when there is neither."""
    authorization = asked.headers.get("Authorization", "")
    is_bearer = authorization.lower().startswith(BEARER)
    key = authorization[len(BEARER) :].strip(BLANKS) if is_bearer else asked.headers.get("X-API-Key")
    return None if key is None else _as_sent(key)


def _as_sent(text: str) -> str:
    """Headers are read as Latin-1; whoever chose a key of other letters sent it as UTF-8."""
    return text.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
