"""The pending events as rows on disk: they survive a crash of the process, but not a power failure.

A row is inserted in the same call that publishes the event. SQLite's write-ahead log is synced to disk only at a
checkpoint, which the sender runs in a thread, so callers do not wait for an fsync. A spool has one process at a time.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

import structlog

from api_models import ProcessingEvent
from implementations.events.message import Message
from implementations.events.spool_file import connect, open_spool
from metrics import Metrics
from protocols import ClockProtocol

INSERT = """INSERT INTO events (event, key, correlation_id, traceparent, published_at, value)
    VALUES (?, ?, ?, ?, ?, ?)"""
SELECT = "SELECT id, event, key, correlation_id, traceparent, published_at, value FROM events ORDER BY id"

log = structlog.get_logger("events")


class Spool:
    """path: the database, created if missing. now, clock: the wall clock and the queue's monotonic one.

    A damaged database is set aside, under a name with the time, and a new one is begun. Raises ConfigurationError if
    the path cannot be used.
    """

    def __init__(self, path: Path, *, metrics: Metrics, now: Callable[[], datetime], clock: ClockProtocol) -> None:
        self._path = path
        self._metrics = metrics
        self._now = now
        self._clock = clock
        self._works = True
        self._lock, self._rows = open_spool(path)

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
        with self._failures_counted():
            message.row = self._rows.execute(INSERT, row).lastrowid

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete the messages, in one transaction."""
        rows = [(message.row,) for message in messages if message.row is not None]
        if rows:
            with self._failures_counted(), self._transaction():
                self._rows.executemany("DELETE FROM events WHERE id = ?", rows)

    def kept(self) -> Iterator[Message]:
        """The messages that an earlier process left, in publishing order, with their age.

        A row that this version cannot read stays in the spool, for the version that wrote it.
        """
        now, now_s = self._now().timestamp(), self._clock()
        unread = 0
        for row, event, key, correlation_id, traceparent, at, value in self._rows.execute(SELECT).fetchall():
            try:
                kind, identity = ProcessingEvent(event), UUID(correlation_id)
            except ValueError:
                unread += 1
                continue
            yield Message(
                event=kind,
                key=key,
                correlation_id=identity,
                traceparent=traceparent,
                since_s=now_s - max(0.0, now - at),
                size_bytes=len(value),
                value=value,
                row=row,
            )
        if unread:
            log.error("events_unread", count=unread)

    def checkpoint(self) -> None:
        """Checkpoint the write-ahead log; a failure is counted. Waits for the disk, so call it in a thread."""
        with self._failures_counted(), contextlib.closing(connect(self._path)) as own:
            own.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close the database and release the lock."""
        self._rows.close()
        self._lock.close()

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
    def _failures_counted(self) -> Iterator[None]:
        try:
            yield
            self._works = True
        except sqlite3.Error as error:
            self._metrics.event_spool_failures.inc()
            if self._works:
                log.error("event_spool_fails", error=type(error).__name__)  # noqa: TRY400  no path, no row
            self._works = False
