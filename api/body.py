"""The request body: read as a whole when awaited, bounded in time, size and memory."""

import asyncio
import contextlib
import sys
from collections.abc import Generator
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGIReceiveEvent
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, RequestTimeout

from exceptions import ServiceOverloadedError
from protocols import MemoryProtocol

SMALL_BYTES = 64 * 1024
DISCARD_S = 2.0


class UnlimitedMemory:
    """Unbounded memory."""

    def take(self, size_bytes: int) -> None:
        """Always succeeds."""

    def give_back(self, size_bytes: int) -> None:
        """Does nothing."""


class Body:
    """What the caller sends. Awaiting it reads it to the end, in bounded time and size; it cannot be read in parts."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        self._parts = bytearray()
        self._limit = sys.maxsize if max_content_length is None else max_content_length
        self._refusal: HTTPException | ServiceOverloadedError | None = None
        if (expected_content_length or 0) > self._limit:
            self._refusal = RequestEntityTooLarge()
        self._within_s: float | None = None
        self._turn = asyncio.Lock()  # to receive: the reader's until it has finished, the watcher's for one message
        self.is_whole = self.is_late = False
        self.caller_left = False
        self.memory: MemoryProtocol = UnlimitedMemory()
        self._taken_bytes = 0

    def open(self, receive: ASGIReceiveCallable, *, within_s: float | None) -> None:
        """Set the source, and the time limit for reading it."""
        self._receive = receive
        self._within_s = within_s

    def set_result(self, data: bytes) -> None:
        """Set the whole body, for Quart's test request contexts."""
        self._parts += data
        self.is_whole = True

    def __await__(self) -> Generator[Any, None, bytes]:
        """The whole body.

        Raises RequestEntityTooLarge, RequestTimeout, ServiceOverloadedError when there is no memory for it, and
        CancelledError when the caller disconnects.
        """
        return self._read().__await__()

    def clear(self) -> None:
        """Forget what was read, and give back its memory."""
        self.memory.give_back(self._taken_bytes)
        self._taken_bytes = 0
        self._parts.clear()

    async def discard(self) -> None:
        """Forget what was read; receive and drop the rest, which is still to come, for DISCARD_S at most."""
        self.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_S):
                while (await self._receive()).get("more_body", False):
                    pass

    async def until_caller_leaves(self) -> None:
        """Wait for the disconnect. Body parts received meanwhile are kept for the reader."""
        while not self.caller_left:
            async with self._turn:
                if not self.caller_left:  # or the reader has just heard of it
                    self._note(await self._receive())

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self._within_s):
                if self._needs_more:
                    async with self._turn:
                        while self._needs_more:
                            self._note(await self._receive())
        except TimeoutError:
            self.is_late = True
            raise RequestTimeout from None
        if self._refusal is not None:
            raise self._refusal
        if not self.is_whole:
            raise asyncio.CancelledError
        return bytes(self._parts)

    @property
    def _needs_more(self) -> bool:
        return not (self.is_whole or self._refusal or self.caller_left)

    def _note(self, message: ASGIReceiveEvent) -> None:
        if message["type"] == "http.disconnect":
            self.caller_left = True
        elif message["type"] == "http.request" and self._refusal is None:
            self._refusal = self._keep(message.get("body", b""))
            self.is_whole = not message.get("more_body", False)

    def _keep(self, part: bytes) -> HTTPException | ServiceOverloadedError | None:
        """The reason if the part is refused. The first SMALL_BYTES are not counted against the shared memory."""
        size_bytes = len(self._parts) + len(part)
        if size_bytes > self._limit:
            return RequestEntityTooLarge()
        needed_bytes = max(0, size_bytes - SMALL_BYTES) - self._taken_bytes
        try:
            self.memory.take(needed_bytes)
        except ServiceOverloadedError as no_memory:
            return no_memory.with_traceback(None)  # its frames hold this body
        self._taken_bytes += needed_bytes
        self._parts += part
        return None
