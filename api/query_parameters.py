"""Reads query parameters strictly: each name at most once, with a valid value."""

from enum import StrEnum
from typing import TypeVar

from quart import Request

from exceptions import InvalidQueryError

FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

Word = TypeVar("Word", bound=StrEnum)


def flag(request: Request, name: str) -> bool:
    """A boolean, False if absent. Raises InvalidQueryError."""
    text = _single(request, name)
    if text is None:
        return False
    if text.lower() not in FLAGS:
        raise InvalidQueryError(f"{name}: must be true or false")
    return FLAGS[text.lower()]


def word(request: Request, name: str, default: Word) -> Word:
    """A member of the default's enum. Raises InvalidQueryError."""
    text = _single(request, name)
    return default if text is None else word_of(type(default), name, text)


def word_of(kind: type[Word], name: str, text: str) -> Word:
    """The text as a member of this enum. Raises InvalidQueryError, which lists them all."""
    try:
        return kind(text)
    except ValueError:
        raise InvalidQueryError(f"{name}: must be one of {', '.join(kind)}") from None


def _single(request: Request, name: str) -> str | None:
    values = request.args.getlist(name)
    if len(values) > 1:
        raise InvalidQueryError(f"{name}: must be given once")
    return values[0] if values else None
