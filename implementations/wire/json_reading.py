"""Foreign JSON, read strictly as a whole and tolerantly in its parts."""

import json
import re
from typing import Any

from exceptions import BrokenReplyError, InvalidReplyError

MOST_ITEMS = 1000
_KEEP_ALIVES = re.compile(r"(?:\s*+:[^\n]*+\n?)*+")  # comment lines that OpenRouter may send while it waits


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises BrokenReplyError for what is not JSON, InvalidReplyError for other JSON."""
    value = read_json(body)
    if not isinstance(value, dict):
        raise InvalidReplyError("the answer is not a JSON object")
    return value


def read_json(body: bytes) -> Any:
    """Any JSON value; a key that stands twice in one object makes the answer ambiguous, thus invalid."""
    try:
        return _STRICT.decode(_KEEP_ALIVES.sub("", body.decode(), count=1))
    except (ValueError, RecursionError):
        raise BrokenReplyError("the answer is not JSON") from None


def at(value: Any, *path: str | int) -> Any:
    """What stands there, or None when the path leads nowhere."""
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def expect(answer: Any, name: str, kind: type) -> None:
    """Raises InvalidReplyError when the documented field is not there: somebody else answered."""
    if not isinstance(at(answer, name), kind):
        raise InvalidReplyError("the answer is not what the provider's look-up gives")


def text_at(value: Any, *path: str | int) -> str:
    """The text that stands there, or an empty one."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def list_at(value: Any, *path: str | int) -> list[Any]:
    """The list that stands there, or an empty one; a list of thousands is none that a provider means."""
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
