"""One event in transit: its identity is fixed on publishing, its bytes are encoded for the spool or for Kafka."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import orjson

from api_models import AdminChanged, EventData, EventEnvelope, ProcessingEvent, RequestEventData

ENVELOPE_BYTES = 1024  # a generous estimate of everything but metadata and text
TRUNCATED = {"truncated": True}
TRACEPARENT = "traceparent"


@dataclass(slots=True, kw_only=True, eq=False)
class Message:
    """A queued event, equal to itself only.

    size_bytes: an estimate, unless restored from the spool; row: its id in the spool, None while it is not stored.
    since_s: when it was published, on the queue's monotonic clock; may be negative if restored from the spool.
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
            self.value = _json(self.envelope)
            self.envelope = None
        return self.value

    def headers(self) -> list[tuple[str, bytes]]:
        """The headers of the Kafka message."""
        headers = {"event_type": self.event.event_type, "correlation_id": str(self.correlation_id)}
        if self.traceparent is not None:
            headers[TRACEPARENT] = self.traceparent
        return [(name, value.encode()) for name, value in headers.items()]

    def truncate(self) -> None:
        """Drop the caller's metadata, the only dispensable part."""
        envelope = orjson.loads(self.encoded())
        envelope["data"]["metadata"] = TRUNCATED
        self.value = _json(envelope)
        self.is_truncated = True


def message_of(event: EventData, *, service_name: str, traceparent: str | None, now: datetime, now_s: float) -> Message:
    """Wrap the event. Encodes only the metadata and the texts, for their size."""
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
    """The id of the request that the event is about, if any."""
    if isinstance(event, RequestEventData):
        return event.correlation_id
    return event.request_id if isinstance(event, AdminChanged) else None


def _key(event: EventData, service_name: str) -> str:
    """The partition key: keeps the events of a request in order; aggregates use their provider or the service name."""
    if isinstance(event, RequestEventData):
        return str(event.correlation_id)
    provider: str | None = getattr(event, "provider", None)
    return provider or service_name


def _estimated_bytes(event: EventData) -> int:
    metadata = len(orjson.dumps(event.metadata)) if event.metadata else 0
    texts = [value for name in event.__dataclass_fields__ if isinstance(value := getattr(event, name), str)]
    return ENVELOPE_BYTES + metadata + len(orjson.dumps(texts))


def _json(envelope: object) -> bytes:
    """Copied: orjson's own bytes hold on to a buffer of up to ten times their length, and thousands may wait."""
    return bytes(memoryview(orjson.dumps(envelope, option=orjson.OPT_UTC_Z)))
