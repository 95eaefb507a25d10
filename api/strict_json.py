"""Parses JSON bodies strictly: bounded in depth and number of values, no NUL, no integer beyond 64 bits.

Errors name only the violated rule, never the position or the text.
"""

import json
from collections.abc import Iterable
from itertools import chain

import orjson

from api_models import LARGEST_INTEGER, SMALLEST_INTEGER
from exceptions import InvalidQueryError

MAX_DEPTH = 64
MAX_VALUES = 20_000
TOO_MANY_VALUES = f"the body contains more than {MAX_VALUES} values"
BIGGEST_EXACT = -float(SMALLEST_INTEGER)


def parse_object(body: bytes) -> dict[str, object]:
    """The JSON object in the body; of duplicate keys the last wins. Raises InvalidQueryError."""
    _refuse_too_many_values(body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidQueryError("the body is not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise InvalidQueryError("the body must be a JSON object")
    if _has_inexact_number(value):
        _refuse_large_integers(body)
    return value


def _refuse_too_many_values(body: bytes) -> None:
    """Count tokens outside strings before parsing, which would build everything first.

    No JSON of up to MAX_VALUES values is refused: each adds at most two strings, one comma and one bracket; escapes
    are removed first, so that every quote delimits a string. This is only a bound: the exact count follows.
    """
    if len(body) <= 2 * MAX_VALUES:
        return  # a value and its separator take at least two bytes
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * MAX_VALUES:
        raise InvalidQueryError(TOO_MANY_VALUES)
    outside = b"".join(plain.split(b'"')[::2])
    openings = outside.count(b"[") + outside.count(b"{") - 1  # the outermost object is not a value
    if max(outside.count(b","), openings) > MAX_VALUES:
        raise InvalidQueryError(TOO_MANY_VALUES)


def _has_inexact_number(root: dict[str, object]) -> bool:
    """Walk everything once. Raises InvalidQueryError for excessive depth or number of values, and for a NUL."""
    inexact = False
    seen = 0
    pending: list[tuple[dict[str, object] | list[object], int]] = [(root, 1)]
    while pending:
        container, depth = pending.pop()
        seen += len(container)
        if depth > MAX_DEPTH:
            raise InvalidQueryError(f"the body is nested deeper than {MAX_DEPTH} levels")
        if seen > MAX_VALUES:
            raise InvalidQueryError(TOO_MANY_VALUES)
        for value in _members(container):
            if isinstance(value, str):
                if "\x00" in value:
                    raise InvalidQueryError("the body contains a NUL character")
            elif isinstance(value, dict | list):
                pending.append((value, depth + 1))
            elif isinstance(value, float):
                inexact = inexact or abs(value) >= BIGGEST_EXACT
    return inexact


def _members(container: dict[str, object] | list[object]) -> Iterable[object]:
    """Keys count as members: they are the caller's text too."""
    return chain(container, container.values()) if isinstance(container, dict) else container


def _refuse_large_integers(body: bytes) -> None:
    """Orjson parses integers beyond 64 bits as floats, as far as floats reach; only a second parse tells them apart."""

    def refuse(digits: str) -> None:
        if not SMALLEST_INTEGER <= int(digits) <= LARGEST_INTEGER:
            raise InvalidQueryError("the body contains an integer beyond 64 bits")

    json.loads(body, parse_int=refuse)
