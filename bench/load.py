"""Load over a fixed number of connections that are kept open, at a given pace.

A request that is due and finds no free connection waits for one; its latency counts from the moment it was due.
"""

import asyncio
import contextlib
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from bench.alarm import Alarm
from bench.pace import Pace
from bench.wire import Connection

LATE_S = 0.001
GRACE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is loaded, over how many connections, and with what: request makes the bytes of the next question."""

    host: str
    port: int
    connections: int
    request: Callable[[], bytes]


@dataclass(slots=True, kw_only=True)
class Samples:
    """The results of the requests that were due within a span of time, in seconds of a monotonic clock.

    times: Server-Timing values as they came. late: left more than a millisecond after they were due although a
    connection was free; waited: found none. answered: how many answers came within the span, whenever they were due.
    """

    begin_s: float = 0.0
    end_s: float = 0.0
    due: int = 0
    late: int = 0
    waited: int = 0
    answered: int = 0
    latencies_s: "array[float]" = field(default_factory=lambda: array("d"))
    statuses: dict[int, int] = field(default_factory=dict)
    times: list[bytes] = field(default_factory=list)

    @property
    def elapsed_s(self) -> float:
        """The length of the span."""
        return self.end_s - self.begin_s

    @property
    def lost(self) -> int:
        """How many were due and got no answer within the grace period."""
        return self.due - len(self.latencies_s)

    def take(self, latency_s: float, status: int, times: bytes) -> None:
        """Record one answer."""
        self.latencies_s.append(latency_s)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if times:
            self.times.append(times)


class Load:
    """Runs while its block is open; `watch` begins a span in which requests are counted, `end` ends it."""

    def __init__(self, asked: Asked, pace: Pace) -> None:
        self._asked = asked
        self._pace = pace
        self._under_way: dict[Connection, float] = {}
        self._free: deque[Connection] = deque()
        self._reopening: set[asyncio.Task[None]] = set()
        self._samples = Samples()
        self._answers = 0
        self._progress = asyncio.Event()
        self._runs = True

    async def __aenter__(self) -> Self:
        """Open every connection and begin."""
        self._alarm = Alarm(self._rang)
        for _ in range(self._asked.connections):
            self._free.append(await self._connected())
        self._pace.begin(time.monotonic())
        self._rang()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        self._runs = False
        self._alarm.close()
        for task in self._reopening:
            task.cancel()
        for connection in (*self._under_way, *self._free):
            connection.close()

    def watch(self, seconds: float) -> Samples:
        """Count the requests that are due within the next seconds."""
        now_s = time.monotonic()
        self._samples = Samples(begin_s=now_s, end_s=now_s + seconds)
        return self._samples

    def end(self) -> None:
        """The span that is watched ends now."""
        self._samples.end_s = time.monotonic()

    async def whole_cohort(self) -> None:
        """Wait until the number of answers is a multiple of the connections.

        Requests that were sent together are answered together: a span that begins and ends between two such cohorts
        counts whole ones, however few of them fit in.
        """
        connections = self._asked.connections
        wanted = (self._answers // connections + 1) * connections
        await self._until(lambda: self._answers >= wanted)

    async def settle(self) -> None:
        """Wait until all that was due in the span is answered; then send no more and wait for what is in flight."""
        samples = self._samples
        await self._until(lambda: not samples.lost and not self._pace.untaken(samples.end_s))
        samples.due += self._pace.untaken(samples.end_s)
        self._samples = Samples()
        self._runs = False
        await self._until(lambda: not self._under_way)

    def answered(self, connection: Connection, status: int, times: bytes) -> None:
        """Record the answer, and send the next request when one is due."""
        now_s, due_s = time.monotonic(), self._under_way.pop(connection)
        self._answers += 1
        self._samples.answered += self._counts(now_s)
        if self._counts(due_s):
            self._samples.take(now_s - due_s, status, times)
        self._progress.set()
        if not connection.is_open:
            return
        if self._runs and not self._free and (next_s := self._pace.take(now_s)) is not None:
            self._samples.waited += self._counts(next_s) and next_s < now_s
            self._ask(connection, next_s)
        else:
            self._free.append(connection)
            self._rang()

    def lost(self, connection: Connection) -> None:
        """Put another in its place."""
        if connection in self._free:
            self._free.remove(connection)
        if self._runs:
            task = asyncio.ensure_future(self._reopen())
            self._reopening.add(task)
            task.add_done_callback(self._reopening.discard)

    def _rang(self) -> None:
        """Something may be due, and connections may be free."""
        now_s = time.monotonic()
        while self._runs and self._free and (due_s := self._pace.take(now_s)) is not None:
            self._samples.late += self._counts(due_s) and now_s - due_s > LATE_S
            self._ask(self._free.popleft(), due_s)
        self._set_alarm()

    def _ask(self, connection: Connection, due_s: float) -> None:
        self._under_way[connection] = due_s
        self._samples.due += self._counts(due_s)
        connection.send(self._asked.request())

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Wait for answers until it is so, at most for a grace."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                while not is_so():
                    self._progress.clear()
                    await self._progress.wait()

    def _counts(self, moment_s: float) -> bool:
        return self._samples.begin_s <= moment_s < self._samples.end_s

    def _set_alarm(self) -> None:
        next_s = self._pace.next_s()
        if self._free and next_s is not None:
            self._alarm.set(next_s)

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), self._asked.host, self._asked.port)
        return connection

    async def _reopen(self) -> None:
        with contextlib.suppress(OSError):  # a server that is gone: what stays due is counted as lost
            self._free.append(await self._connected())
            self._rang()
