"""The back-off that one provider asked for: no calls until it is over, and only a bounded number of waiters."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from protocols import ClockProtocol

LONGEST_PAUSE_S = 3600.0


class ThrottleGate:
    """queue_limit: how many may wait for the end of the pause. clock: monotonic seconds. queueing: entered then.

    is_overload: whether the provider asked for the pause because it is overloaded, not because we ask too often.
    """

    def __init__(
        self,
        *,
        queue_limit: int,
        clock: ClockProtocol,
        queueing: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._queue_limit = queue_limit
        self._clock = clock
        self._queueing = queueing
        self._paused_until_s = 0.0
        self._waiting = 0
        self.is_overload = False

    @property
    def is_full(self) -> bool:
        """The maximum number of waiters is reached."""
        return self._waiting >= self._queue_limit

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count as a waiter for the block."""
        self._waiting += 1
        try:
            with self._queueing():
                yield
        finally:
            self._waiting -= 1

    @property
    def remaining_s(self) -> float:
        """Seconds until the gate opens; 0 when it is open."""
        return max(0.0, self._paused_until_s - self._clock())

    def pause(self, seconds: float, *, is_overload: bool = False) -> None:
        """Close for the given seconds, at most an hour; never shortens a pause."""
        until_s = self._clock() + min(seconds, LONGEST_PAUSE_S)
        if until_s > self._paused_until_s:
            self._paused_until_s, self.is_overload = until_s, is_overload

    def lift(self) -> None:
        """Open at once for new calls; those that already wait do so until their pause would have ended."""
        self._paused_until_s = 0.0
