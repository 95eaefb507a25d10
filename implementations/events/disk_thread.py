"""Does what touches a disk in a thread of its own, so that a disk that hangs holds nobody up for long."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

PATIENCE_S = 0.25

T = TypeVar("T")


class DiskHangsError(sqlite3.OperationalError):
    """The disk has not answered in time."""


class DiskThread:
    """One piece of work at a time. A daemon thread: a process can end although its disk hangs."""

    def __init__(self) -> None:
        self._given: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._latest: Future[Any] | None = None
        Thread(target=self._work, name="spool", daemon=True).start()

    def run(self, work: Callable[[], T]) -> T:
        """Its result, or its exception. Blocks the caller for PATIENCE_S at most.

        Raises DiskHangsError after that, and at once as long as an earlier piece of work has not ended and after
        `end`. What is late is done nevertheless.
        """
        if self._latest is not None and not self._latest.done():
            raise DiskHangsError
        done = Future[T]()
        self._latest = done
        self._given.put((work, done))
        try:
            return done.result(timeout=PATIENCE_S)
        except TimeoutError:
            raise DiskHangsError from None

    def end(self) -> None:
        """Take nothing more; the thread ends after what it has been given."""
        self._given.put(None)
        self._latest = Future()

    def _work(self) -> None:
        while (given := self._given.get()) is not None:
            work, done = given
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001  the caller's
                done.set_exception(error)
