"""Drains the service before it stops: announces the shutdown, then refuses new work, then finishes running work.

Load balancers learn of the shutdown with a delay, from a probe or from Kubernetes. Until then they keep sending
requests here, so admission closes only after the delay.
"""

from typing import Any

from implementations.resilience.admission import Admission
from implementations.resilience.single_flight import SingleFlight
from implementations.resilience.stalls import stall_grace_s
from protocols import ClockProtocol, SleepProtocol

POLL_S = 0.02
ABORT_S = 1.0


class Drain:
    """delay_s: from the announcement until admission closes; grace_s: the longest wait for running work.

    clock: monotonic seconds.
    """

    def __init__(
        self,
        admission: Admission,
        flights: SingleFlight[Any],
        *,
        delay_s: float,
        grace_s: float,
        clock: ClockProtocol,
        sleep: SleepProtocol,
    ) -> None:
        self._admission = admission
        self._flights = flights
        self._delay_s = delay_s
        self._grace_s = grace_s
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> bool:
        """Announce, close, wait, and cancel what remains. True if everything finished in time."""
        self._admission.announce_end()
        await self._sleep(self._delay_s)
        self._admission.close()
        finished = await self._empty_within(self._grace_s)
        if not finished:
            self.abort()
            await self._empty_within(ABORT_S)
        return finished

    def abort(self) -> None:
        """Close and cancel what is still running; its callers get ServiceStoppingError."""
        self._admission.close()
        for flight in self._flights.tasks:
            flight.cancel()
        self._admission.cancel_all()

    async def _empty_within(self, seconds: float) -> bool:
        """Whether nothing runs any more. After a stall of our own, what arrived meanwhile is read first."""
        ends_s = self._clock() + seconds
        while self._is_busy and (left_s := ends_s - self._clock()) > 0:
            await self._sleep(min(POLL_S, left_s))
        if self._is_busy:
            await self._sleep(stall_grace_s(self._clock() - ends_s))
        return not self._is_busy

    @property
    def _is_busy(self) -> bool:
        return bool(self._admission.inside or self._flights.tasks)
