"""Disk work in a thread of its own, so that a disk that is slow or hangs holds nobody up."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class DiskThread:
    """One piece of work after the other. A daemon thread, unlike an executor's: a process can end although it hangs."""

    def __init__(self) -> None:
        self._given: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        Thread(target=self._work, name="spool", daemon=True).start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """The future result of the work, which must not raise. It is done even if nobody waits for it."""
        future: Future[T] = Future()
        self._given.put(lambda: future.set_result(work()))
        return future

    def end(self) -> None:
        """Take nothing more; the thread ends after what it has been given."""
        self._given.put(None)

    def _work(self) -> None:
        while (work := self._given.get()) is not None:
            work()
