"""The door of the service: it counts who is inside, announces that it will close, and can turn the last ones out."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from exceptions import ServiceStoppingError


class Admission:
    """Open from the start until `close`; balancers are sent elsewhere from `announce_end` on."""

    def __init__(self) -> None:
        self._inside: set[asyncio.Task[object]] = set()
        self._turned_out: set[asyncio.Task[object]] = set()
        self._open = True
        self._draining = False

    @property
    def is_draining(self) -> bool:
        """New work should go to another replica."""
        return self._draining

    @property
    def inside(self) -> frozenset[asyncio.Task[object]]:
        """The tasks that hold a place."""
        return frozenset(self._inside)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place. Raises ServiceStoppingError when closed, and in the place of our own cancellation."""
        task = asyncio.current_task()
        if not self._open or task is None:
            raise ServiceStoppingError
        self._inside.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._turned_out:
                raise
            task.uncancel()
            raise ServiceStoppingError from None
        finally:
            self._inside.discard(task)
            self._turned_out.discard(task)

    def announce_end(self) -> None:
        """Say that the door will close; whoever comes all the same is still taken in."""
        self._draining = True

    def close(self) -> None:
        """Take nobody in any more."""
        self._draining = True
        self._open = False

    def turn_out(self) -> None:
        """End the work of everybody who is still inside; they answer that the service stops."""
        for task in self._inside - self._turned_out:
            self._turned_out.add(task)
            task.cancel()
