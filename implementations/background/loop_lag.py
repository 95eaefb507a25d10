"""Measures event loop lag: whatever blocks the loop delays every request."""

from metrics import Metrics
from protocols import ClockProtocol, SleepProtocol

INTERVAL_S = 0.1


class LoopLag:
    """clock: monotonic seconds. sleep: takes seconds."""

    def __init__(self, *, metrics: Metrics, clock: ClockProtocol, sleep: SleepProtocol) -> None:
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Measure in a loop, forever."""
        while True:
            await self.measure()

    async def measure(self) -> None:
        """One measurement: how much a short sleep overran."""
        due_s = self._clock() + INTERVAL_S
        await self._sleep(INTERVAL_S)
        self._metrics.loop_lag.observe(max(0.0, self._clock() - due_s))
