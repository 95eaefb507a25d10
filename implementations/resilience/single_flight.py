"""Coalesces identical work: later callers wait for the flight that the first one started.

The work runs in its own task, which no waiter can cancel, not even the last one.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from exceptions import ServiceStoppingError

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """The flights of one process, by key."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Task[T]] = {}

    @property
    def tasks(self) -> frozenset[asyncio.Task[T]]:
        """The flights in progress."""
        return frozenset(self._flights.values())

    async def join(
        self,
        key: Hashable,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        on_start: Callable[[asyncio.Task[T]], None] = lambda _: None,
    ) -> tuple[T, bool]:
        """The result, and whether this caller started the work. An exception of the work is raised to every waiter.

        on_start: called with the task if this caller starts it.

        Raises ServiceStoppingError if the flight itself was cancelled, which only a shutdown does.
        """
        flight = self._flights.get(key)
        started = flight is None
        if flight is None:
            flight = asyncio.create_task(work())
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
            on_start(flight)
        try:
            return await asyncio.shield(flight), started
        except asyncio.CancelledError:
            if flight.cancelled():
                raise ServiceStoppingError from None
            raise

    def _landed(self, key: Hashable, flight: asyncio.Task[T]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # marks it as retrieved: every waiter may have gone
