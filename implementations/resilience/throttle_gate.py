"""The pause that one provider asked for: nobody calls it before the pause is over."""

from collections.abc import Callable

LONGEST_PAUSE_S = 3600.0


class ThrottleGate:
    """clock: monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._paused_until_s = 0.0

    @property
    def remaining_s(self) -> float:
        """Seconds until the gate opens; 0 when it is open."""
        return max(0.0, self._paused_until_s - self._clock())

    def pause(self, seconds: float) -> None:
        """Close for so many seconds; never shortens a pause."""
        self._paused_until_s = max(self._paused_until_s, self._clock() + min(seconds, LONGEST_PAUSE_S))
