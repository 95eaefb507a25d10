"""Encodes replies and decodes them strictly: anything that does not validate is not a reply."""

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
    """The reply, or None if the bytes are not one."""
    try:
        return _REPLY.validate_json(entry, strict=True)
    except ValidationError:
        return None


@lru_cache(maxsize=LATELY_READ)
def decode_once(entry: bytes) -> ProviderReply | None:
    """As `decode`, memoized: each look-up passes the same bytes object, whose hash is cached."""
    return decode(entry)
