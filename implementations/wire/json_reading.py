"""Foreign JSON, read strictly as a whole and tolerantly in its parts."""

import json
from typing import Any

from exceptions import BrokenReplyError, InvalidReplyError

KEEP_ALIVE = ":"  # OpenRouter may send comment lines while it waits


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises BrokenReplyError for what is not JSON, InvalidReplyError for other JSON."""
    value = read_json(body)
    if not isinstance(value, dict):
        raise InvalidReplyError("the answer is not a JSON object")
    return value


def read_json(body: bytes) -> Any:
    """Any JSON value; a key that stands twice in one object makes the answer ambiguous, thus invalid."""
    try:
        return json.loads(_without_keep_alives(body.decode()), object_pairs_hook=_unambiguous)
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


def text_at(value: Any, *path: str | int) -> str:
    """The text that stands there, or an empty one."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def list_at(value: Any, *path: str | int) -> list[Any]:
    """The list that stands there, or an empty one."""
    found = at(value, *path)
    return found if isinstance(found, list) else []


def _without_keep_alives(text: str) -> str:
    text = text.lstrip()
    while text.startswith(KEEP_ALIVE):
        text = text.partition("\n")[2].lstrip()
    return text


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidReplyError("the answer names a key twice")
    return found
