"""Measures event loop lag: whatever blocks the loop delays every request."""

from metrics import Metrics
from protocols import ClockProtocol, SleepProtocol

INTERVAL_S = 0.1


async def measure_loop_lag(*, metrics: Metrics, clock: ClockProtocol, sleep: SleepProtocol) -> None:
    """One measurement: how much a short sleep overran. clock: monotonic seconds."""
    due_s = clock() + INTERVAL_S
    await sleep(INTERVAL_S)
    metrics.loop_lag.observe(max(0.0, clock() - due_s))
