"""The format of an entry in Redis: schema, creation time, TTL, checksum, payload. Anything else is rejected.

The checksum also covers the name under which the entry was stored, so a payload under another name is rejected too.
"""

import hashlib
from enum import StrEnum
from typing import Annotated

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from value_object import value_object

SCHEMA = 3
MAX_ENTRY_BYTES = 256 * 1024


class Flaw(StrEnum):
    """Why a value is not a valid entry."""

    WRONG_TYPE = "wrong_type"
    OVERSIZED = "oversized"
    OTHER_SCHEMA = "other_schema"
    CORRUPT = "corrupt"


class FlawedEntryError(Exception):
    """The value is to be removed and counted."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw)
        self.flaw = flaw


@value_object
class Envelope:
    """created: Unix seconds; ttl: seconds, from which the age that callers are told is computed, so it is bounded."""

    schema: int
    created: float
    ttl: Annotated[float, Field(gt=0, le=1e9)]
    sha256: str
    payload: str


_ENVELOPE = TypeAdapter(Envelope)


def seal(name: str, payload: bytes, *, created_s: float, ttl_s: float) -> bytes:
    """The payload, which is UTF-8, in its envelope."""
    return orjson.dumps(
        Envelope(
            schema=SCHEMA,
            created=created_s,
            ttl=ttl_s,
            sha256=_checksum(name, payload, created_s, ttl_s),
            payload=payload.decode(),
        )
    )


def unseal(name: str, sealed: object) -> tuple[bytes, float]:
    """The verified payload and its TTL in seconds; sealed: any value from Redis. Raises FlawedEntryError."""
    if not isinstance(sealed, bytes):
        raise FlawedEntryError(Flaw.WRONG_TYPE)
    if len(sealed) > MAX_ENTRY_BYTES:
        raise FlawedEntryError(Flaw.OVERSIZED)
    try:
        envelope = _ENVELOPE.validate_json(sealed, strict=True)
    except ValidationError:
        raise FlawedEntryError(_flaw_of(sealed)) from None
    if envelope.schema != SCHEMA:
        raise FlawedEntryError(Flaw.OTHER_SCHEMA)
    payload = envelope.payload.encode()
    if envelope.sha256 != _checksum(name, payload, envelope.created, envelope.ttl):
        raise FlawedEntryError(Flaw.CORRUPT)
    return payload, envelope.ttl


def _flaw_of(sealed: bytes) -> Flaw:
    """An entry of another schema version, with unknown fields, is not corrupt."""
    try:
        fields = orjson.loads(sealed)
    except orjson.JSONDecodeError:
        return Flaw.CORRUPT
    return Flaw.OTHER_SCHEMA if isinstance(fields, dict) and fields.get("schema") != SCHEMA else Flaw.CORRUPT


def _checksum(name: str, payload: bytes, created_s: float, ttl_s: float) -> str:
    return hashlib.sha256(b"%d\n%s\n%r\n%r\n%s" % (SCHEMA, name.encode(), created_s, ttl_s, payload)).hexdigest()
