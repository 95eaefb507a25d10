"""The pending events as rows on disk: they survive a crash of the process, but not a power failure.

A row is inserted in the same call that publishes the event, and callers wait for no fsync, because there is none. A
disk that hangs holds up one call, for a quarter of a second; until it goes on, events are in memory only. An event that
cannot be read stays in its row for inspection.
"""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import cast
from uuid import UUID

import orjson
import structlog

from api_models import ProcessingEvent
from implementations.events.disk_thread import DiskThread
from implementations.events.message import Message
from implementations.events.spool_file import SELECT, aside, opened
from metrics import Metrics
from protocols import ClockProtocol

INSERT = """INSERT INTO events (event, key, correlation_id, traceparent, published_at, value)
    VALUES (?, ?, ?, ?, ?, ?)"""
MOST_IDS_LOGGED = 20
TYPE = re.compile(r"[a-z][a-z0-9_.]{0,99}")
FAILED_WRITES, UNREADABLE_EVENTS, DAMAGED_DATABASE = "failed_writes", "unreadable_events", "damaged_database"

log = structlog.get_logger("events")


class Spool:
    """path: the database, created if missing. now, clock: the wall clock and the queue's monotonic one.

    Raises ConfigurationError if the path cannot be used.
    """

    def __init__(self, path: Path, *, metrics: Metrics, now: Callable[[], datetime], clock: ClockProtocol) -> None:
        self._metrics = metrics
        self._now = now
        self._clock = clock
        self._failing: set[str] = set()
        self._undeleted: set[int] = set()
        self._unreadable: dict[str | None, list[int]] = {}
        self._lock, self._rows = opened(path)
        self._disk = DiskThread()
        self._was_damaged = aside(path, 1).exists()

    @property
    def fault(self) -> str | None:
        """What is wrong, in a word each: writes fail, events or an earlier database cannot be read; None if nothing."""
        faults = {
            FAILED_WRITES: self._failing,
            UNREADABLE_EVENTS: self._unreadable,
            DAMAGED_DATABASE: self._was_damaged,
        }
        return ", ".join(name for name, is_there in faults.items() if is_there) or None

    def insert(self, message: Message) -> None:
        """Store the message. On a disk error it stays in memory only; errors are counted, and logged once in a row."""
        row = (
            message.event,
            message.key,
            str(message.correlation_id),
            message.traceparent,
            self._now().timestamp(),
            message.encoded(),
        )
        with self._failures_counted("insert"):
            message.row = self._disk.run(lambda: self._stored(row))
            self._undeleted.discard(message.row)

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete the messages, in one transaction. Those that the disk refuses are deleted once it takes others."""
        done = {message.row for message in messages if message.row is not None}
        self._undeleted |= done
        rows = done if "delete" in self._failing else self._undeleted.copy()
        if rows:
            with self._failures_counted("delete"):
                self._disk.run(lambda: self._deleted(rows))
                self._undeleted -= rows

    def kept(self) -> Iterator[Message]:
        """The messages that an earlier process left, in publishing order, with their age; unreadable ones stay."""
        rows = []
        with self._failures_counted("select"):
            rows = self._rows.execute(SELECT).fetchall()
        for row in rows:
            try:
                message = self._message(*row)
            except (ValueError, TypeError):
                self._unreadable.setdefault(_type_of(row[1]), []).append(row[0])
            else:
                yield message
        self._report_unreadable()

    def _message(
        self, row: int, event: str, key: bytes, correlation_id: str, traceparent: str | None, at: float, value: bytes
    ) -> Message:
        kinds = zip((key, traceparent, value, orjson.loads(value)), (bytes, str | None, bytes, dict), strict=True)
        if not all(isinstance(found, kind) for found, kind in kinds):
            raise TypeError("a column of SQLite holds any type")
        return Message(
            event=ProcessingEvent(event),
            key=key,
            correlation_id=UUID(correlation_id),
            traceparent=traceparent,
            since_s=self._clock() - max(0.0, self._now().timestamp() - at),
            size_bytes=len(value),
            value=value,
            row=row,
        )

    def _report_unreadable(self) -> None:
        for kind, ids in self._unreadable.items():
            log.error("spooled_events_unreadable", type=kind, count=len(ids), ids=ids[:MOST_IDS_LOGGED])
        self._metrics.events_unreadable.set(sum(map(len, self._unreadable.values())))

    def close(self) -> None:
        """Close the database and release the lock."""
        with self._failures_counted("close"):
            self._disk.run(self._rows.close)
        self._disk.end()
        self._lock.close()

    def _stored(self, row: Sequence[object]) -> int:
        """The number of the new row, which is to be deleted again unless somebody still waits for it."""
        number = cast("int", self._rows.execute(INSERT, row).lastrowid)
        self._undeleted.add(number)
        return number

    def _deleted(self, rows: Collection[int]) -> None:
        with self._transaction():
            self._rows.executemany("DELETE FROM events WHERE id = ?", [(row,) for row in rows])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._rows.execute("BEGIN")
        try:
            yield
            self._rows.execute("COMMIT")
        finally:
            if self._rows.in_transaction:
                self._rows.execute("ROLLBACK")

    @contextlib.contextmanager
    def _failures_counted(self, access: str) -> Iterator[None]:
        try:
            yield
            self._failing.discard(access)
        except sqlite3.Error as error:
            self._metrics.event_spool_failures.inc()
            if access not in self._failing:
                name = getattr(error, "sqlite_errorname", type(error).__name__)  # only what SQLite itself says has one
                log.error("event_spool_fails", access=access, error=name)  # noqa: TRY400  no path, no row
            self._failing.add(access)


def _type_of(event: object) -> str | None:
    """The type as stored, if it may be logged."""
    return event if isinstance(event, str) and TYPE.fullmatch(event) else None
