"""The failure rate of the last minute, which opens a circuit that sees no failures in a row."""

from collections import deque

WINDOW_S = 60
WORST_FAILURE_RATE = 0.5


class FailureWindow:
    """Calls and failures of the last minute, in buckets of a second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int, int]] = deque(maxlen=WINDOW_S)

    def count(self, now_s: float, *, failed: bool) -> None:
        """Add one call."""
        second, calls, failures = int(now_s), 0, 0
        if self._seconds and self._seconds[-1][0] == second:
            _, calls, failures = self._seconds.pop()
        self._seconds.append((second, calls + 1, failures + failed))

    def is_bad(self, now_s: float, fewest_calls: int) -> bool:
        """Whether so many calls were made in the last minute, and too many of them failed."""
        recent = [(calls, failures) for second, calls, failures in self._seconds if second > now_s - WINDOW_S]
        total, failed = sum(calls for calls, _ in recent), sum(failures for _, failures in recent)
        return total >= fewest_calls and failed >= total * WORST_FAILURE_RATE
