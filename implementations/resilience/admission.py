"""The door of the service: it counts who is inside, closes for the shutdown and can turn the last ones out."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from exceptions import ServiceStoppingError


class Admission:
    """Open from the start until `close`."""

    def __init__(self) -> None:
        self._inside: set[asyncio.Task[object]] = set()
        self._turned_out: set[asyncio.Task[object]] = set()
        self._open = True

    @property
    def is_open(self) -> bool:
        """New work is taken."""
        return self._open

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

    def close(self) -> None:
        """Take nobody in any more."""
        self._open = False

    def turn_out(self) -> None:
        """End the work of everybody who is still inside; they answer that the service stops."""
        for task in self._inside - self._turned_out:
            self._turned_out.add(task)
            task.cancel()
