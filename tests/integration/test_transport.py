"""The one HTTP client against a server that does as it is told: every wait and every body is bounded, no key leaks."""

import asyncio
import errno
import gzip
import json
import re
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import pytest
import uvloop
from pydantic import SecretStr

from config import OpenAISettings
from di import create_container
from exceptions import (
    BrokenReplyError,
    ConnectionLostError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    UnreadableReplyError,
)
from implementations.openai_provider_impl import OpenAIProviderImpl
from implementations.resilience.call import calling, current_call
from implementations.resilience.metering import TimeLimited
from implementations.wire.connector import MOST_ANSWER_BYTES, MOST_ANSWER_LINES, MOST_INTERIM_ANSWERS, NOTHING_QUEUED
from implementations.wire.transport import MAX_BODY_BYTES, Transport, WireReply
from protocols import Judges
from tests.fakes import NOON, Calendar, Clock, call, request, settle
from tests.in_process import settings_of
from tests.integration.dialects import DIALECTS, KEY, Dialect

SHORT_S = 0.05
LONG_S = 30.0
Reads = Literal["all", "head", "nothing"]


class Server:
    """Takes down each request and answers with its bytes, after the whole of it, its head or nothing was read.

    stays: the connection is kept open after the answer, for the next request or for ever.
    """

    def __init__(self, answer: bytes, *, stays: bool = False, reads: Reads = "all") -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.ended = asyncio.Event()
        self.port = 0
        self._answer, self._stays, self._reads = answer, stays, reads

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._answered(reader, writer)
            while self._stays:
                await self._answered(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            self.ended.set()  # the client went away, as some tests want it to
        finally:
            writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"" if self._reads == "nothing" else await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length and self._reads == "all" else b""
        self.requests.append(head + body)
        writer.write(self._answer)
        await writer.drain()


@asynccontextmanager
async def serving(
    answer: bytes, *, stays: bool = False, reads: Reads = "all", kind: type[Server] = Server
) -> AsyncIterator[Server]:
    server = kind(answer, stays=stays, reads=reads)
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        if reads == "head":
            listening.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least; the body does not fit
        yield server


@pytest.fixture
def _in_a_call() -> Iterator[None]:
    with calling(call(Clock())):
        yield


@asynccontextmanager
async def transporting(*, trusts_environment: bool = False) -> AsyncIterator[Transport]:
    transport = Transport(trusts_environment=trusts_environment, now=Calendar())
    try:
        yield transport
    finally:
        await transport.close()


def http(body: bytes = b"{}", *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


async def exchanged(answer: bytes) -> WireReply:
    with calling(call(Clock())):
        async with serving(answer) as server, transporting() as transport:
            return await transport.send("POST", f"{server.url}/judge", headers={}, body=b"{}")


async def test_an_answer_is_read_completely_with_its_headers_and_its_moment() -> None:
    answer = http(b"x" * 100_000, status="429 Slow down", headers="X-Limit: 1\r\nx-limit: 2\r\n")
    reply = await exchanged(answer)
    assert (reply.status, reply.body, reply.received_at_s) == (429, b"x" * 100_000, NOON.timestamp())
    assert reply.headers["X-LIMIT"] == "1"


async def test_an_answer_in_pieces_is_put_together() -> None:
    reply = await exchanged(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{ }\r\n2\r\n\n\n\r\n0\r\n\r\n")
    assert reply.body == b"{ }\n\n"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
async def test_a_packed_answer_is_unpacked(pack: Callable[[bytes], bytes]) -> None:
    name = "gzip" if pack is gzip.compress else "deflate"
    reply = await exchanged(http(pack(b'{"a": 1}'), headers=f"Content-Encoding: {name}\r\n"))
    assert reply.body == b'{"a": 1}'


async def test_a_body_may_be_four_mebibytes_long() -> None:
    assert len((await exchanged(http(b" " * MAX_BODY_BYTES))).body) == MAX_BODY_BYTES


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [http(b" " * MAX_BODY_BYTES), CHUNKED + b"1\r\n \r\n" * (MOST_ANSWER_LINES // 2 - 3) + b"0\r\n\r\n"],
    ids=["of many bytes", "of many pieces"],
)
@pytest.mark.usefixtures("_in_a_call")
async def test_many_long_answers_may_come_on_one_connection(answer: bytes) -> None:
    async with serving(answer, stays=True) as server, transporting() as transport:
        for _ in range(3):
            await transport.send("GET", server.url, headers={})
    assert server.connections == 1


async def test_of_a_refusal_with_a_larger_body_the_status_and_the_headers_are_kept() -> None:
    answer = http(b" " * (MAX_BODY_BYTES + 1), status="429 Slow down", headers="Retry-After: 7\r\n")
    reply = await exchanged(answer)
    assert (reply.status, reply.headers["Retry-After"], reply.body) == (429, "7", b"")


ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 65536 + b"\r\n"
BOMB = gzip.compress(b"\0" * 64_000_000)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (http(b" " * (MAX_BODY_BYTES + 1)), UnreadableReplyError),
        (http(BOMB, headers="Content-Encoding: gzip\r\n"), UnreadableReplyError),
        (ENDLESS + 80 * ENDLESS.partition(b"\r\n\r\n")[2], UnreadableReplyError),
        (b"", ConnectionLostError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", ConnectionLostError),
        (b"SSH-2.0-OpenSSH_9.6\r\n", BrokenReplyError),
        (b"HTTP/1.1 two hundred\r\n\r\n", BrokenReplyError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", BrokenReplyError),
        (http(headers=f"X-Long: {'x' * 100_000}\r\n"), BrokenReplyError),
        (http(b"{}").replace(b"Length: 2", b"Length: 20"), BrokenReplyError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{ }\r\n", BrokenReplyError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{ }\r\n", BrokenReplyError),
        (http(b"no gzip", headers="Content-Encoding: gzip\r\n"), BrokenReplyError),
    ],
    ids=[
        *("too large", "gzip bomb", "too many pieces", "nothing", "half a head", "no HTTP", "no status", "two lengths"),
        *("a long header", "cut off", "cut off between pieces", "no piece", "not packed"),
    ],
)
async def test_what_is_no_whole_answer_is_one_of_our_failures(answer: bytes, expected: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as failure:
        await exchanged(answer)
    assert type(failure.value) is expected
    assert "127.0.0.1" not in str(failure.value)


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (CHUNKED + b"1\r\n{\r\n", b"zz\r\n"),
        (INTERIM * MOST_INTERIM_ANSWERS, INTERIM),
        (b"\r\n" * MOST_ANSWER_LINES, b"\r\n"),
        (CHUNKED, b"0" * MOST_ANSWER_BYTES),
        (CHUNKED + b"1;", b"x" * MOST_ANSWER_BYTES),
        (CHUNKED + b"1\r\n \r\n" * (MOST_ANSWER_LINES // 2 - 2), b"1\r\n \r\n"),
    ],
    ids=[
        "no piece behind a piece",
        "too many interim answers",
        "too many blank lines",
        "a piece's length without end",
        "a piece's extension without end",
        "too many pieces",
    ],
)
async def test_who_breaks_the_protocol_and_stays_is_not_waited_for(pieces: tuple[bytes, ...]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await settle()
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.set()

    ended = asyncio.Event()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, transporting() as transport:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with calling(call(Clock())), pytest.raises(BrokenReplyError):
            await asyncio.wait_for(transport.send("GET", url, headers={}), LONG_S)
        await asyncio.wait_for(ended.wait(), LONG_S)


@pytest.mark.usefixtures("_in_a_call")
async def test_interim_answers_are_passed_over() -> None:
    answer = INTERIM * MOST_INTERIM_ANSWERS + http()
    async with serving(answer, stays=True) as server, transporting() as transport:
        assert [(await transport.send("GET", server.url, headers={})).status for _ in range(2)] == [200, 200]
    assert server.connections == 1


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\n", http(b"{}").replace(b"2\r", b"9\r")])
@pytest.mark.usefixtures("_in_a_call")
async def test_whoever_hangs_is_left_at_once_when_the_attempt_ends(beginning: bytes) -> None:
    async with serving(beginning, stays=True) as server, transporting() as transport:
        judge = TimeLimited(OpenAIProviderImpl(transport, OpenAISettings(base_url=server.url, api_key=SecretStr(KEY))))
        with calling(call(Clock(), attempt_timeout_s=SHORT_S)), pytest.raises(ProviderTimeoutError):
            await judge.generate_comparison(request())
        await asyncio.wait_for(server.ended.wait(), LONG_S)


@pytest.mark.usefixtures("_in_a_call")
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize(
    ("length", "has_just_sent"),
    [(16 * 1024 * 1024, False), (16 * 1024 * 1024, True), (512 * 1024, False)],
    ids=["queued", "queued behind what the system has just sent", "taken by the system"],
)
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_has_not_been_sent_when_the_attempt_ends_is_never_sent(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    monkeypatch: pytest.MonkeyPatch,
    length: int,
    *,
    has_just_sent: bool,
) -> None:
    """A provider that hangs keeps neither the connection nor the question, and is not asked once it recovers."""
    question = b"x" * length
    if has_just_sent:
        monkeypatch.setattr("fcntl.ioctl", lambda *_: NOTHING_QUEUED)

    async def exchange() -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await left.wait()
            received = 0
            with suppress(ConnectionResetError):
                while piece := await reader.read(length):
                    received += len(piece)
            received_bytes.set_result(received)
            writer.close()

        asked, left = asyncio.Event(), asyncio.Event()
        received_bytes = asyncio.get_running_loop().create_future()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, transporting() as transport:
            server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            attempt = asyncio.create_task(transport.send("POST", url, headers={}, body=question))
            await asyncio.wait_for(asked.wait(), LONG_S)
            attempt.cancel()
            await asyncio.wait((attempt,))
            left.set()
            return int(await asyncio.wait_for(received_bytes, LONG_S))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(exchange()) < length / 2


async def test_nobody_listening_is_a_failed_connection() -> None:
    async with serving(b"") as server:
        url = server.url
    async with transporting() as transport:
        with calling(call(Clock())), pytest.raises(ProviderConnectionError) as failure:
            await transport.send("GET", url, headers={})
    behind = failure.value.__context__
    assert behind is not None
    assert behind.__traceback__ is None, "its frames hold what was sent"


@pytest.mark.usefixtures("_in_a_call")
async def test_a_server_without_tls_is_not_spoken_to() -> None:
    async with serving(http(), reads="nothing") as server, transporting() as transport:
        with pytest.raises(ProviderConnectionError):
            await transport.send("GET", server.url.replace("http:", "https:"), headers={})


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.usefixtures("_in_a_call")
async def test_a_redirect_is_handed_back_and_never_followed(status: str) -> None:
    async with serving(http()) as canary, transporting() as transport:
        location = f"Location: {canary.url}/elsewhere\r\n"
        async with serving(http(status=status, headers=location)) as server:
            reply = await transport.send("POST", server.url, headers={"x-api-key": KEY}, body=b"essay")
            with pytest.raises(UnreadableReplyError):
                await OpenAIProviderImpl(transport, OpenAISettings(base_url=server.url)).probe()
    assert (reply.status, canary.connections) == (int(status[:3]), 0)


@pytest.mark.usefixtures("_in_a_call")
async def test_an_early_refusal_is_read_although_the_body_was_not() -> None:
    answer = http(b"", status="413 Content Too Large", headers="Connection: close\r\n")
    async with serving(answer, reads="head") as server, transporting() as transport:
        reply = await transport.send("POST", server.url, headers={}, body=b"x" * 50_000)
    assert reply.status == 413


@pytest.mark.usefixtures("_in_a_call")
async def test_no_question_waits_behind_one_that_was_refused_before_it_had_been_received() -> None:
    """The server may never read the rest, or take it for the next question."""
    has_ended = asyncio.Event()

    class Refusing(Server):
        async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await super()._answered(reader, writer)
            await has_ended.wait()

    refusal = http(status="429 Slow down")
    async with serving(refusal, reads="head", kind=Refusing) as server, transporting() as transport:
        for _ in range(2):
            async with asyncio.timeout(LONG_S):
                reply = await transport.send("POST", server.url, headers={}, body=b"x" * 1_000_000)
            assert reply.status == 429
        assert not current_call().record.replaced_connection
        has_ended.set()
    assert server.connections == 2


@pytest.mark.usefixtures("_in_a_call")
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_answer_to_what_has_not_been_received_is_none(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The server has not got the end of the question: it answers another one, if any."""

    async def exchange() -> None:
        async with serving(http(), reads="head") as server, transporting() as transport:
            with pytest.raises(BrokenReplyError):
                await transport.send("POST", server.url, headers={}, body=b"x" * 1_000_000)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(exchange())


@pytest.mark.usefixtures("_in_a_call")
async def test_where_the_system_does_not_tell_what_was_received_answers_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> bytes:
        refused.append(True)
        raise OSError(errno.ENOTTY, "it has no such thing")

    refused: list[bool] = []
    monkeypatch.setattr("fcntl.ioctl", refuse)
    async with serving(http()) as server, transporting() as transport:
        reply = await transport.send("POST", server.url, headers={}, body=b"{}")
    assert (reply.status, any(refused)) == (200, True)


@pytest.mark.usefixtures("_in_a_call")
async def test_a_url_is_sent_as_it_is_and_cookies_are_not_kept() -> None:
    async with serving(http(headers="Set-Cookie: a=b\r\n")) as server, transporting() as transport:
        url = server.url.replace("127.0.0.1", "localhost")  # a jar keeps no cookie of a numeric address
        for _ in range(2):
            await transport.send("GET", f"{url}/models/a%2fb%7Ec:generate?limit=1", headers={})
    for asked in server.requests:
        assert asked.startswith(b"GET /models/a%2fb%7Ec:generate?limit=1 HTTP/1.1\r\n")
        assert b"cookie" not in asked.lower()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.usefixtures("_in_a_call")
async def test_a_key_travels_in_one_header_and_nowhere_else(dialect: Dialect) -> None:
    answer = http(json.dumps({"error": f"The key {KEY} is wrong."}).encode(), status="401 Unauthorized")
    async with serving(answer) as server:
        container = create_container(settings_of(**dialect.variables(server.url)))
        judge = (await container.get(Judges))[dialect.name]
        for asked in (judge.metered.generate_comparison(request()), judge.probe.probe()):
            with pytest.raises(ProviderError) as failure:
                await asked
            assert KEY not in f"{failure.value!r} {failure.value.details}"
            assert failure.value.__suppress_context__ or failure.value.__context__ is None
        await container.close()
    for sent in server.requests:
        line, _, rest = sent.decode().partition("\r\n")
        assert KEY not in line
        assert ": ".join(dialect.key).lower() in rest.lower()
        assert rest.count(KEY) == 1


@pytest.mark.parametrize("trusts", [False, True])
@pytest.mark.usefixtures("_in_a_call")
async def test_a_proxy_of_the_environment_is_used_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, *, trusts: bool
) -> None:
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with serving(http()) as proxy, serving(http()) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with transporting(trusts_environment=trusts) as transport:
            await transport.send("GET", f"{server.url}/models", headers={})
    assert (len(proxy.requests), len(server.requests)) == ((1, 0) if trusts else (0, 1))


@pytest.mark.parametrize(
    ("said", "details"),
    [
        (b"", "the proxy could not be reached"),
        (b"HTTP/1.1 200 Connection est", "the proxy could not be reached"),
        (b"\0\r\n\r\n", "the proxy could not be reached"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "the proxy answered 403"),
    ],
    ids=["nothing", "half", "no HTTP", "no"],
)
@pytest.mark.usefixtures("_in_a_call")
async def test_a_proxy_that_opens_no_way_has_passed_nothing_on_that_might_be_billed(
    monkeypatch: pytest.MonkeyPatch, said: bytes, details: str
) -> None:
    async with serving(said) as proxy, transporting(trusts_environment=True) as transport:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(ProviderConnectionError) as failure:
            await transport.send("POST", "https://provider.example/judge", headers={}, body=b"{}")
    assert (type(failure.value), failure.value.details) == (ProviderConnectionError, details)
    assert [sent.split()[0] for sent in proxy.requests] == [b"CONNECT"]


@pytest.mark.usefixtures("_in_a_call")
async def test_a_connection_is_used_again_until_it_is_closed_which_may_be_said_twice() -> None:
    async with serving(http(), stays=True) as server:
        transport = Transport(trusts_environment=False, now=Calendar())
        await transport.close()
        for _ in range(3):
            await transport.send("GET", server.url, headers={})
        assert (len(server.requests), server.connections, server.ended.is_set()) == (3, 1, False)
        await transport.close()
        await transport.close()
        await asyncio.wait_for(server.ended.wait(), LONG_S)


async def test_calls_to_one_host_do_not_wait_for_each_other() -> None:
    """Providers behind one gateway share a host: one that hangs must not take the others' connections."""
    many, everybody = 110, asyncio.Event()  # aiohttp's own limit is 100
    waiting = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        await reader.readuntil(b"\r\n\r\n")
        waiting += 1
        if waiting == many:
            everybody.set()
        await everybody.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    transport = Transport(trusts_environment=False, now=Calendar())
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    try:
        async with asyncio.timeout(LONG_S):
            with calling(call(Clock())):
                replies = await asyncio.gather(*(transport.send("GET", url, headers={}) for _ in range(many)))
        assert [reply.status for reply in replies] == [200] * many
    finally:
        await transport.close()
        listener.close()
