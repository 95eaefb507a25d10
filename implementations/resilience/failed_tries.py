"""Counts what somebody tried in vain, so that it cannot be tried without end."""

from collections import OrderedDict, deque
from collections.abc import Hashable

from protocols import ClockProtocol


class FailedTries:
    """At most so many in any window, for each who tries. clock: monotonic seconds.

    remembered: of how many something is known; who failed longest ago is forgotten first.
    """

    def __init__(self, *, most: int, window_s: float, remembered: int, clock: ClockProtocol) -> None:
        self._most = most
        self._window_s = window_s
        self._remembered = remembered
        self._clock = clock
        self._failures: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def wait_s(self, who: Hashable) -> float:
        """Seconds until the next try, 0 for now. A success forgives nothing."""
        failures = self._failures.get(who)
        if failures is None or len(failures) < self._most:
            return 0.0
        return max(0.0, failures[0] + self._window_s - self._clock())

    def remember(self, who: Hashable) -> None:
        """One more was in vain."""
        self._failures.setdefault(who, deque(maxlen=self._most)).append(self._clock())
        self._failures.move_to_end(who)
        if len(self._failures) > self._remembered:
            self._failures.popitem(last=False)
