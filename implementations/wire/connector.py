"""The connections of the HTTP client: notes which stay silent, reuses none on which something came unasked.

An answer that was sent before its question had arrived belongs to another one, and is never read. HTTP/1.1 cannot tell
whose answer comes later than that.
"""

import fcntl
import select
import socket
import struct
import sys
import termios
from contextvars import ContextVar
from functools import partial
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError

from implementations.resilience.stalls import within

CONNECT_TIMEOUT_S = 5.0  # for the look-up, all addresses and TLS together
MOST_ANSWER_BYTES = 8 * 1024 * 1024  # as sent: twice the longest body that anybody reads
MOST_ANSWER_LINES = 50_000  # a piece of a body takes two, and costs calls
MOST_INTERIM_ANSWERS = 20
SUCCESSES = range(200, 300)
BODILESS = frozenset({HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
NOTHING_QUEUED = bytes(4)
UNTAKEN_MS = 10_000  # a question of which nothing is taken for so long breaks the connection
# After so long a silence the system asks whether anybody is there; of firewalls and address translations the usual ones
# forget after four minutes. Under UNTAKEN_MS it hangs up when one such packet is lost, so not before that.
TCP_KEEPIDLE_S, TCP_KEEPINTVL_S = 180, 60
RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)


class Stream(ResponseHandler):
    """What comes on a connection. is_clean: nothing since it was put into the pool; is_silent: no answer since then.

    One that breaks the protocol is closed at once; aiohttp would go on reading or waiting.
    """

    is_clean = is_silent = False
    answer_bytes = answer_lines = 0
    _interim_answers = 0

    def connection_made(self, transport: Any) -> None:
        """A firewall or an address translation that forgot a connection drops what is sent on it without a word.

        It forgets one on which nothing is sent for minutes, as while a model reasons: TCP keepalive prevents that.
        """
        super().connection_made(transport)
        if self._socket is not None and hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_MS)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, TCP_KEEPIDLE_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, TCP_KEEPINTVL_S)

    def has_unsolicited_data(self) -> bool:
        """Whether something came since it was put into the pool: data, unread data or the end."""
        if not self.is_clean or self.transport is None or self.transport.is_closing() or self._socket is None:
            return True
        arrivals = select.poll()
        arrivals.register(self._socket, select.POLLIN)
        return bool(arrivals.poll(0))

    def abandon(self) -> None:
        """Close it before a question is sent: nothing that came is an answer to it."""
        self.abort()
        self._buffer.clear()
        self.is_silent = True
        self.set_exception(aiohttp.ServerDisconnectedError())

    def cut_off(self) -> None:
        """Close it and drop the rest of the question, also what the system holds, which it would go on sending."""
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_WHEN_CLOSED)
        self.abort()

    def data_received(self, data: bytes) -> None:
        """Note it and pass it on. aiohttp also calls this without data, when it resumes reading.

        Nobody else bounds what is neither head nor body, such as blank lines and chunk extensions, nor a body's pieces,
        of which there may be a million.
        """
        if data:
            self.is_clean = self.is_silent = False
            self.answer_bytes += len(data)
            self.answer_lines += data.count(b"\r\n")
        if self.answer_bytes <= MOST_ANSWER_BYTES and self.answer_lines <= MOST_ANSWER_LINES:
            super().data_received(data)
        else:
            self._break_off("too long an answer")

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take the head of an answer. A flood of interim ones (1xx) would block the event loop and fill the memory.

        A body behind an answer that must have none would be read as the answer to the next question.
        """
        message, _ = data
        if message.code in BODILESS:
            self.force_close()
        self._interim_answers = 0 if message.code >= SUCCESSES.start else self._interim_answers + 1
        if message.code in SUCCESSES and self.is_asking():
            self._break_off("an answer from before its question")
        elif self._interim_answers <= MOST_INTERIM_ANSWERS:
            super().feed_data(data, size)
        else:
            self._break_off("too many interim answers")

    def is_asking(self) -> bool:
        """Whether a part of the question is unacknowledged; an answer to it acknowledges all of it.

        Where the system does not tell (not Linux, or a sandbox in its place), all is taken to have been sent.
        """
        if self._socket is None or sys.platform != "linux":
            return False
        try:
            queued = fcntl.ioctl(self._socket, termios.TIOCOUTQ, NOTHING_QUEUED)
        except OSError:
            return False
        return queued != NOTHING_QUEUED

    def set_exception(self, exc: Any, *cause: Any) -> None:
        """Also end the reading of a body that cannot be parsed any further."""
        body = self._payload
        super().set_exception(exc, *cause)
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof():
            body.set_exception(aiohttp.ClientPayloadError())

    @property
    def _socket(self) -> Any:
        """None once the connection has ended; with TLS the protocol learns of that a turn of the event loop later."""
        return None if self.transport is None else self.transport.get_extra_info("socket")

    def _break_off(self, message: str) -> None:
        if self.transport is not None:
            self.transport.close()
            self.set_exception(HttpProcessingError(message=message))


# Only a list, not the exchange: a connection keeps the context in which it was opened alive.
reused_streams: ContextVar[list[Stream]] = ContextVar("reused_streams")


class Question(aiohttp.ClientRequest):
    """A request with a body, which aiohttp sends a turn of the event loop after it has taken a connection."""

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Send it, with its head, unless something came on the pooled connection meanwhile."""
        stream = conn.protocol
        if isinstance(stream, Stream) and stream in reused_streams.get() and stream.has_unsolicited_data():
            stream.abandon()
        else:
            await super().write_bytes(writer, conn, content_length)


