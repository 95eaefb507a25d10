"""Coalesces identical work: later callers wait for the flight that the first one started.

The work runs in its own task, which no waiter can cancel, not even the last one.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from exceptions import ServiceStoppingError

T = TypeVar("T")


def result_of(flight: asyncio.Task[T]) -> T:
    """What a flight that has landed gives to everybody who waited: its result, or its exception, which is raised.

    Raises ServiceStoppingError if it was cancelled, which only a shutdown does.
    """
    if flight.cancelled():
        raise ServiceStoppingError
    return flight.result()


class SingleFlight(Generic[T]):
    """The flights of one process, by key."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Task[T]] = {}

    @property
    def tasks(self) -> frozenset[asyncio.Task[T]]:
        """The flights in progress."""
        return frozenset(self._flights.values())

    def is_under_way(self, key: Hashable) -> bool:
        """Whether a flight with this key is in progress."""
        return key in self._flights

    def board(
        self,
        key: Hashable,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        on_start: Callable[[asyncio.Task[T]], None] = lambda _: None,
    ) -> asyncio.Task[T]:
        """The flight with this key, which must not be cancelled; the work is started if there is none.

        on_start: called with the task if this caller starts it.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(work())
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
            on_start(flight)
        return flight

    async def join(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of the flight, however long it takes. Raises like `result_of`."""
        flight = self.board(key, work)
        await asyncio.wait((flight,))
        return result_of(flight)

    def _landed(self, key: Hashable, flight: asyncio.Task[T]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # marks it as retrieved: every waiter may have gone
