"""One kept HTTP connection of the load: it writes a whole request and reports the whole answer.

It reads no more of an answer than its end, its status and its Server-Timing header, because it shares a core with the
stub provider and must never be what is measured.
"""

import asyncio
import re
from typing import Protocol, cast

HEAD_END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"
CHUNKS_END = b"\r\n0\r\n\r\n"
TIMES = b"\r\nserver-timing:"
CONNECTION = b"\r\nconnection:"
STATUS = slice(9, 12)
BROKEN = 0
DURATION = re.compile(rb"(\w+);dur=([\d.]+)")


class Listener(Protocol):
    """Receives the answers. status: of HTTP, or BROKEN; times: the value of Server-Timing, empty without one."""

    def answered(self, connection: "Connection", status: int, times: bytes) -> None:
        """The answer is complete, or the connection ended before it was."""

    def lost(self, connection: "Connection") -> None:
        """The connection ended; a missing answer was reported as broken before."""


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._answer = b""
        self._is_busy = False
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can take a request."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def send(self, request: bytes) -> None:
        """Send a request; the listener receives its answer. Raises RuntimeError when the connection is closed."""
        if self._transport is None:
            raise RuntimeError("a closed connection was asked")
        self._is_busy = True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Report the answer when it is whole."""
        self._answer = answer = self._answer + data if self._answer else data
        head_end = answer.find(HEAD_END)
        if head_end < 0:
            return
        head = answer[:head_end].lower()
        length = after(head, LENGTH)
        if len(answer) < head_end + len(HEAD_END) + int(length) if length else not answer.endswith(CHUNKS_END):
            return
        self._answer, self._is_busy = b"", False
        if after(head, CONNECTION) == b"close" and self._transport is not None:
            self._transport.close()
        self._listener.answered(self, int(head[STATUS]), after(head, TIMES))

    def connection_lost(self, _error: Exception | None) -> None:
        """An answer that was still missing never comes."""
        self._transport = None
        if self._is_busy:
            self._is_busy = False
            self._listener.answered(self, BROKEN, b"")
        self._listener.lost(self)

    def close(self) -> None:
        """End it at once; a missing answer is reported as broken."""
        if self._transport is not None:
            self._transport.abort()


def after(head: bytes, name: bytes) -> bytes:
    """The value of a header, empty when it is absent."""
    found = head.find(name)
    return b"" if found < 0 else head[found + len(name) :].split(b"\r", 1)[0].strip()


def overhead_us(server_timing: bytes) -> float:
    """Total less upstream, in microseconds: all but the provider call, to which our HTTP client belongs."""
    stages = {name: float(ms) for name, ms in DURATION.findall(server_timing)}
    return 1000 * (stages[b"total"] - stages[b"upstream"])
