"""The rows of the spool's database: one for each event. For one thread at a time."""

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import orjson

from api_models import ProcessingEvent
from implementations.events.message import Message
from implementations.events.spool_file import SELECT
from protocols import ClockProtocol

INSERT = """INSERT INTO events (event, key, correlation_id, traceparent, published_at, value)
    VALUES (?, ?, ?, ?, ?, ?)"""
DELETE = "DELETE FROM events WHERE id = ?"
DELETING, STORING = "delete", "insert"


@dataclass(slots=True, kw_only=True)
class Written:
    """What became of a write. rows: of the stored messages; deleted: rows; errors: by kind, None where it went well."""

    rows: dict[Message, int] = field(default_factory=dict)
    deleted: Collection[int] = ()
    errors: dict[str, Exception | None] = field(default_factory=dict)


class SpoolRows:
    """now, clock: the wall clock and the queue's monotonic one."""

    def __init__(self, database: sqlite3.Connection, *, now: Callable[[], datetime], clock: ClockProtocol) -> None:
        self._database = database
        self._now = now
        self._clock = clock

    def write(self, messages: Collection[Message], rows: Collection[int]) -> Written:
        """Delete these rows and store these messages in their order, each in one transaction. Never raises."""
        written = Written()
        if rows:
            written.errors[DELETING] = error = _error_of(lambda: self._delete(rows))
            written.deleted = () if error else rows
        if messages:
            numbers: list[int] = []
            written.errors[STORING] = error = _error_of(lambda: numbers.extend(self._store(messages)))
            written.rows = {} if error else dict(zip(messages, numbers, strict=True))
        return written

    def read(self) -> list[tuple[Any, ...]]:
        """All rows, in the order in which they were stored. Raises sqlite3.Error."""
        return self._database.execute(SELECT).fetchall()

    def message(
        self, row: int, event: str, key: bytes, correlation_id: str, traceparent: str | None, at: float, value: bytes
    ) -> Message:
        """The message of a row, with its age. Raises ValueError or TypeError for one that is not as we write them."""
        kind, envelope = ProcessingEvent(event), orjson.loads(value)
        data = envelope.get("data") if isinstance(envelope, dict) else None
        types = zip((key, traceparent, value, data), (bytes, str | None, bytes, dict), strict=True)
        if not all(isinstance(found, wanted) for found, wanted in types):
            raise TypeError("a column of SQLite holds any type")
        if (envelope.get("event_type"), envelope.get("correlation_id")) != (kind.event_type, correlation_id):
            raise ValueError("the value is not the event of the other columns")
        return Message(
            event=kind,
            key=key,
            correlation_id=UUID(correlation_id),
            traceparent=traceparent,
            since_s=self._clock() - max(0.0, self._now().timestamp() - at),
            size_bytes=len(value),
            value=value,
            row=row,
        )

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _delete(self, rows: Iterable[int]) -> None:
        with self._transaction():
            self._database.executemany(DELETE, [(row,) for row in rows])

    def _store(self, messages: Iterable[Message]) -> Sequence[int]:
        with self._transaction():
            return [self._stored(message) for message in messages]

    def _stored(self, message: Message) -> int:
        published_at = self._now() - timedelta(seconds=self._clock() - message.since_s)
        row = (
            message.event,
            message.key,
            str(message.correlation_id),
            message.traceparent,
            published_at.timestamp(),
            message.encoded(),
        )
        return cast("int", self._database.execute(INSERT, row).lastrowid)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN")
        try:
            yield
            self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")


def _error_of(work: Callable[[], None]) -> Exception | None:
    """What it raises, whatever that is: the events are in memory and go on from there."""
    try:
        work()
    except Exception as error:  # noqa: BLE001  returned
        return error.with_traceback(None)
    return None
