"""A bulkhead: bounds concurrency, memory, queue length and queueing time."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from math import inf
from typing import Any

from api_models import ShedReason
from exceptions import ServiceOverloadedError
from implementations.resilience.memory_limit import MemoryLimit
from implementations.resilience.stalls import within


class Slot:
    """A slot in the bulkhead; `leave` it once. Tasks that outlive the request may hold it longer."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._holders = 1

    def keep_for(self, task: asyncio.Task[Any]) -> None:
        """Hold the slot until this task is done, too."""
        self._holders += 1
        task.add_done_callback(lambda _: self.leave())

    def leave(self) -> None:
        """Drop one holder; the last one frees the slot."""
        self._holders -= 1
        if self._holders == 0:
            self._release()


class Bulkhead:
    """limit: slots. queue_limit: how many may wait for one. queueing: entered while waiting.

    memory: shared by running and waiting requests.
    """

    def __init__(
        self,
        *,
        limit: int,
        queue_limit: int,
        queueing: Callable[[], AbstractContextManager[object]] = nullcontext,
        memory: MemoryLimit | None = None,
    ) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._queue_limit = queue_limit
        self._queueing = queueing
        self._memory = memory or MemoryLimit(inf)
        self._waiting = 0
        self._inside = 0

    @property
    def inside(self) -> int:
        """Slots in use."""
        return self._inside

    @property
    def is_full(self) -> bool:
        """Whether a request that enters now has to wait."""
        return self._slots.locked()

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return self._waiting

    async def enter(self, *, within_s: float, size_bytes: int = 0) -> Slot:
        """Acquire a slot, first come first served, and reserve size_bytes of memory; all of it for a larger request.

        Raises ServiceOverloadedError if the memory limit is reached, the queue is full or the wait exceeds within_s.
        """
        size_bytes = int(min(size_bytes, self._memory.limit_bytes))
        self._memory.take(size_bytes)
        try:
            if self._slots.locked():
                with self._queueing():
                    await self._wait(within_s)
            else:
                await self._slots.acquire()  # does not wait
        except BaseException:
            self._memory.give_back(size_bytes)
            raise
        self._inside += 1
        return Slot(partial(self._left, size_bytes))

    async def _wait(self, within_s: float) -> None:
        if self._waiting >= self._queue_limit:
            raise ServiceOverloadedError("the wait queue is full", shed=ShedReason.QUEUE_FULL)
        self._waiting += 1
        try:
            async with within(within_s):
                await self._slots.acquire()
        except TimeoutError:
            raise ServiceOverloadedError("no slot became free in time", shed=ShedReason.QUEUE_TIMEOUT) from None
        finally:
            self._waiting -= 1

    def _left(self, size_bytes: int) -> None:
        self._inside -= 1
        self._memory.give_back(size_bytes)
        self._slots.release()
