"""Empties the service before it stops: the end is announced, then new work is refused, then running work is finished.

Balancers learn of the end with a delay, from a probe or from Kubernetes. Until they know, they send work that nobody
else would answer, so the door closes only after the delay.
"""

import asyncio
from typing import Any, Protocol

from implementations.resilience.admission import Admission
from protocols import SleepProtocol

POLL_S = 0.02
ABORT_S = 1.0


class Outliving(Protocol):
    """Work that outlives whoever asked for it."""

    @property
    def tasks(self) -> frozenset[asyncio.Task[Any]]:
        """What is under way."""
        ...


class Drain:
    """delay_s: how long the end is announced before the door closes; grace_s: the longest wait for running work."""

    def __init__(
        self,
        admission: Admission,
        flights: Outliving,
        *,
        delay_s: float,
        grace_s: float,
        sleep: SleepProtocol,
    ) -> None:
        self._admission = admission
        self._flights = flights
        self._delay_s = delay_s
        self._grace_s = grace_s
        self._sleep = sleep

    async def run(self) -> bool:
        """Announce, close, wait, and cancel what remains. True when everything was finished in time."""
        self._admission.announce_end()
        await self._sleep(self._delay_s)
        self._admission.close()
        finished = await self._empty_within(self._grace_s)
        if not finished:
            self.abort()
            await self._empty_within(ABORT_S)
        return finished

    def abort(self) -> None:
        """Close and cancel what is still running; its callers are told that the service stops."""
        self._admission.close()
        for flight in self._flights.tasks:
            flight.cancel()
        self._admission.turn_out()

    async def _empty_within(self, seconds: float) -> bool:
        for _ in range(max(1, round(seconds / POLL_S))):
            if not (self._admission.inside or self._flights.tasks):
                return True
            await self._sleep(POLL_S)
        return not (self._admission.inside or self._flights.tasks)
