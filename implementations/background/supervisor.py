"""Supervises the service's background tasks: one that dies is logged, counted and restarted with back-off."""

import asyncio
from collections.abc import Mapping

import structlog

from metrics import Metrics
from protocols import ClockProtocol, SleepProtocol, Work

FIRST_RESTART_S = 1.0
LONGEST_RESTART_S = 30.0
STOP_TIMEOUT_S = 2.0

log = structlog.get_logger("background")


class Supervisor:
    """tasks: endless work, by name. clock: monotonic seconds. sleep: takes seconds."""

    def __init__(
        self, tasks: Mapping[str, Work], *, metrics: Metrics, clock: ClockProtocol, sleep: SleepProtocol
    ) -> None:
        self._works = tasks
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._running: list[asyncio.Task[None]] = []
        self._down: set[str] = set()

    @property
    def down(self) -> frozenset[str]:
        """The tasks that died and wait for their restart."""
        return frozenset(self._down)

    def start(self) -> None:
        """Start all tasks. Needs a running loop."""
        self._running = [asyncio.create_task(self._keep_alive(name, work)) for name, work in self._works.items()]

    async def stop(self) -> None:
        """Cancel all tasks and wait for them, two seconds at most."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=STOP_TIMEOUT_S)

    async def _keep_alive(self, name: str, work: Work) -> None:
        restart_s = FIRST_RESTART_S
        deaths = self._metrics.background_task_deaths.of(name)
        while True:
            self._metrics.background_task_up.of(name).set(1)
            self._down.discard(name)
            began_s = self._clock()
            error = await _end_of(work)
            if error is None:
                log.error("background_task_ended", task=name)
            else:
                log.error("background_task_died", task=name, exc_info=error)
            deaths.inc()
            self._metrics.background_task_up.of(name).set(0)
            self._down.add(name)
            if self._clock() - began_s >= LONGEST_RESTART_S:  # it ran well
                restart_s = FIRST_RESTART_S
            await self._sleep(restart_s)
            restart_s = min(restart_s * 2, LONGEST_RESTART_S)


async def _end_of(work: Work) -> BaseException | None:
    """How the work ended, also if something that it waited for was cancelled.

    It runs in a task of its own, because a task group that fails counts as a cancellation of the task that it is in.
    """
    running = asyncio.ensure_future(work())
    try:
        await asyncio.wait({running})
    except asyncio.CancelledError:  # ours: `wait` passes on nobody else's
        running.cancel()
        await asyncio.wait({running})
        raise
    return asyncio.CancelledError() if running.cancelled() else running.exception()
