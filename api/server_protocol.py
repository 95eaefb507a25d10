"""Uvicorn's HTTP protocol, with what it lacks.

Bounds for heads and for pipelined requests: without them a connection could fill the memory, or wait for ever, before
anybody is asked for a key. Bounds for bodies in small pieces, and for answers that nobody reads. Headers without
trailers and trailing white space. The body of a request that offers another protocol.
"""

import asyncio
import socket
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MOST_HEAD_BYTES = 64 * 1024  # also of trailers; more may arrive in one piece, which is then read
MOST_FIELDS = 100  # of a head, or of trailers: each takes a hundred bytes of memory more than it has
SMALL_PIECE_BYTES = 1024  # a piece of a body below this is small
MOST_SMALL_PIECES = 10_000  # of a body: each costs a call, and megabytes are parsed at a time
MOST_WAITING = 32  # pipelined requests, of which thousands fit into one piece
VERSIONS = frozenset({"1.0", "1.1"})
NO_HTTP = "Invalid HTTP request received."
# A closing connection waits for its last byte to be read, which may never happen. A client that reads next to nothing
# is cut off as well: the kernel sends more only once a good part of the client's buffer is free.
UNTAKEN_MS = 60_000
# After so long a silence the system asks whether the caller is there, and again until UNTAKEN_MS are over: then he has
# left, and not just one packet was lost.
TCP_KEEPIDLE_S, TCP_KEEPINTVL_S = 30, 10


class Flow(FlowControl):
    """An answer waits behind an earlier one that the caller has not taken, but not for ever."""

    async def drain(self) -> None:
        """Wait; after UNTAKEN_MS abort the connection, and with it the wait."""
        limit = asyncio.get_running_loop().call_later(UNTAKEN_MS / 1000, self._transport.abort)
        try:
            await super().drain()
        finally:
            limit.cancel()


class ServerProtocol(HttpToolsProtocol):
    """A connection closes when it has no complete head for as long as an idle one is kept.

    Trailers are ignored: Uvicorn would append them to the headers, where a forged `X-Forwarded-For` would follow, and
    so replace, that of a trusted proxy.
    """

    _unread_bytes = 0  # received since the last head or piece of a body
    _small_pieces = 0  # of this body
    _head_timer: asyncio.TimerHandle | None = None
    _answered: RequestResponseCycle | None = None  # the request that is being answered, or was last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in Uvicorn
        """Wait for the first head. TCP keepalive reminds the network of a caller who waits, or it would forget him."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        own = transport.get_extra_info("socket")
        if own is not None and hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_MS)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, TCP_KEEPIDLE_S)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, TCP_KEEPINTVL_S)
        self._limit_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, also after a reset: Uvicorn's own limit would keep the request in memory until it ends.

        Uvicorn tells only the last request that the caller has left, not an earlier one that is being answered.
        """
        super().connection_lost(exc)
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        self._unset_keepalive_if_required()
        self._end_wait()

    def data_received(self, data: bytes) -> None:
        """Parse the data; refuse a head or trailers that are too large."""
        self._unread_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError:
            self.logger.warning(NO_HTTP)
            self.send_400_response(NO_HTTP)
            return
        if self._unread_bytes > MOST_HEAD_BYTES:
            self._refuse()
        elif self._head_timer is None and not self._is_answering:
            self._limit_wait()  # Uvicorn ends its own limit when anything arrives, also what belongs to no head

    def on_message_begin(self) -> None:
        """A head begins. Raises BufferError if too many wait: Uvicorn then answers 400 and reads no further."""
        if len(self.pipeline) >= MOST_WAITING:
            raise BufferError
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the target. Raises ValueError for a fragment, which the rules of a proxy may take for the path."""
        if b"#" in url:
            raise ValueError
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, without the white space behind its value (RFC 9110, 5.5), which the parser leaves there.

        Raises ValueError if there are too many.
        """
        if len(self.headers) >= MOST_FIELDS:
            raise ValueError
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Start the request; what the parser calls a header from now on is a trailer.

        Raises ValueError for another version, or none: the parser accepts a request line without one.
        """
        if self.parser.get_http_version() not in VERSIONS:
            raise ValueError
        super().on_headers_complete()
        self.headers = []
        self._unread_bytes = self._small_pieces = 0
        self._end_wait()

    def on_body(self, body: bytes) -> None:
        """A piece of the body. Raises ValueError if too many are small."""
        self._small_pieces += len(body) < SMALL_PIECE_BYTES
        if self._small_pieces > MOST_SMALL_PIECES:
            raise ValueError
        super().on_body(body)
        self._unread_bytes = 0

    def _parse(self, data: bytes) -> None:
        """Parse, and parse again the head of a request that offers another protocol, as Java's client does in each.

        A server may ignore that (RFC 9110, 7.8). The parser ends the request there, and would skip its body.
        """
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offer:
            if self._should_upgrade():
                self.parser = HttpRequestParser(self)  # the one before reads nothing behind `Connection: close`
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as Uvicorn does
                self._parse(self._head_without_upgrade() + data[offer.args[0] :])

    def _should_upgrade(self) -> bool:
        """Whether the request is parsed again, and not answered yet: all but CONNECT, behind which nothing is read."""
        return self.scope["method"] != "CONNECT"

    def _head_without_upgrade(self) -> bytes:
        first = b"%b %b HTTP/%b" % (self.scope["method"].encode(), self.url, self.scope["http_version"].encode())
        fields = (b"%b: %b" % field for field in self.scope["headers"] if field[0] != b"upgrade")
        return b"\r\n".join((first, *fields, b"", b""))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self) -> None:
        if self._is_answering:
            self.flow.pause_reading()  # Uvicorn resumes when it has answered; what follows is then refused
        else:
            self.send_400_response("The head of the request is too large.")

    def _limit_wait(self) -> None:
        self._head_timer = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _end_wait(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
