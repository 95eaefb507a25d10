"""One ASGI request, received, handled and answered in the server's own task; Quart's connection starts four more.

The body is read on demand (`body.py`); disconnects are watched for only when an answer takes long. This replaces
classes that Quart does not document; tests compare its behaviour with theirs.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    HTTPResponseStartEvent,
)
from quart import Request, Response
from quart.asgi import ASGIHTTPConnection
from quart.typing import ResponseTypes
from quart.wrappers.response import DataBody
from werkzeug.sansio.utils import get_content_length

from api.body import Body

if TYPE_CHECKING:
    from api.application import Application

WATCH_AFTER_S = 0.05
GONE = "the handler is closed"  # uvloop's words where the caller left in the same turn


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

    @property
    def content_length(self) -> int | None:
        """As in werkzeug, which raises and catches an exception for each missing header."""
        encodings = self.lines(b"transfer-encoding")
        return get_content_length(next(iter(self.lines(b"content-length")), None), next(iter(encodings), None))

    def lines(self, name: bytes) -> Sequence[str]:
        """All lines of a header, by its lower-case name: as werkzeug finds them, but without a scan."""
        return self._lines.get(name, ())


class Connection(ASGIHTTPConnection):
    """Answers one request. If the caller disconnects before the response, the work is cancelled.

    The application's scope ends after the response is sent: nobody waits for the log line.
    """

    app: "Application"

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Read, handle, send."""
        request = cast("ServiceRequest", self._create_request_from_scope(send))  # our `request_class`
        request.body.open(receive, within_s=request.body_timeout)
        request.body_timeout = None  # for which Quart would start a task
        try:
            with self.app.scoped(request) as finish:
                with _CallerWatched(request.body):
                    response = await self.app.handle_request(request, finish)
                if self._leaves_the_end_in_doubt(request):
                    response.headers["Connection"] = "close"  # or the server awaits the rest, or takes it for a request
                unread = request.body if self._is_unread(request) else None
                await asyncio.sleep(0)  # let other ready requests go first (decision 14)
                await self._send_response(send, response, unread)
        except asyncio.CancelledError:
            if not request.body.caller_left:
                raise
        finally:
            request.body.clear()

    @staticmethod
    def _leaves_the_end_in_doubt(request: ServiceRequest) -> bool:
        """Whether the end of this request is unknown. The server ignores what follows a CONNECT."""
        unread = not request.body.is_whole and (request.lines(b"expect") or request.body.is_late)
        return bool(unread or request.method == "CONNECT")

    @staticmethod
    def _is_unread(request: ServiceRequest) -> bool:
        """Whether a body was announced whose end has not been received."""
        return not request.body.is_whole and bool(request.content_length or request.lines(b"transfer-encoding"))

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes, unread: Body | None = None) -> None:
        """Send two messages, where Quart sends three or more.

        unread: a body that is still arriving. Its caller has the answer with the second message. A third, at which the
        server may close, waits for the rest: a close before that resets the connection, and the answer may be lost.
        How long an answer waits for its caller is bounded in `server_protocol.py`.
        """
        if isinstance(response, Response):
            whole = response.response
            body = whole.data if isinstance(whole, DataBody) else await response.get_data(as_text=False)
        else:
            body = response.get_data()
        head: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": [(name.lower().encode(), value.encode()) for name, value in response.headers],
        }
        try:
            await send(head)
            await send({"type": "http.response.body", "body": body, "more_body": unread is not None})
            if unread is not None:
                await unread.discard()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except RuntimeError as error:
            if GONE not in str(error):
                raise


class _CallerWatched:
    """Inside it, the task is cancelled when the caller disconnects. Most answers are ready before the watch starts."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._later = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._start_watching)

    def __exit__(self, *_: object) -> None:
        self._later.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None  # breaks the cycle through the traceback of its cancellation

    def _start_watching(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        await self._body.until_caller_leaves()
        if self._task is not None:
            self._task.cancel()
