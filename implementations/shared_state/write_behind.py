"""Background writes to Redis: bounded in number, and finished or abandoned when the service stops."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from metrics import Metrics

MAX_WRITES = 256
FINISH_S = 0.5


class WriteBehind:
    """Each write must have its own timeout and raise nothing."""

    def __init__(self, *, metrics: Metrics) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        metrics.cache_writes_behind.set_function(lambda: len(self._running))

    def start(self, work: Coroutine[Any, Any, object]) -> bool:
        """Run the work in the background; False, without running it, if the limit is reached."""
        if len(self._running) >= MAX_WRITES:
            work.close()
            return False
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def finish(self) -> None:
        """Wait for running writes, half a second at most."""
        if self._running:
            await asyncio.wait(self._running, timeout=FINISH_S)
