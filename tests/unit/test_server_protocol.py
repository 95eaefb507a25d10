"""What the server bounds, and leaves out, before the service sees a request."""

import asyncio
import socket
from contextlib import closing
from typing import Any
from unittest.mock import Mock, patch

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from api import body, server_protocol
from api.application import Application
from api.server_protocol import (
    MOST_FIELDS,
    MOST_HEAD_BYTES,
    MOST_SMALL_PIECES,
    MOST_WAITING,
    SMALL_PIECE_BYTES,
    TCP_KEEPIDLE_S,
    TCP_KEEPINTVL_S,
    UNTAKEN_MS,
    ServerProtocol,
)
from tests.fakes import settle

KEEP_ALIVE_S = 75
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"
CHUNKED = b"POST / HTTP/1.1\r\nX-Forwarded-For: 203.0.113.9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
TRAILER = b"X-Forwarded-For: 10.0.0.5\r\n"
END = b"\r\n"


class Harness:
    """A connection to an application that answers when it may, with what its requests said."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[bytes, bytes], bytes]] = []
        self.listens: list[Any] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.reads_bodies = True
        self.transport = Mock(spec=asyncio.Transport)
        self.transport.get_extra_info.return_value = None
        self.transport.is_closing.side_effect = lambda: self.transport.close.called
        config = Config(
            self.answer,
            interface="asgi3",
            ws="none",
            log_config=None,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        config.load()
        self.protocol = ServerProtocol(config, ServerState(), {})
        self.timers: list[tuple[float, Mock, Any]] = []
        with self.timed():
            self.protocol.connection_made(self.transport)

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.listens.append(receive)
        body, goes_on = b"", self.reads_bodies
        while goes_on:
            message = await receive()
            body, goes_on = body + message["body"], message["more_body"]
        self.seen.append((dict(scope["headers"]), body))
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    def timed(self) -> Any:
        """Take down the timers, which only the test ends."""
        return patch.object(asyncio.get_running_loop(), "call_later", self._set_timer)

    def _set_timer(self, delay_s: float, ends: Any) -> Mock:
        timer = Mock(spec=asyncio.TimerHandle)
        self.timers.append((delay_s, timer, ends))
        return timer

    async def receives(self, *pieces: bytes) -> None:
        with self.timed():
            for piece in pieces:
                self.protocol.data_received(piece)
                for _ in range(5):
                    await asyncio.sleep(0)

    @property
    def sent(self) -> bytes:
        return b"".join(call.args[0] for call in self.transport.write.call_args_list)

    @property
    def waits(self) -> list[float]:
        """Those not cancelled, in seconds."""
        return [delay_s for delay_s, timer, _ in self.timers if not timer.cancel.called]

    def time_is_up(self) -> None:
        with self.timed():
            self.timers[-1][2]()


@pytest.mark.parametrize("pieces", [(CHUNKED + TRAILER + END,), (CHUNKED, TRAILER + END), (CHUNKED, TRAILER, END)])
async def test_a_trailer_is_no_header(pieces: tuple[bytes, ...]) -> None:
    harness = Harness()
    await harness.receives(*pieces, GET)
    (headers, body), (next_headers, _) = harness.seen
    assert (headers[b"x-forwarded-for"], body) == (b"203.0.113.9", b"{}")
    assert next_headers == {b"host": b"x"}


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_an_offer_of_another_protocol_does_not_end_the_request(framing: bytes, size: int) -> None:
    harness = Harness()
    offer = b"POST /?a=b HTTP/1.1\r\nConnection: Upgrade, x\r\nUpgrade: h2c\r\nX-Key: k\r\n" + framing
    whole = offer + GET + offer
    await harness.receives(*(whole[start : start + size] for start in range(0, len(whole), size)))
    (headers, body), (between, _), last = harness.seen
    assert (body, headers[b"x-key"], b"upgrade" in headers) == (b"{}", b"k", False)
    assert (between, last) == ({b"host": b"x"}, (headers, body))
    assert harness.sent.count(b"HTTP/1.1 ") == 3


@pytest.mark.parametrize("last", [b"1.1\r\nConnection: close, Upgrade", b"1.0\r\nConnection: Upgrade"])
async def test_an_offer_behind_which_nothing_follows_is_answered(last: bytes) -> None:
    harness = Harness()
    await harness.receives(GET + b"POST / HTTP/%b\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}" % last + GET)
    assert [body for _, body in harness.seen] == [b"", b"{}"]
    assert harness.sent.count(b"HTTP/1.1 204 ") == 2
    assert harness.transport.close.called


async def test_nothing_is_read_behind_a_connect() -> None:
    harness = Harness()
    harness.reads_bodies = False
    await harness.receives(b"CONNECT / HTTP/1.1\r\n\r\n" + GET)
    assert len(harness.seen) == 1


@pytest.mark.parametrize("blanks", [b" ", b"\t", b" \t "])
async def test_blanks_around_a_value_are_no_part_of_it(blanks: bytes) -> None:
    harness = Harness()
    key, empty, wish = b"X-API-Key:%bk \xa0%b\r\n", b"X-Empty:%b%b\r\n", b"Expect:%b100-continue%b\r\n"
    head = b"".join(field % (blanks, blanks) for field in (key, empty, wish))
    await harness.receives(b"POST / HTTP/1.1\r\n" + head + b"Content-Length: 2\r\n\r\n", b"{}")
    headers, _ = harness.seen[0]
    assert (headers[b"x-api-key"], headers[b"x-empty"]) == (b"k \xa0", b"")
    assert harness.sent.startswith(b"HTTP/1.1 100 ")


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        (b"GET / HTTP/1.1\r\n", b"X: " + b"x" * 997 + END),
        (b"GET / HTTP/1.1\r\nX: ", b"x" * 1000),
        (b"GET /", b"x" * 1000),
    ],
)
async def test_a_head_without_an_end_is_refused(begins: bytes, goes_on: bytes) -> None:
    harness = Harness()
    await harness.receives(begins, *[goes_on] * (MOST_HEAD_BYTES // 1000))
    assert not harness.transport.close.called
    await harness.receives(goes_on)
    assert harness.sent.startswith(b"HTTP/1.1 400 ")
    assert harness.transport.close.called
    assert harness.seen == []


@pytest.mark.parametrize("begins", [b"GET / HTTP/1.1\r\n", CHUNKED])
@pytest.mark.parametrize("pieces", [1, MOST_FIELDS])
async def test_too_many_headers_or_trailers_are_refused(begins: bytes, pieces: int) -> None:
    """Of the shortest, 64 KiB would take two megabytes."""
    harness, fields = Harness(), [b"a:\r\n" * (MOST_FIELDS // pieces)] * pieces
    await harness.receives(begins, *fields, END, GET)
    assert len(harness.seen) == 2
    await harness.receives(begins, *fields, b"a:\r\n", END, GET)
    assert harness.sent.endswith(b"Invalid HTTP request received.")
    assert harness.transport.close.called
    assert len(harness.seen) == 2


@pytest.mark.parametrize("is_read", [True, False])
async def test_a_body_in_too_many_small_pieces_is_refused(*, is_read: bool) -> None:
    harness, small = Harness(), b"1\r\n{\r\n"
    harness.reads_bodies = is_read
    begins = CHUNKED.removesuffix(b"2\r\n{}\r\n0\r\n")
    large = b"%x\r\n%b\r\n" % (SMALL_PIECE_BYTES, b"x" * SMALL_PIECE_BYTES)
    for _ in range(2):
        await harness.receives(begins, small * MOST_SMALL_PIECES, large * MOST_SMALL_PIECES, b"0\r\n\r\n")
    assert harness.sent.count(b"HTTP/1.1 204 ") == len(harness.seen) == 2
    await harness.receives(begins, small * MOST_SMALL_PIECES, small)
    assert harness.sent.endswith(b"Invalid HTTP request received.")
    assert harness.transport.close.called


async def test_what_came_before_does_not_count_for_the_next_head() -> None:
    harness, parts = Harness(), [b"x" * 1000] * (2 * MOST_HEAD_BYTES // 1000)
    await harness.receives(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(b"".join(parts)), *parts)
    long = b"GET / HTTP/1.1\r\nX: %b\r\n\r\n" % parts[0]
    for _ in parts:
        await harness.receives(long[:500], long[500:])
    assert len(harness.seen) == 1 + len(parts)
    assert not harness.transport.close.called


async def test_what_is_no_http_is_refused_once() -> None:
    harness = Harness()
    await harness.receives(b"x" * (MOST_HEAD_BYTES + 1))
    assert harness.sent.startswith(b"HTTP/1.1 400 ")
    assert harness.transport.write.call_count == harness.transport.close.call_count == 1


@pytest.mark.parametrize("goes_on", [b"X: " + b"x" * 997 + END, b"x" * 1000])
async def test_trailers_without_an_end_are_read_no_further(goes_on: bytes) -> None:
    harness = Harness()
    await harness.receives(CHUNKED, *[goes_on] * (MOST_HEAD_BYTES // 1000))
    assert not harness.transport.pause_reading.called
    await harness.receives(goes_on)
    assert harness.transport.pause_reading.called


async def test_the_next_head_without_an_end_is_refused_when_the_request_before_it_is_answered() -> None:
    harness = Harness()
    harness.may_answer.clear()
    await harness.receives(GET + GET[:-4], b"x" * (MOST_HEAD_BYTES + 1))
    assert (harness.sent, harness.transport.close.called) == (b"", False)
    harness.may_answer.set()
    await harness.receives(b"x")
    await harness.receives(b"x")
    assert harness.sent.startswith(b"HTTP/1.1 204 ")
    assert b"HTTP/1.1 400 " in harness.sent
    assert harness.transport.close.called


async def test_requests_that_wait_for_an_answer_are_few() -> None:
    harness = Harness()
    harness.may_answer.clear()
    await harness.receives(GET * (1 + MOST_WAITING))
    assert not harness.transport.close.called
    await harness.receives(GET * 1000)
    assert harness.sent.startswith(b"HTTP/1.1 400 ")
    assert harness.transport.close.called
    assert len(harness.protocol.pipeline) == MOST_WAITING


async def test_a_body_of_any_size_and_a_complete_head_in_one_piece_pass() -> None:
    harness = Harness()
    size = 10 * MOST_HEAD_BYTES
    await harness.receives(
        b"POST / HTTP/1.1\r\nContent-Length: %d\r\nX: %b\r\n\r\n" % (size, b"x" * 2 * MOST_HEAD_BYTES),
        *[b"x" * 1000] * (size // 1000),
        b"x" * (size % 1000) + GET,
    )
    assert [len(body) for _, body in harness.seen] == [size, 0]
    assert not harness.transport.close.called


@pytest.mark.parametrize("pieces", [(), (GET[:-1],), (GET[:1], GET[1:-1])])
async def test_a_first_head_has_the_time_of_an_idle_connection(pieces: tuple[bytes, ...]) -> None:
    harness = Harness()
    await harness.receives(*pieces)
    assert harness.waits == [KEEP_ALIVE_S]
    harness.time_is_up()
    assert harness.transport.close.called


async def test_a_later_head_has_that_time_from_its_first_byte() -> None:
    harness = Harness()
    await harness.receives(GET)
    assert harness.waits == [KEEP_ALIVE_S]  # Uvicorn's own, for an idle connection
    await harness.receives(GET[:-1])
    assert harness.waits == [KEEP_ALIVE_S]
    await harness.receives(GET[-1:])
    assert len(harness.seen) == 2
    assert not harness.transport.close.called


@pytest.mark.parametrize("asked", [GET, POST])
async def test_what_follows_an_answer_and_is_no_head_does_not_keep_the_connection(asked: bytes) -> None:
    harness = Harness()
    harness.reads_bodies = False
    await harness.receives(asked)
    assert harness.sent.startswith(b"HTTP/1.1 204 ")
    await harness.receives(END, END)
    assert harness.waits == [KEEP_ALIVE_S]
    harness.time_is_up()
    assert harness.transport.close.called


async def test_a_request_in_progress_is_answered_although_the_next_head_is_late() -> None:
    harness = Harness()
    harness.may_answer.clear()
    await harness.receives(GET + GET[:-2])
    assert harness.waits == []
    harness.may_answer.set()
    await harness.receives(b"")
    assert harness.sent.startswith(b"HTTP/1.1 204 ")
    for piece in (b"", GET[-2:-1]):
        await harness.receives(piece)
        assert harness.waits == [KEEP_ALIVE_S]
    harness.time_is_up()
    assert harness.transport.close.called


@pytest.mark.parametrize("waiting", [0, 1, 2])
async def test_the_request_that_is_being_answered_hears_of_a_lost_connection_whatever_waits_behind_it(
    waiting: int,
) -> None:
    harness = Harness()
    harness.may_answer.clear()
    await harness.receives(GET * (1 + waiting))
    listening = asyncio.create_task(harness.listens[0]())
    await asyncio.sleep(0)
    harness.protocol.connection_lost(ConnectionResetError())
    async with asyncio.timeout(30):
        assert (await listening)["type"] == "http.disconnect"
    harness.may_answer.set()
    await asyncio.sleep(0)
    assert harness.sent == b""


@pytest.mark.parametrize("reason", [None, ConnectionResetError()], ids=["closed", "reset"])
@pytest.mark.parametrize("received", [GET[:-1], GET], ids=["within a head", "after an answer"])
async def test_a_lost_connection_waits_for_nothing(received: bytes, reason: Exception | None) -> None:
    """A timer would keep all of its last request in memory for more than a minute."""
    harness = Harness()
    await harness.receives(received)
    assert harness.waits == [KEEP_ALIVE_S]
    harness.protocol.connection_lost(reason)
    assert harness.waits == []


async def test_an_answer_waits_until_the_caller_takes_the_one_before() -> None:
    harness = Harness()
    harness.protocol.pause_writing()
    await harness.receives(GET)
    assert (harness.sent, harness.waits) == (b"", [UNTAKEN_MS / 1000])
    harness.protocol.resume_writing()
    await harness.receives(b"")
    assert harness.sent.startswith(b"HTTP/1.1 204 ")
    assert harness.waits == [KEEP_ALIVE_S]


async def test_who_never_takes_it_is_cut_off_and_the_answer_given_up() -> None:
    """Also one who takes a byte now and then, which is enough for the kernel."""
    harness = Harness()
    harness.protocol.pause_writing()
    await harness.receives(GET)
    harness.time_is_up()
    assert harness.transport.abort.called
    harness.protocol.connection_lost(None)
    await settle()
    assert (harness.sent, harness.waits) == (b"", [])
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs Linux")
@pytest.mark.parametrize(("asked", "waiting"), [(GET[:-2] + b"Connection: close\r\n\r\n", 0), (GET + GET, 1)])
async def test_a_connection_ends_when_nobody_takes_its_answer(
    asked: bytes, waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so does a request whose answer waits behind that one."""
    monkeypatch.setattr(server_protocol, "UNTAKEN_MS", 100)
    under_way: list[Any] = []

    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        under_way.append(send)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10000000")]})
        await send({"type": "http.response.body", "body": bytes(10_000_000)})
        under_way.remove(send)

    class Watched(ServerProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            assert len(under_way) == waiting
            super().connection_lost(exc)
            lost.set()

    config, lost = Config(answer, interface="asgi3", ws="none", log_config=None), asyncio.Event()
    config.load()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Watched(config, ServerState(), {}), "127.0.0.1") as server:
        with socket.create_connection(server.sockets[0].getsockname()) as caller:
            caller.sendall(asked)
            async with asyncio.timeout(30):
                await lost.wait()
            await settle()
    assert under_way == []


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs Linux")
async def test_while_a_caller_waits_the_network_is_reminded_of_his_connection() -> None:
    """Or an address translation forgets it while a model reasons for minutes, and he never gets the answer."""
    harness = Harness()
    with socket.socket() as own, harness.timed():
        harness.transport.get_extra_info.side_effect = {"socket": own}.get
        harness.protocol.connection_made(harness.transport)
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == TCP_KEEPIDLE_S
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == TCP_KEEPINTVL_S
    assert UNTAKEN_MS >= 1000 * (TCP_KEEPIDLE_S + 2 * TCP_KEEPINTVL_S), "or one lost packet would end the connection"


async def test_who_sends_on_after_a_refusal_is_asked_for_nothing_and_not_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "DISCARD_S", 30.0)
    config = Config(Application("test"), interface="asgi3", ws="none", log_config=None)
    config.load()
    rest = bytes(10_000_000)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(rest)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: ServerProtocol(config, ServerState(), {}), "127.0.0.1") as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.transport.set_write_buffer_limits(0)  # `drain` waits for the last byte
        async with asyncio.timeout(30):
            with closing(writer):
                writer.write(head)
                told = await reader.readuntil(b"</p>\n")
                writer.write(rest)
                await writer.drain()
                assert await reader.read() == b""
    assert told.startswith(b"HTTP/1.1 404 ")
    assert b"connection: close" in told.lower()
