"""Turns replies into bytes and back, strictly: what does not read as a reply is none."""

import orjson
from pydantic import TypeAdapter, ValidationError

from protocols import ProviderReply

_REPLY = TypeAdapter(ProviderReply)


def encode(reply: ProviderReply) -> bytes:
    """The reply as JSON."""
    return orjson.dumps(reply)


def decode(entry: bytes) -> ProviderReply | None:
    """The reply, or None when the bytes are not one."""
    try:
        return _REPLY.validate_json(entry, strict=True)
    except ValidationError:
        return None
