"""Tells a Redis that is late from a service that kept itself waiting: for a connection, or by a stall of its loop."""

from math import inf

from protocols import ClockProtocol

SLOW_S = 0.12  # so that a request that looks up and reserves fits into REDIS_TIMEOUT_S
ONE_STALL_S = 0.05  # our own event loop was held up: all that was awaited comes due in the same moment


class Lateness:
    """What is known from all exchanges together. clock: monotonic seconds."""

    def __init__(self, clock: ClockProtocol) -> None:
        self.clock = clock
        self.replied_s = -inf
        self._late_since_s: dict[str, float] = {}

    def note_late(self, kind: str) -> bool:
        """Note one that is late, or waited in vain. True if one of its kind was a moment ago, for the same reason."""
        now_s = self.clock()
        if now_s < self._late_since_s.get(kind, -inf) + ONE_STALL_S:
            return True
        self._late_since_s[kind] = now_s
        return False


class Timing:
    """One exchange, from now on, for timeout_s at most."""

    def __init__(self, lateness: Lateness, timeout_s: float) -> None:
        self._lateness = lateness
        self._timeout_s = timeout_s
        self._began_s = lateness.clock()
        self._turn_s: float | None = None

    def turn(self) -> None:
        """It has a connection."""
        self._turn_s = self._lateness.clock()

    def replied(self) -> None:
        """It has a reply."""
        self._lateness.replied_s = self._lateness.clock()

    @property
    def had_no_turn(self) -> bool:
        """Whether it is still waiting for a connection."""
        return self._turn_s is None

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return self._lateness.clock() - self._began_s

    @property
    def is_slow(self) -> bool:
        """Whether a reply that comes now is late; the wait for a connection does not count."""
        return self.elapsed_s - self._waited_s >= SLOW_S

    @property
    def tells_of_redis(self) -> bool:
        """Whether a timeout says something about Redis: it had enough time, or replied to nobody meanwhile."""
        had_s = self._timeout_s - self._waited_s
        is_silent = self._lateness.replied_s <= self._began_s
        return self._timeout_s >= SLOW_S and (had_s >= SLOW_S or is_silent)

    @property
    def _waited_s(self) -> float:
        return 0.0 if self._turn_s is None else self._turn_s - self._began_s
