"""Encodes replies and decodes them strictly: anything that does not validate is not a reply."""

import orjson
from pydantic import TypeAdapter, ValidationError

from protocols import ProviderReply

_REPLY = TypeAdapter(ProviderReply)


def encode(reply: ProviderReply) -> bytes:
    """The reply as JSON, copied: orjson's own bytes hold on to a buffer of up to ten times their length."""
    return bytes(memoryview(orjson.dumps(reply)))


def decode(entry: bytes) -> ProviderReply | None:
    """The reply, or None if the bytes are not one."""
    try:
        return _REPLY.validate_json(entry, strict=True)
    except ValidationError:
        return None
