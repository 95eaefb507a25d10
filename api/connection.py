"""One request over ASGI, received, handled and answered in the server's own task; Quart's connection begins four more.

The body is read as a whole when it is asked for, and whether the caller is still there is looked at only when an answer
takes long. This replaces classes that Quart does not document: tests hold it to what those do, as far as it does it.
"""

import asyncio
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    HTTPResponseStartEvent,
)
from quart import Request, Response
from quart.asgi import ASGIHTTPConnection
from quart.typing import ResponseTypes
from quart.wrappers.response import DataBody
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, RequestTimeout
from werkzeug.sansio.utils import get_content_length

from exceptions import ServiceOverloadedError
from protocols import MemoryProtocol

LOOKS_AFTER_S = 0.05
SEND_TIMEOUT_S = 60.0
SMALL_BYTES = 64 * 1024


class Plenty:
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
        self.memory: MemoryProtocol = Plenty()
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


class ServiceRequest(Request):
    """A request whose body comes from the connection when it is awaited."""

    body: Body  # type: ignore[assignment]  # Quart's is read from a task of its own
    body_class = Body  # type: ignore[assignment]

    @cached_property
    def _lines(self) -> Mapping[bytes, list[str]]:
        found: dict[bytes, list[str]] = {}
        for name, value in self.scope["headers"]:
            found.setdefault(name, []).append(value.decode("latin-1"))
        return found

    @cached_property
    def content_length(self) -> int | None:
        """Werkzeug makes and drops an exception for each header that it misses."""
        encodings = self.lines(b"transfer-encoding")
        return get_content_length(next(iter(self.lines(b"content-length")), None), next(iter(encodings), None))

    @cached_property
    def blueprints(self) -> list[str]:
        """Quart wants to know at each stage."""
        return super().blueprints

    def lines(self, name: bytes) -> Sequence[str]:
        """All lines of a header, named in small letters: what werkzeug finds, without looking at every other one."""
        return self._lines.get(name, ())


class Connection(ASGIHTTPConnection):
    """Answers one request. When the caller leaves before there is an answer, the work for it is cancelled."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Read, handle, send."""
        request = cast("ServiceRequest", self._create_request_from_scope(send))
        request.body.open(receive, within_s=request.body_timeout)
        request.body_timeout = None  # for which Quart would begin a task
        try:
            with _CallerWatched(request.body):
                response = await self.app.handle_request(request)
            if self._leaves_the_end_in_doubt(request):
                response.headers["Connection"] = "close"  # or what still comes is waited for, or taken for a request
            await asyncio.sleep(0)  # whoever is as far goes first (decision 14)
            await self._send_response(send, response)
        except asyncio.CancelledError:
            if not request.body.caller_left:
                raise
        finally:
            request.body.clear()

    @staticmethod
    def _leaves_the_end_in_doubt(request: ServiceRequest) -> bool:
        """Where this request ends. A server that does not upgrade takes no body beside the wish to."""
        unread = not request.body.is_whole and (request.lines(b"expect") or request.body.is_late)
        return bool(unread or request.lines(b"upgrade"))

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes) -> None:
        """In two messages; Quart sends three or more."""
        if not isinstance(response, Response):
            await super()._send_response(send, response)
            return
        whole = response.response
        body = whole.data if isinstance(whole, DataBody) else await response.get_data(as_text=False)
        head: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": [(name.lower().encode(), value.encode()) for name, value in response.headers],
        }
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send(head)
                await send({"type": "http.response.body", "body": body, "more_body": False})
        except TimeoutError:
            return  # the server closes a connection whose answer is not complete


class _CallerWatched:
    """While inside, the task ends when the caller leaves. Most answers are there before anybody looks."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._later = asyncio.get_running_loop().call_later(LOOKS_AFTER_S, self._look)

    def __exit__(self, *_: object) -> None:
        self._later.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None  # or it would hold this by its cancellation's traceback, and this would hold it

    def _look(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        await self._body.until_caller_leaves()
        if self._task is not None:
            self._task.cancel()
