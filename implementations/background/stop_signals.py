"""Stop signals: the first drains the service before the server stops, a second stops it at once."""

import asyncio
import signal
from collections.abc import Coroutine

import structlog

from implementations.resilience.drain import Drain

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger("service")


class StopSignals:
    """Replaces the server's handlers from `take_over` on, which is called inside the event loop.

    Once the server has stopped it restores what handled them before. Until then none may have its default effect: it
    would end the process before the last log lines are written.
    """

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._servers: dict[signal.Signals, object] = {}
        self._draining: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._hurries = False

    def take_over(self) -> None:
        """Handle the signals that the server handles; others keep their default effect."""
        self._servers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        for number, handler in self._servers.items():
            if callable(handler) and handler is not signal.default_int_handler:
                asyncio.get_running_loop().add_signal_handler(number, self._received, number)

    async def unless_hurried(self, closing: Coroutine[None, None, None]) -> None:
        """Run the final cleanup, which a second signal cancels."""
        self._closing = asyncio.create_task(closing)
        await asyncio.wait([self._closing])
        if not self._closing.cancelled():
            self._closing.result()

    def _received(self, number: signal.Signals) -> None:
        if self._draining is None and self._closing is None:
            self._draining = asyncio.create_task(self._drain_and_stop())
        elif not self._hurries:
            self._hurries = True
            self._stop_at_once(number)

    async def _drain_and_stop(self) -> None:
        log.info("drain_started")
        finished = await self._drain.run()
        log.info("drain_ended", all_requests_finished=finished)
        self._signal_server(signal.SIGTERM)  # a SIGINT would count as its second if the server saw the first

    def _stop_at_once(self, number: signal.Signals) -> None:
        log.warning("stopping_at_once", lost="running comparisons, and events that are in memory only")
        for task in (self._draining, self._closing):
            if task is not None:
                task.cancel()
        self._drain.abort()
        self._signal_server(number)
        self._signal_server(signal.SIGINT)  # a SIGINT after another signal makes Uvicorn exit at once

    def _signal_server(self, number: signal.Signals) -> None:
        handler = self._servers[number]
        if callable(handler):
            handler(number, None)
