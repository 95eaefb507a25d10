"""Encodes replies and decodes them strictly: anything that does not validate is not a reply."""

from functools import lru_cache

import orjson
from pydantic import TypeAdapter, ValidationError

from protocols import ProviderReply

CACHED_REPLIES = 256
_REPLY = TypeAdapter(ProviderReply)


def encode(reply: ProviderReply) -> bytes:
    """The reply as JSON."""
    return orjson.dumps(reply)


@lru_cache(maxsize=CACHED_REPLIES)
def decode(entry: bytes) -> ProviderReply | None:
    """The reply, or None if the bytes are not one. Memoized: look-ups pass the same object, whose hash is kept."""
    try:
        return _REPLY.validate_json(entry, strict=True)
    except ValidationError:
        return None
