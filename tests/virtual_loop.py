"""An event loop whose time passes only while nobody is ready, and at once: waits of a minute cost nothing."""

import asyncio
from selectors import SelectorKey, SelectSelector


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
