"""The body of a request: read as a whole when somebody awaits it, bounded in time, in size and in memory."""

import asyncio
import sys
from collections.abc import Callable, Generator
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGIReceiveEvent
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, RequestTimeout

from exceptions import ServiceOverloadedError
from protocols import MemoryProtocol

SMALL_BYTES = 64 * 1024


class UnlimitedMemory:
    """Memory without a bound."""

    def take(self, size_bytes: int) -> None:
        """It is there."""

    def give_back(self, size_bytes: int) -> None:
        """Nobody misses it."""


class Body:
    """What the caller sends. Awaiting it reads it to its end, in bounded time and size; it cannot be read in parts."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        self._parts = bytearray()
        self._limit = sys.maxsize if max_content_length is None else max_content_length
        self._refusal: HTTPException | ServiceOverloadedError | None = None
        if (expected_content_length or 0) > self._limit:
            self._refusal = RequestEntityTooLarge()
        self._within_s: float | None = None
        self._turn = asyncio.Lock()
        self.is_whole = self.is_late = False
        self.caller_left = False
        self.memory: MemoryProtocol = UnlimitedMemory()
        self._taken_bytes = 0

    def open(self, receive: ASGIReceiveCallable, *, within_s: float | None) -> None:
        """Say where it comes from, and how long reading it may take."""
        self._receive = receive
        self._within_s = within_s

    def set_result(self, data: bytes) -> None:
        """Nothing comes: this is all of it. For Quart's request contexts of tests."""
        self._parts += data
        self.is_whole = True

    def __await__(self) -> Generator[Any, None, bytes]:
        """All of it.

        Raises RequestEntityTooLarge, RequestTimeout, ServiceOverloadedError when there is no memory for it, and
        CancelledError when the caller leaves.
        """
        return self._read().__await__()

    def clear(self) -> None:
        """Forget what was read."""
        self.memory.give_back(self._taken_bytes)
        self._taken_bytes = 0
        self._parts.clear()

    async def until_caller_leaves(self) -> None:
        """Wait for that. What is received meanwhile is kept for whoever reads the body."""
        while not self.caller_left:
            await self._receive_unless(lambda: self.caller_left)

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self._within_s):
                while not (self.needs_no_more or self.caller_left):
                    await self._receive_unless(lambda: self.needs_no_more or self.caller_left)
        except TimeoutError:
            self.is_late = True
            raise RequestTimeout from None
        if self._refusal is not None:
            raise self._refusal
        if not self.is_whole:
            raise asyncio.CancelledError
        return bytes(self._parts)

    @property
    def needs_no_more(self) -> bool:
        """There is nothing more to receive, or it would not be kept."""
        return self.is_whole or self._refusal is not None

    async def _receive_unless(self, is_needless: Callable[[], bool]) -> None:
        """Who reads and who looks take turns; what one receives may be all that the other waits for."""
        async with self._turn:
            if not is_needless():
                self._note(await self._receive())

    def _note(self, message: ASGIReceiveEvent) -> None:
        if message["type"] == "http.disconnect":
            self.caller_left = True
        elif message["type"] == "http.request" and self._refusal is None:
            self._refusal = self._keep(message.get("body", b""))
            self.is_whole = not message.get("more_body", False)

    def _keep(self, part: bytes) -> HTTPException | ServiceOverloadedError | None:
        """Why not, when it is not kept. A small body needs no memory that others may have taken."""
        size_bytes = len(self._parts) + len(part)
        if size_bytes > self._limit:
            return RequestEntityTooLarge()
        needed_bytes = max(0, size_bytes - SMALL_BYTES) - self._taken_bytes
        try:
            self.memory.take(needed_bytes)
        except ServiceOverloadedError as no_memory:
            return no_memory.with_traceback(None)  # whose frames hold this
        self._taken_bytes += needed_bytes
        self._parts += part
        return None
