"""Time limits that a stall of our own event loop prolongs: what arrived meanwhile is read before a wait ends."""

import asyncio
from types import TracebackType
from typing import Any

LONGEST_STALL_GRACE_S = 0.5


def stall_grace_s(late_s: float) -> float:
    """How many seconds more to wait for what was due late_s seconds ago: as many, up to a limit.

    We are late if the loop stood still, and then an answer may have arrived that it has not read yet.
    """
    return min(late_s, LONGEST_STALL_GRACE_S)


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
        now_s = asyncio.get_running_loop().time()
        self._limit.reschedule(now_s + stall_grace_s(now_s - self._due_s))


async def any_done(*tasks: asyncio.Task[Any], within_s: float) -> bool:
    """Whether one of them ends in time. Neither the end of the time nor a cancellation of the caller reaches them."""
    loop = asyncio.get_running_loop()
    due_s = loop.time() + within_s
    ended, _ = await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    if not ended:
        grace_s = stall_grace_s(loop.time() - due_s)
        ended, _ = await asyncio.wait(tasks, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
    return bool(ended)
