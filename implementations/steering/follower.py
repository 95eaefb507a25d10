"""Looks again and again whether an operator told another replica something."""

from collections.abc import Awaitable, Callable, Sequence

from protocols import SleepProtocol

INTERVAL_S = 2.0

Look = Callable[[], Awaitable[None]]


class Follower:
    """looks: each bounds itself and raises nothing. sleep: waits so many seconds."""

    def __init__(self, looks: Sequence[Look], *, sleep: SleepProtocol) -> None:
        self._looks = looks
        self._sleep = sleep

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.poll()
            await self._sleep(INTERVAL_S)

    async def poll(self) -> None:
        """Once, a second at most."""
        for look in self._looks:
            await look()