class Connector(aiohttp.TCPConnector):
    """Connections are not limited here, since providers may share a host: the bulkheads bound the calls."""

    def __init__(self) -> None:
        super().__init__(limit=0)
        stream: type[ResponseHandler] = Stream  # the type that aiohttp declares
        self._factory = partial(stream, loop=self._loop)  # aiohttp offers no public way to replace the protocol

    async def _get(self, key: Any, traces: Any) -> Connection | None:
        """A pooled connection that is as its last answer left it, if any; noted for the exchange that takes it.

        aiohttp takes what came since then for the answer to the next question (its issue 13656), and each later
        question would then get the answer to the one before.
        """
        while (connection := await super()._get(key, traces)) is not None:
            stream = connection.protocol
            if isinstance(stream, Stream) and stream.is_clean and not stream.should_close:
                stream.is_silent = True
                reused_streams.get().append(stream)
                return connection
            connection.close()
        return None

    async def _create_connection(self, *given: Any) -> ResponseHandler:
        """A new connection. Raises TimeoutError, which aiohttp turns into one of its own."""
        async with within(CONNECT_TIMEOUT_S):
            return await super()._create_connection(*given)

    async def _create_proxy_connection(self, req: aiohttp.ClientRequest, *given: Any) -> Any:
        """By way of a proxy: whatever it does instead of opening one, no question was sent, and nothing is billed."""
        try:
            return await super()._create_proxy_connection(req, *given)
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError):
            raise
        except aiohttp.ClientError:
            raise aiohttp.ClientProxyConnectionError(req.connection_key, OSError()) from None

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        """Put a connection into the pool, or close it. What comes on a pooled one from now on is unasked.

        One on which we are still asking is cut off: closing it would wait, maybe for ever, until the rest is taken. So
        is one without a byte of an answer, since the system does not know of what our transport still holds.
        """
        if isinstance(protocol, Stream) and (protocol.is_asking() or not protocol.answer_bytes):
            protocol.cut_off()
            should_close = True
        super()._release(key, protocol, should_close=should_close)
        if isinstance(protocol, Stream) and protocol.is_connected():
            protocol.is_clean, protocol.answer_bytes, protocol.answer_lines = True, 0, 0
