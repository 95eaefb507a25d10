"""Messages to the other replicas, behind the back of whoever spends: nobody waits for them, nobody can cancel them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from implementations.accounting.fleet import Fleet

T = TypeVar("T")


class Messenger:
    """fleet: None without Redis; then there is nobody to tell."""

    def __init__(self, fleet: Fleet | None) -> None:
        self._fleet = fleet
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_telling = False

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it as a task of its own, which is kept until it ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def sync_soon(self) -> None:
        """Give back at once what somebody else may need, unless that is under way."""
        if self._fleet is not None and self._fleet.is_heard and not self._is_telling:
            self._is_telling = True
            self.start(self._tell(self._fleet))

    async def finish(self) -> None:
        """Tell what is not told yet; bounded by the patience with Redis."""
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
