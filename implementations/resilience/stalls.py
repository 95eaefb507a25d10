"""Time limits that a stall of our own event loop prolongs: what arrived meanwhile is read before a wait is given up."""

import asyncio
from types import TracebackType

LONGEST_STALL_GRACE_S = 0.5


def stall_grace_s(due_s: float) -> float:
    """How many seconds more to wait for what was due at due_s, on the event loop's clock: as many as we are late.

    We are late if the loop stood still, and then an answer may have arrived that it has not read yet.
    """
    return min(asyncio.get_running_loop().time() - due_s, LONGEST_STALL_GRACE_S)


class within:  # noqa: N801  used like a function
    """Like `asyncio.timeout`, but it ends later by the grace of a stall."""

    def __init__(self, seconds: float) -> None:
        self._seconds = max(0.0, seconds)

    async def __aenter__(self) -> None:
        """Begin."""
        loop, self._limit = asyncio.get_running_loop(), asyncio.timeout(None)
        self._due_s = loop.time() + self._seconds
        self._due = loop.call_at(self._due_s, self._end)
        await self._limit.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises TimeoutError if the time was over."""
        self._due.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def expired(self) -> bool:
        """Whether the time was over."""
        return self._limit.expired()

    def _end(self) -> None:
        self._limit.reschedule(asyncio.get_running_loop().time() + stall_grace_s(self._due_s))
