"""Does what touches a disk in a thread of its own, so that a disk that hangs holds nobody up for long."""

import sqlite3
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TypeVar

PATIENCE_S = 0.25

T = TypeVar("T")


class DiskHangsError(sqlite3.OperationalError):
    """The disk has not answered in time."""


class DiskThread:
    """One piece of work at a time. A daemon thread: a process can end although its disk hangs."""

    def __init__(self) -> None:
        self._given: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._free = Lock()  # held while there is work
        Thread(target=self._work, name="spool", daemon=True).start()

    def run(self, work: Callable[[], T]) -> T:
        """Its result, or its exception. Blocks the caller for PATIENCE_S at most.

        Raises DiskHangsError after that, and at once as long as an earlier piece of work has not ended. What is late
        is done nevertheless; what comes after `end` is not.
        """
        results: list[T] = []
        errors: list[Exception] = []

        def done() -> None:
            try:
                results.append(work())
            except Exception as error:  # noqa: BLE001  raised where the caller waits
                errors.append(error)

        if not self._free.acquire(blocking=False):
            raise DiskHangsError
        self._given.put(done)
        if not self._free.acquire(timeout=PATIENCE_S):
            raise DiskHangsError
        self._free.release()
        for error in errors:
            raise error
        return results[0]

    def end(self) -> None:
        """Take nothing more; the thread ends after what it has been given."""
        self._free.acquire(blocking=False)
        self._given.put(None)

    def _work(self) -> None:
        while (work := self._given.get()) is not None:
            work()
            self._free.release()
