"""Reads providers' JSON: strict parsing, tolerant field access."""

import json
import re
from codecs import BOM_UTF8
from typing import Any

from exceptions import BrokenReplyError, InvalidReplyError, UnreadableReplyError

MOST_ITEMS = 1000
MOST_VALUES = 100_000  # a few bytes each when sent, up to a hundred when parsed, and parsing them blocks every thread
_KEEP_ALIVES = re.compile(r"(?:\s*+:[^\n]*+\n?)*+")  # SSE-style comment lines that OpenRouter may send while waiting


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises BrokenReplyError if it is not JSON, InvalidReplyError if not an object."""
    value = read_json(body)
    if not isinstance(value, dict):
        raise InvalidReplyError("the answer is not a JSON object")
    return value


def read_json(body: bytes) -> Any:
    """Any JSON value; a leading byte order mark is skipped, as RFC 8259 allows.

    Raises BrokenReplyError if it is not JSON, InvalidReplyError for a duplicate key, UnreadableReplyError for more than
    MOST_VALUES values (or as many commas and brackets in its texts).
    """
    if len(body) > MOST_VALUES and sum(map(body.count, (b"[", b"{", b","))) > MOST_VALUES:
        raise UnreadableReplyError("the answer holds too many values")
    try:
        return _STRICT.decode(_KEEP_ALIVES.sub("", body.removeprefix(BOM_UTF8).decode(), count=1))
    except (ValueError, RecursionError):
        raise BrokenReplyError("the answer is not JSON") from None


def at(value: Any, *path: str | int) -> Any:
    """The value at the path, or None if there is none."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and len(value) > step:
            value = value[step]
        else:
            return None
    return value


def expect(answer: Any, name: str, kind: type) -> None:
    """Raises UnreadableReplyError if the documented field is missing: something else answered."""
    if not isinstance(at(answer, name), kind):
        raise UnreadableReplyError("the answer is not what the provider's look-up gives")


def text_at(value: Any, *path: str | int) -> str:
    """The string at the path, or an empty one."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def list_at(value: Any, *path: str | int) -> list[Any]:
    """The list at the path, or an empty one, also if it is longer than MOST_ITEMS."""
    found = at(value, *path)
    return found if isinstance(found, list) and len(found) <= MOST_ITEMS else []


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidReplyError("the answer names a key twice")
    return found


_STRICT = json.JSONDecoder(object_pairs_hook=_unambiguous, parse_constant=_no_number)
