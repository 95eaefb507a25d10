"""Work for Redis that nobody waits for: bounded in number, and finished or forgotten when the service stops."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from metrics import Metrics

MAX_WRITES = 256
FINISH_S = 0.5


class WriteBehind:
    """Every piece of work bounds itself in time and raises nothing."""

    def __init__(self, *, metrics: Metrics, limit: int = MAX_WRITES) -> None:
        self._limit = limit
        self._running: set[asyncio.Task[Any]] = set()
        metrics.cache_writes_behind.set_function(lambda: len(self._running))

    def start(self, work: Coroutine[Any, Any, object]) -> bool:
        """False when there is too much to do already; the work is then not done."""
        if len(self._running) >= self._limit:
            work.close()
            return False
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def finish(self) -> None:
        """Wait for what is under way, half a second at most."""
        if self._running:
            await asyncio.wait(self._running, timeout=FINISH_S)
