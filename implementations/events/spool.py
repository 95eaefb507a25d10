"""The pending events as rows on disk: they survive a crash of the process, but not a power failure.

Whatever is to be stored and deleted at a time is one piece of work for the disk's thread. While it writes only answers
wait, until what was published before them is stored or a moment has passed. What a disk refuses is tried again; until
then events are in memory only. An event that cannot be read stays in its row.
"""

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from implementations.events.disk_thread import DiskThread
from implementations.events.message import Message
from implementations.events.spool_file import aside, opened
from implementations.events.spool_rows import SpoolRows, Written
from implementations.resilience.stalls import within
from metrics import Metrics
from protocols import ClockProtocol, SleepProtocol

STORE_TIMEOUT_S = 0.25  # the longest that an answer waits for its events
RETRY_S = 1.0
CLOSE_S = 1.0  # the longest wait for each last access
MOST_IDS_LOGGED = 20
TYPE = re.compile(r"[a-z][a-z0-9_.]{0,99}")
FAILED_WRITES, UNREADABLE_EVENTS, DAMAGED_DATABASE = "failed_writes", "unreadable_events", "damaged_database"
READING, WAITING = "select", "wait"

log = structlog.get_logger("events")


class DiskHangsError(Exception):
    """The disk has not answered while somebody waited."""


class Spool:
    """path: the database, created if missing. now, clock: the wall clock and the queue's monotonic one.

    Raises ConfigurationError if the path cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        metrics: Metrics,
        now: Callable[[], datetime],
        clock: ClockProtocol,
        sleep: SleepProtocol,
    ) -> None:
        self._metrics = metrics
        self._sleep = sleep
        self._failing: set[str] = set()
        self._unstored: dict[Message, None] = {}  # in publishing order
        self._undeleted: set[int] = set()
        self._has_work = asyncio.Event()
        self._under_way: Future[Written] | None = None
        self._noted = asyncio.Event()  # one for each piece of work
        self._unreadable: dict[str | None, list[int]] = {}
        self._lock, database = opened(path)
        self._rows = SpoolRows(database, now=now, clock=clock)
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

    @property
    def unstored(self) -> int:
        """How many pending messages are in memory only."""
        return len(self._unstored)

    def insert(self, message: Message) -> None:
        """Have `run` store the message."""
        message.encoded()
        self._unstored[message] = None
        self._has_work.set()

    def delete(self, messages: Sequence[Message]) -> None:
        """Have `run` delete the messages."""
        for message in messages:
            if message.row is None:
                self._unstored.pop(message, None)
            else:
                self._undeleted.add(message.row)
        self._has_work.set()

    async def stored(self) -> None:
        """Wait until what was inserted is stored; STORE_TIMEOUT_S at most, and not while the disk refuses or hangs."""
        newest = next(reversed(self._unstored), None)
        if newest is None:
            return
        with contextlib.suppress(TimeoutError):
            async with within(STORE_TIMEOUT_S):
                while self._may_store(newest.since_s):
                    await self._noted.wait()
        if self._may_store(newest.since_s):
            self._note_access(WAITING, DiskHangsError())

    async def run(self) -> None:
        """Write whatever there is to write, forever; a second after the disk refused it, again."""
        while True:
            await self._has_work.wait()
            work = self._begun()
            await asyncio.wait({asyncio.wrap_future(work)})  # which cancels nothing
            self._note(work.result())
            if self._refuses:
                await self._sleep(RETRY_S)

    def kept(self) -> Iterator[Message]:
        """The messages that an earlier process left, in publishing order, with their age; unreadable ones stay."""
        try:
            rows = self._rows.read()
        except sqlite3.Error as error:
            rows = []
            self._note_access(READING, error)
        for row in rows:
            try:
                message = self._rows.message(*row)
            except (ValueError, TypeError):
                self._unreadable.setdefault(_type_of(row[1]), []).append(row[0])
            else:
                yield message
        for kind, ids in self._unreadable.items():
            log.error("spooled_events_unreadable", type=kind, count=len(ids), ids=ids[:MOST_IDS_LOGGED])
        self._metrics.events_unreadable.set(sum(map(len, self._unreadable.values())))

    def close(self) -> None:
        """Write what there is to write; close the database and release the lock.

        If the disk hangs, both are left to the end of the process: the next one must not begin before.
        """
        if self._lock.closed:
            return
        with contextlib.suppress(TimeoutError):
            for _ in ("what is under way", "what has come since"):
                self._note(self._begun().result(CLOSE_S))
            self._disk.submit(self._rows.close).result(CLOSE_S)
            self._disk.end()
            self._lock.close()

    @property
    def _refuses(self) -> bool:
        return bool(self._failing - {READING})

    def _may_store(self, until_s: float) -> bool:
        """Whether something published until then is not stored, and the disk accepts writes."""
        oldest = next(iter(self._unstored), None)
        return oldest is not None and oldest.since_s <= until_s and not self._refuses

    def _begun(self) -> Future[Written]:
        """The write in progress; without one, that of all there is to write now is begun."""
        if self._under_way is None:
            work = partial(self._rows.write, tuple(self._unstored), tuple(self._undeleted))
            self._under_way = self._disk.submit(work)
        return self._under_way

    def _note(self, written: Written) -> None:
        """Record how the write in progress ended."""
        self._under_way = None
        self._undeleted.difference_update(written.deleted)
        for message, row in written.rows.items():
            if message in self._unstored:
                del self._unstored[message]
                message.row = row
            else:  # delivered or dropped meanwhile
                self._undeleted.add(row)
        for access, error in {**written.errors, WAITING: None}.items():
            self._note_access(access, error)
        if not (self._unstored or self._undeleted):
            self._has_work.clear()
        self._noted.set()
        self._noted = asyncio.Event()

    def _note_access(self, access: str, error: Exception | None) -> None:
        if error is None:
            self._failing.discard(access)
            return
        self._metrics.event_spool_failures.inc()
        if access not in self._failing:
            name = getattr(error, "sqlite_errorname", type(error).__name__)  # only what SQLite itself says has one
            log.error("event_spool_fails", access=access, error=name)  # no path, no row
        self._failing.add(access)


def _type_of(event: object) -> str | None:
    """The type as stored, if it may be logged."""
    return event if isinstance(event, str) and TYPE.fullmatch(event) else None
