"""An event loop whose time passes only while nobody is ready, and at once: waits of a minute cost nothing."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from selectors import SelectorKey, SelectSelector
from typing import Any, ParamSpec

from tests.fakes import Clock

P = ParamSpec("P")


class _AtOnce(SelectSelector):
    """Waits for nothing, and takes down how long it should have waited; nobody uses sockets here."""

    waited_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits for somebody else")
        self.waited_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Ready tasks run in asyncio's order. Raises RuntimeError if everybody waits for somebody else."""

    def __init__(self) -> None:
        self._selects = _AtOnce()
        super().__init__(self._selects)

    def time(self) -> float:
        return 1000.0 + self._selects.waited_s

    def stand_still(self, seconds: float) -> None:
        """Let time pass as if a callback blocked the loop, or the process were stopped."""
        self._selects.waited_s += seconds


class LoopClock(Clock):
    """The virtual loop's time, which goes on while all wait."""

    def __call__(self) -> float:
        return asyncio.get_running_loop().time()

    def advance(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.stand_still(seconds)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test, on a loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def arriving_during_a_stall(seconds: float) -> None:
    """The loop stands still for so long; what arrives meanwhile is read some turns later."""
    LoopClock().advance(seconds)
    for _ in range(5):
        await asyncio.sleep(0)
