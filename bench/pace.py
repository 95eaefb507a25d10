"""When requests are due: as soon as a connection is free, or at moments that were fixed before."""

import random
from array import array
from bisect import bisect_left
from itertools import accumulate
from typing import Protocol


class Pace(Protocol):
    """Moments and spans are seconds of one monotonic clock."""

    def begin(self, now_s: float) -> None:
        """The schedule counts from now."""

    def take(self, now_s: float) -> float | None:
        """When the next request was due, if it is due by now; it is taken off the schedule."""

    def next_s(self) -> float | None:
        """When the next one is due; None when only a free connection decides that, or nothing comes any more."""

    def untaken(self, before_s: float) -> int:
        """How many were due before a moment and are still on the schedule."""


class Closed:
    """Always due: as many requests are under way as there are connections.

    It finds the capacity, and hides every wait that it causes.
    """

    def begin(self, now_s: float) -> None:
        """There is no schedule."""

    def take(self, now_s: float) -> float | None:
        """Now."""
        return now_s

    def next_s(self) -> float | None:
        """Never by itself."""
        return None

    def untaken(self, before_s: float) -> int:  # noqa: ARG002  as the protocol says
        """There is no schedule that one could lag behind."""
        return 0


class Open:
    """Due at random moments, rate of them a second on average: callers who know nothing of each other or of us.

    The same seed draws the same moments.
    """

    def __init__(self, *, rate: float, seconds: float, seed: int) -> None:
        draw = random.Random(seed)
        gaps = (draw.expovariate(rate) for _ in range(round(rate * seconds)))
        self._due_s = array("d", accumulate(gaps))
        self._next = 0
        self._began_s = 0.0

    def begin(self, now_s: float) -> None:
        """The first request is due a little later."""
        self._began_s = now_s

    def take(self, now_s: float) -> float | None:
        """The oldest that is due."""
        due_s = self.next_s()
        if due_s is None or due_s > now_s:
            return None
        self._next += 1
        return due_s

    def next_s(self) -> float | None:
        """None at the end of the schedule."""
        return self._began_s + self._due_s[self._next] if self._next < len(self._due_s) else None

    def untaken(self, before_s: float) -> int:
        """The backlog of that moment."""
        return max(0, bisect_left(self._due_s, before_s - self._began_s) - self._next)
