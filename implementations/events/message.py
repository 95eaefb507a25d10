"""One event on its way: its identity is fixed when it is published, its bytes are made for the spool or for Kafka."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import orjson

from api_models import AdminChanged, CostAlerted, EventData, EventEnvelope, ProcessingEvent, RequestEventData

ENVELOPE_BYTES = 1024  # a generous guess of everything that is neither metadata nor text
TRUNCATED = {"truncated": True}
TRACEPARENT = "traceparent"


@dataclass(slots=True, kw_only=True)
class Message:
    """What the queue holds. size_bytes is an estimate until the message is encoded; row: its place in the spool.

    since_s: when it was published, on the queue's monotonic clock; for one from an earlier process it may be negative.
    """

    event: ProcessingEvent
    key: bytes
    correlation_id: UUID
    traceparent: str | None
    since_s: float
    size_bytes: int
    envelope: EventEnvelope | None = None
    value: bytes | None = None
    row: int | None = None
    is_truncated: bool = False

    def encoded(self) -> bytes:
        """The value of the Kafka message."""
        if self.value is None:
            self.value = orjson.dumps(self.envelope, default=_plain, option=orjson.OPT_UTC_Z)
            self.envelope = None
        return self.value

    def headers(self) -> list[tuple[str, bytes]]:
        """The headers of the Kafka message."""
        told = {"event_type": self.event.event_type, "correlation_id": str(self.correlation_id)}
        if self.traceparent is not None:
            told[TRACEPARENT] = self.traceparent
        return [(name, value.encode()) for name, value in told.items()]

    def truncate(self) -> None:
        """Give up the metadata, which is the caller's own and the only part that may well be dispensed with."""
        envelope = orjson.loads(self.encoded())
        envelope["data"]["metadata"] = TRUNCATED
        self.value = orjson.dumps(envelope)
        self.is_truncated = True


def message_of(event: EventData, *, service_name: str, traceparent: str | None, now: datetime, now_s: float) -> Message:
    """Wrap the event. Costs no encoding but that of the metadata, which tells how large it is."""
    event_id = uuid4()
    correlation_id = _correlation_of(event) or event_id
    envelope = EventEnvelope(
        event_id=event_id,
        event_type=event.event.event_type,
        event_timestamp=now,
        source_service=service_name,
        correlation_id=correlation_id,
        data=event,
        metadata=None if traceparent is None else {TRACEPARENT: traceparent},
    )
    return Message(
        event=event.event,
        key=_key(event, service_name).encode(),
        correlation_id=correlation_id,
        traceparent=traceparent,
        since_s=now_s,
        size_bytes=_estimated_bytes(event),
        envelope=envelope,
    )


def _correlation_of(event: EventData) -> UUID | None:
    """That of the request that it is about, if it is about one."""
    if isinstance(event, RequestEventData):
        return event.correlation_id
    return event.request_id if isinstance(event, AdminChanged) else None


def _key(event: EventData, service_name: str) -> str:
    """What belongs to one request stays in order; an aggregate belongs to its provider or to the whole service."""
    if isinstance(event, RequestEventData):
        return str(event.correlation_id)
    if isinstance(event, CostAlerted) and event.provider is not None:
        return event.provider
    return service_name


def _estimated_bytes(event: EventData) -> int:
    metadata = len(orjson.dumps(event.metadata)) if event.metadata else 0
    values = [getattr(event, name) for name in event.__dataclass_fields__]
    return ENVELOPE_BYTES + metadata + sum([len(value) for value in values if isinstance(value, str)])


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError("an event holds what has no form in JSON")
