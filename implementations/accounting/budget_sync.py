"""Background messages to the shared budget: no caller waits for them or can cancel them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from implementations.accounting.shared_budget import SharedBudget

T = TypeVar("T")


class BudgetSync:
    """shared: None without Redis; then nothing is sent."""

    def __init__(self, shared: SharedBudget | None) -> None:
        self._shared = shared
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_syncing = False

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it as a separate task, referenced until it ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def sync_soon(self) -> None:
        """Send pending differences now, unless a send is in progress: others may need what was released."""
        shared = self._shared
        if shared is not None and shared.is_heard and shared.has_news and not self._is_syncing:
            self._is_syncing = True
            self.start(self._sync(shared))

    async def finish(self) -> None:
        """Send what is pending, also what was sent in vain; bounded by a few Redis timeouts."""
        while self._tasks:  # one that ends may start another
            await asyncio.wait(self._tasks)
        if self._shared is not None:
            await self._shared.sync()

    async def _sync(self, shared: SharedBudget) -> None:
        try:
            while shared.is_heard and shared.has_news:
                await shared.sync()
        finally:
            self._is_syncing = False
