"""Admission to the service: tracks the admitted requests, announces the shutdown, and can cancel what remains."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from exceptions import ServiceStoppingError


class Admission:
    """Open until `close`, which calls `on_close`; from `announce_end` on, load balancers are told to go elsewhere."""

    def __init__(self) -> None:
        self.on_close: Callable[[], None] = lambda: None
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
        """The admitted tasks."""
        return frozenset(self._inside)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Admit the current task. Raises ServiceStoppingError when closed, or if `cancel_all` cancelled the task."""
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
        """Announce the shutdown; requests that still arrive are admitted."""
        self._draining = True

    def close(self) -> None:
        """Admit nothing more."""
        self._draining = True
        self._open = False
        self.on_close()

    def cancel_all(self) -> None:
        """Cancel every admitted task; their callers get ServiceStoppingError."""
        for task in self._inside - self._turned_out:
            self._turned_out.add(task)
            task.cancel()
