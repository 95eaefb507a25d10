"""Background messages to the fleet: no caller waits for them or can cancel them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from implementations.accounting.fleet import Fleet

T = TypeVar("T")


class Messenger:
    """fleet: None without Redis; then nothing is sent."""

    def __init__(self, fleet: Fleet | None) -> None:
        self._fleet = fleet
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_telling = False

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it as a separate task, referenced until it ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def sync_soon(self) -> None:
        """Send pending differences now, unless a send is in progress: others may need what was released."""
        if self._fleet is not None and self._fleet.is_heard and not self._is_telling:
            self._is_telling = True
            self.start(self._tell(self._fleet))

    async def finish(self) -> None:
        """Send what is pending; bounded by the Redis timeout."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._fleet is not None and self._fleet.has_news:
            await self._fleet.sync()

    async def _tell(self, fleet: Fleet) -> None:
        try:
            while fleet.has_news and await fleet.sync():
                pass
        finally:
            self._is_telling = False
