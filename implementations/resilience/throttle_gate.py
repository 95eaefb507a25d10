"""The back-off that one provider asked for: no calls until it is over, and only a bounded number of waiters.

They pass one after the other, since the limit may still be in force: it then refuses the first ones, which closes the
gate for the others. If all came at once, all would be refused, and would count against a limit that counts refusals.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from protocols import ClockProtocol

LONGEST_PAUSE_S = 3600.0
APART_S = 0.1  # a refusal comes back in less


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
        self._paused_until_s = self._last_turn_s = 0.0
        self._waiting = 0
        self.is_overload = False

    @property
    def is_full(self) -> bool:
        """The maximum number of waiters is reached."""
        return self._waiting >= self._queue_limit

    @property
    def next_turn_s(self) -> float:
        """Seconds until the next turn after the pause, behind those who wait already."""
        return max(self._paused_until_s, self._last_turn_s) + APART_S - self._clock()

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Count as a waiter for the block, and take the next turn: yields the seconds until then."""
        turn_s = self.next_turn_s
        self._last_turn_s = self._clock() + turn_s
        self._waiting += 1
        try:
            with self._queueing():
                yield turn_s
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
        """Open at once for new calls; those that already wait do so until their turn, and nobody behind them."""
        self._paused_until_s = self._last_turn_s = 0.0
