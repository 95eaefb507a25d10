"""Turns replies into bytes and back, strictly: what does not read as a reply is none."""

from functools import lru_cache

import orjson
from pydantic import TypeAdapter, ValidationError

from protocols import ProviderReply

_REPLY = TypeAdapter(ProviderReply)


LATELY_READ = 256


def encode(reply: ProviderReply) -> bytes:
    """The reply as JSON."""
    return orjson.dumps(reply)


def decode(entry: bytes) -> ProviderReply | None:
    """The reply, or None when the bytes are not one."""
    try:
        return _REPLY.validate_json(entry, strict=True)
    except ValidationError:
        return None


@lru_cache(maxsize=LATELY_READ)
def decode_kept(entry: bytes) -> ProviderReply | None:
    """As `decode`, for bytes that are kept here: the same object at each look-up, whose hash is known."""
    return decode(entry)
