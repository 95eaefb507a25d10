"""The form of an entry in Redis: schema, birth, time to live, checksum, payload. What is not exactly that is no entry.

The checksum also covers the name under which the entry was stored: a payload that turns up under another name, by
whatever mistake of whomever, is not the answer to that question.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

import orjson
from pydantic import TypeAdapter, ValidationError

SCHEMA = 2
MAX_ENTRY_BYTES = 256 * 1024


class Flaw(StrEnum):
    """Why something under an entry's name is none."""

    WRONG_TYPE = "wrong_type"
    OVERSIZED = "oversized"
    OTHER_SCHEMA = "other_schema"
    CORRUPT = "corrupt"


class FlawedEntryError(Exception):
    """It is to be removed, and counted."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw)
        self.flaw = flaw


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """created: unix seconds; ttl: seconds."""

    schema: int
    created: float
    ttl: float
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
    """The payload and its time to live in seconds; sealed is whatever Redis gave. Raises FlawedEntryError."""
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
    """Another version may have written fields that we do not know: that is no corruption."""
    try:
        fields = orjson.loads(sealed)
    except orjson.JSONDecodeError:
        return Flaw.CORRUPT
    return Flaw.OTHER_SCHEMA if isinstance(fields, dict) and fields.get("schema") != SCHEMA else Flaw.CORRUPT


def _checksum(name: str, payload: bytes, created_s: float, ttl_s: float) -> str:
    return hashlib.sha256(b"%d\n%s\n%r\n%r\n%s" % (SCHEMA, name.encode(), created_s, ttl_s, payload)).hexdigest()
