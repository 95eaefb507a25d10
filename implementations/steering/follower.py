"""Polls for changes that an operator made through another replica."""

from collections.abc import Awaitable, Callable, Sequence

from protocols import SleepProtocol

INTERVAL_S = 2.0

Look = Callable[[], Awaitable[None]]


class Follower:
    """looks: each has its own timeout and raises nothing. sleep: takes seconds."""

    def __init__(self, looks: Sequence[Look], *, sleep: SleepProtocol) -> None:
        self._looks = looks
        self._sleep = sleep

    async def run(self) -> None:
        """Poll in a loop, forever."""
        while True:
            await self.poll()
            await self._sleep(INTERVAL_S)

    async def poll(self) -> None:
        """Poll once, a second at most."""
        for look in self._looks:
            await look()
