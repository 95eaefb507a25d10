"""Measures how late the event loop is: what keeps it busy keeps every request waiting."""

from metrics import Metrics
from protocols import ClockProtocol, SleepProtocol

INTERVAL_S = 0.1


class LoopLag:
    """clock: monotonic seconds. sleep: waits so many seconds."""

    def __init__(self, *, metrics: Metrics, clock: ClockProtocol, sleep: SleepProtocol) -> None:
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.measure()

    async def measure(self) -> None:
        """Once: by how much a short sleep is too long."""
        due_s = self._clock() + INTERVAL_S
        await self._sleep(INTERVAL_S)
        self._metrics.loop_lag.observe(max(0.0, self._clock() - due_s))
