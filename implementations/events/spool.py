"""The pending events as rows on disk: they survive a crash of the process, but not a power failure.

A row is inserted in the same call that publishes the event. SQLite's write-ahead log is synced to disk only at a
checkpoint, which the sender runs in a thread, so callers do not wait for an fsync. A spool has one process at a time.
"""

import contextlib
import fcntl
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO
from uuid import UUID

import structlog

from api_models import ProcessingEvent
from config import PREFIX, ConfigurationError
from implementations.events.message import Message
from metrics import Metrics
from protocols import ClockProtocol

INSERT = """INSERT INTO events (event, key, correlation_id, traceparent, published_at, value)
    VALUES (?, ?, ?, ?, ?, ?)"""
SELECT = "SELECT id, event, key, correlation_id, traceparent, published_at, value FROM events ORDER BY id"
TABLE = """CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, key BLOB NOT NULL, correlation_id TEXT NOT NULL,
    traceparent TEXT, published_at REAL NOT NULL, value BLOB NOT NULL)"""
PREPARATION = ("PRAGMA synchronous=NORMAL", "PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0", TABLE)
BUSY_S = 0.2
KNOWN_EVENTS = frozenset(ProcessingEvent)
SUFFIXES = ("", "-wal", "-shm")
PRIMARY_CODE = 0xFF  # of SQLite's error codes; the other bits give details

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
        self._lock, self._rows = _opened(path)

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

        Events that this version does not know stay in the spool, for the version that wrote them.
        """
        now, now_s = self._now().timestamp(), self._clock()
        unknown: set[str] = set()
        for row, event, key, correlation_id, traceparent, at, value in self._rows.execute(SELECT).fetchall():
            if event not in KNOWN_EVENTS:
                unknown.add(event)
                continue
            yield Message(
                event=ProcessingEvent(event),
                key=key,
                correlation_id=UUID(correlation_id),
                traceparent=traceparent,
                since_s=now_s - max(0.0, now - at),
                size_bytes=len(value),
                value=value,
                row=row,
            )
        if unknown:
            log.error("events_unknown", names=sorted(unknown))

    def checkpoint(self) -> None:
        """Checkpoint the write-ahead log; a failure is counted. Waits for the disk, so call it in a thread."""
        with self._failures_counted(), contextlib.closing(_connected(self._path)) as own:
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


def check_spool(path: Path) -> None:
    """Raises ConfigurationError if the path cannot be used; called early, so that the process can exit cleanly."""
    lock, rows = _opened(path)
    rows.close()
    lock.close()


def _opened(path: Path) -> tuple[IO[str], sqlite3.Connection]:
    with contextlib.ExitStack() as opened:
        try:
            lock = opened.enter_context(path.with_name(f"{path.name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            rows = opened.enter_context(contextlib.closing(_undamaged(path)))
        except BlockingIOError:
            raise ConfigurationError(f"{PREFIX}EVENT_SPOOL_PATH: another process uses it.") from None
        except (OSError, sqlite3.Error):
            raise ConfigurationError(f"{PREFIX}EVENT_SPOOL_PATH: is not a database file that can be written.") from None
        opened.pop_all()
    return lock, rows


def _undamaged(path: Path) -> sqlite3.Connection:
    """The database, or a new one if it is damaged: its files are then renamed, for whoever wants to look."""
    try:
        return _prepared(path)
    except sqlite3.DatabaseError as error:
        if _primary_code(error) != sqlite3.SQLITE_CORRUPT:
            raise
    aside = f"{path.name}.damaged-{path.stat().st_mtime:.0f}"
    for suffix in SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(path.with_name(aside + suffix))
    log.error("event_spool_damaged", set_aside_as=aside)
    return _prepared(path)


def _prepared(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.DatabaseError, with SQLITE_CORRUPT as its code where pages are damaged."""
    rows = _connected(path)
    try:
        for statement in PREPARATION:
            rows.execute(statement)
        rows.execute(SELECT).fetchall()  # reads every page that `kept` will need
    except BaseException:
        rows.close()
        raise
    return rows


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY_CODE


def _connected(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, with a short busy timeout for the only other one, the checkpoint's."""
    return sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
