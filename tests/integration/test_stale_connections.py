"""A kept connection that the other side closed meanwhile costs one more exchange and is nobody's failure."""

import asyncio
import errno
import gc
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from unittest.mock import Mock

import aiohttp
import pytest
import uvloop

from exceptions import BrokenReplyError, ConnectionLostError, ProviderConnectionError, ProviderError
from implementations.resilience.call import calling
from implementations.wire.connector import TCP_KEEPIDLE_S, TCP_KEEPINTVL_S, Stream
from implementations.wire.transport import STALE_WITHIN_S, Transport
from tests.fakes import Calendar, Clock, begun, call, settle

RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)
LONG_S = 30.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(slots=True)
class Server:
    """Answers the given number of requests on each connection and closes at the next; `port` is set when it listens.

    resets: instead of closing it.
    """

    answers_per_connection: list[int]
    port: int = 0
    requests: int = 0
    connections: int = 0
    open: int = 0
    stale: list[None] = field(default_factory=list)
    before_closing: Callable[[], None] = lambda: None
    resets: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = self.answers_per_connection[self.connections]
        self.connections += 1
        self.open += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                self.requests += 1
                if not answers:
                    self.before_closing()
                    break
                answers -= 1
                writer.write(ANSWER)
        except asyncio.IncompleteReadError:
            pass
        finally:
            self.open -= 1
            if self.resets:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_WHEN_CLOSED)
            writer.close()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def speaking_to(server: Server, serve: Serve | None = None) -> AsyncIterator[Transport]:
    listener = await asyncio.start_server(serve or server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    transport = Transport(
        trusts_environment=False,
        on_stale_connection=lambda: server.stale.append(None),
        now=Calendar(),
    )
    try:
        yield transport
    finally:
        await transport.close()
        listener.close()
        await listener.wait_closed()


async def ask(transport: Transport, server: Server, clock: Clock | None = None, *, path: str = "") -> int:
    with calling(call(clock or Clock())):
        reply = await transport.send("POST", f"http://127.0.0.1:{server.port}/{path}", headers={}, body=b"{}")
    return reply.status


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
async def test_a_closed_kept_connection_is_replaced_at_once(*, resets: bool) -> None:
    server = Server(answers_per_connection=[1, 9], resets=resets)
    async with speaking_to(server) as transport:
        assert [await ask(transport, server) for _ in range(3)] == [200, 200, 200]
    assert (server.connections, server.requests, len(server.stale)) == (2, 4, 1)


async def test_one_stale_connection_is_the_last_that_is_tried_of_all_that_were_kept() -> None:
    server = Server(answers_per_connection=[1, 1, 1, 9])
    async with speaking_to(server) as transport:
        assert await asyncio.gather(*(ask(transport, server) for _ in range(3))) == [200] * 3
        assert [await ask(transport, server) for _ in range(3)] == [200] * 3
        await settle()
        assert server.open == 1
        gc.collect()
        assert len([one for one in gc.get_objects() if type(one).__name__ == "_Pool"]) == 1
    assert (server.connections, server.requests, len(server.stale)) == (4, 3 + 1 + 3, 1)


async def test_two_that_are_stale_at_once_are_replaced_by_two_that_are_kept() -> None:
    server = Server(answers_per_connection=[1, 1, *[9] * 8])
    async with speaking_to(server) as transport:
        for _ in range(3):
            assert await asyncio.gather(*(ask(transport, server) for _ in range(2))) == [200] * 2
    assert (server.connections, len(server.stale)) == (4, 2)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs Linux")
async def test_while_an_answer_is_awaited_the_network_is_reminded_of_the_connection() -> None:
    """Or an address translation forgets it while a model reasons for minutes, and the answer never comes."""
    stream = Stream(asyncio.get_running_loop())
    async with speaking_to(server := Server(answers_per_connection=[9])):
        made, _ = await asyncio.get_running_loop().create_connection(lambda: stream, "127.0.0.1", server.port)
        own = made.get_extra_info("socket")
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == TCP_KEEPIDLE_S
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == TCP_KEEPINTVL_S
        made.close()
    assert TCP_KEEPIDLE_S < 240 <= TCP_KEEPIDLE_S + TCP_KEEPINTVL_S, (
        "Azure forgets then; until then nothing is lost with a packet"
    )


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs Linux")
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_kept_connection_on_which_nothing_is_taken_any_more_is_replaced(
    new_loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that a firewall has forgotten; else the question would wait there until its attempt ends."""
    monkeypatch.setattr("implementations.wire.connector.UNTAKEN_MS", 100)
    question = b"x" * 16 * 1024 * 1024  # more than the system takes for a server that does not read

    async def exchange() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.connections += 1
            with suppress(asyncio.IncompleteReadError):
                while await reader.readuntil(b"\r\n\r\n"):
                    if server.connections == 1 and server.requests:
                        clock.advance(STALE_WITHIN_S)
                        await over.wait()
                        break
                    await reader.readexactly(len(question) if server.requests else 2)
                    server.requests += 1
                    writer.write(ANSWER)
            writer.close()

        server, over, clock = Server(answers_per_connection=[]), asyncio.Event(), Clock()
        async with speaking_to(server, serve) as transport:
            await ask(transport, server)
            monkeypatch.undo()  # the new connection may take its time
            url = f"http://127.0.0.1:{server.port}"
            with calling(call(clock)):
                reply = await asyncio.wait_for(transport.send("POST", url, headers={}, body=question), LONG_S)
            over.set()
        assert (reply.status, server.connections, server.requests, len(server.stale)) == (200, 2, 2, 1)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(exchange())


STRAY = ANSWER.replace(b"200", b"203")


@pytest.mark.parametrize(
    ("stray", "at_once"),
    [(STRAY, False), (STRAY, True), (STRAY[:12], False), (b"\r\n", False)],
    ids=["whole", "whole and at once", "part of a head", "blank line"],
)
async def test_what_comes_unasked_on_a_kept_connection_is_nobody_s_answer(stray: bytes, *, at_once: bool) -> None:
    """Else the next question would get it, and every later one the answer to the one before."""
    unasked, has_come = asyncio.Event(), asyncio.Event()
    if at_once:
        unasked.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                writer.write(ANSWER)
                if server.connections == 1:
                    await unasked.wait()
                    writer.write(stray)
                    has_come.set()
        writer.close()

    server = Server(answers_per_connection=[])
    async with speaking_to(server, serve) as transport:
        assert await ask(transport, server) == 200
        unasked.set()
        await has_come.wait()
        await settle()
        assert [await ask(transport, server) for _ in range(3)] == [200] * 3
    assert (server.connections, len(server.stale)) == (2, 0)


async def test_a_connection_that_tls_has_lost_but_not_told_is_neither_asked_nor_said_to_be_asking() -> None:
    stream = Stream(asyncio.get_running_loop())
    stream.connection_made(Mock(**{"is_closing.return_value": False, "get_extra_info.return_value": None}))
    stream.is_clean = True
    assert (stream.has_unsolicited_data(), stream.is_asking()) == (True, False)


def take_garbage(stream: Stream) -> None:
    stream.data_received(ANSWER[-1:])
    stream.data_received(b"neither head nor body\r\n\r\n")


def break_while_sending(stream: Stream) -> None:
    stream.set_exception(aiohttp.ClientOSError())
    stream.data_received(ANSWER[-1:])


@pytest.mark.parametrize("happen", [take_garbage, break_while_sending])
async def test_nothing_takes_back_an_answer_that_comes_completely(happen: Callable[[Stream], None]) -> None:
    """It is read a turn later, and may have been paid for."""
    stream = Stream(asyncio.get_running_loop())
    stream.connection_made(Mock(**{"get_extra_info.return_value": None}))
    stream.set_response_params()
    stream.data_received(ANSWER[:-1])
    happen(stream)
    _, body = await stream.read()
    assert (await body.read(), stream.should_close) == (b"{}", True)


@pytest.mark.parametrize("status", [101, 204, 304])
async def test_what_comes_behind_an_answer_without_a_body_is_nobody_s_answer(status: int) -> None:
    """It may come only after the next question was sent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        answers = iter(
            [b"HTTP/1.1 %d Bare\r\n\r\n" % status, STRAY, STRAY] if server.connections == 1 else [ANSWER] * 3
        )
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                writer.write(next(answers))
        writer.close()

    server = Server(answers_per_connection=[])
    async with speaking_to(server, serve) as transport:
        assert [await ask(transport, server) for _ in range(3)] == [status, 200, 200]
    assert (server.connections, len(server.stale)) == (2, 0)


@pytest.mark.parametrize("closes", [False, True], ids=["stays open", "closes"])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("stray", [STRAY, STRAY[:12], b"\r\n"], ids=["whole", "part of a head", "blank line"])
def test_what_comes_unasked_while_a_kept_connection_is_taken_is_nobody_s_answer(
    stray: bytes, new_loop: Callable[[], asyncio.AbstractEventLoop], *, closes: bool
) -> None:
    """The question goes out one turn later. Until then uvloop has read what came, asyncio has not."""
    kept: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                server.requests += 1
                writer.write(ANSWER)
        writer.close()

    async def exchange() -> None:
        async with speaking_to(server, serve) as transport:
            assert await ask(transport, server) == 200
            with socket.socket(fileno=os.dup(kept[0].get_extra_info("socket").fileno())) as at_once:
                at_once.send(stray)
                if closes:
                    at_once.shutdown(socket.SHUT_WR)
            assert [await ask(transport, server) for _ in range(3)] == [200] * 3

    server = Server(answers_per_connection=[])
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(exchange())
    assert (len(kept), server.requests, len(server.stale)) == (2, 4, 1)


async def test_what_is_under_way_on_another_kept_connection_goes_on_and_then_closes_it() -> None:
    answers, is_open, has_closed = asyncio.Event(), list[asyncio.StreamWriter](), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_open.append(writer)
        number = 0
        with suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                number += 1
                if b" /slow " in head and number > 1:
                    await answers.wait()
                elif number > 1 and not has_closed.is_set():
                    has_closed.set()
                    break
                writer.write(ANSWER)
        is_open.remove(writer)
        writer.close()

    server = Server(answers_per_connection=[])
    async with speaking_to(server, serve) as transport:
        assert await asyncio.gather(*(ask(transport, server) for _ in range(2))) == [200, 200]
        slow = await begun(ask(transport, server, path="slow"))
        assert await ask(transport, server) == 200
        assert not slow.done()
        answers.set()
        assert await slow == 200
        assert await ask(transport, server) == 200
        await settle()
        assert len(is_open) == 1


async def test_a_new_connection_that_closes_is_a_failure() -> None:
    server = Server(answers_per_connection=[0])
    async with speaking_to(server) as transport:
        with pytest.raises(ProviderConnectionError):
            await ask(transport, server)
    assert (server.requests, server.stale) == (1, [])


async def test_it_is_tried_once_more_and_not_for_ever() -> None:
    server = Server(answers_per_connection=[1, 0])
    async with speaking_to(server) as transport:
        assert await ask(transport, server) == 200
        with pytest.raises(ProviderConnectionError):
            await ask(transport, server)
    assert (server.requests, len(server.stale)) == (3, 1)


async def test_one_comparison_replaces_one_connection_however_many_attempts_it_makes() -> None:
    server = Server(answers_per_connection=[1, 1, 9])
    async with speaking_to(server) as transport:
        with calling(call(Clock())):
            for _ in range(2):
                await transport.send("POST", f"http://127.0.0.1:{server.port}/", headers={}, body=b"{}")
            with pytest.raises(ConnectionLostError):
                await transport.send("POST", f"http://127.0.0.1:{server.port}/", headers={}, body=b"{}")
    assert (server.connections, server.requests, len(server.stale)) == (2, 4, 1)


async def test_a_kept_connection_that_breaks_late_is_a_failure() -> None:
    """The provider may have been answering: what it did is not bought again unnoticed."""
    clock = Clock()
    server = Server(answers_per_connection=[1, 9], before_closing=lambda: clock.advance(STALE_WITHIN_S))
    async with speaking_to(server) as transport:
        assert await ask(transport, server, clock) == 200
        with pytest.raises(ConnectionLostError):
            await ask(transport, server, clock)
    assert (server.requests, server.stale) == (2, [])


@pytest.mark.parametrize(("after_s", "is_replaced"), [(2 * STALE_WITHIN_S, True), (2 * TCP_KEEPIDLE_S, False)])
async def test_who_is_not_there_any_more_after_minutes_may_have_been_answering(
    after_s: float, monkeypatch: pytest.MonkeyPatch, *, is_replaced: bool
) -> None:
    """The system says of both that the connection has timed out: of a question that never arrived, and of silence."""
    monkeypatch.setattr("implementations.wire.transport.UNACKNOWLEDGED", {errno.ECONNRESET})
    clock = Clock()
    server = Server(answers_per_connection=[1, 9], resets=True, before_closing=lambda: clock.advance(after_s))
    async with speaking_to(server) as transport:
        assert await ask(transport, server, clock) == 200
        if is_replaced:
            assert await ask(transport, server, clock) == 200
        else:
            with pytest.raises(ConnectionLostError):
                await ask(transport, server, clock)
    assert len(server.stale) == is_replaced


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (ANSWER[:-1], BrokenReplyError),
        (ANSWER[:20], ConnectionLostError),
        (ANSWER[:5], ConnectionLostError),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER[:20], ConnectionLostError),
        (b"HTTP/1.1 100 Continue\r\n\r\n", ConnectionLostError),
    ],
    ids=["body", "head", "first bytes", "head behind another", "only another head"],
)
@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
async def test_a_kept_connection_that_breaks_during_the_answer_is_a_failure(
    sent: bytes, failure: type[ProviderError], *, resets: bool
) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (ANSWER, sent):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(2)
            writer.write(answer)
        if resets:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_WHEN_CLOSED)
        writer.close()

    server = Server(answers_per_connection=[])
    async with speaking_to(server, serve) as transport:
        assert await ask(transport, server) == 200
        with pytest.raises(failure):
            await ask(transport, server)
    assert (len(asked), server.stale) == (2, [])


async def test_a_kept_connection_that_breaks_after_the_head_of_the_answer_was_not_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the HTTP library raises then: the provider has answered, and is not paid twice."""

    async def broken(_: object) -> bytes:
        raise aiohttp.ClientOSError

    server = Server(answers_per_connection=[9, 9])
    async with speaking_to(server) as transport:
        assert await ask(transport, server) == 200
        monkeypatch.setattr("implementations.wire.transport._read_bounded", broken)
        with pytest.raises(ConnectionLostError):
            await ask(transport, server)
    assert (server.requests, server.stale) == (2, [])


async def test_closing_ends_also_what_is_under_way_on_connections_that_are_not_used_again() -> None:
    answers = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Closes each connection at the second request."""
        with suppress(asyncio.IncompleteReadError):
            if b" /slow " in await reader.readuntil(b"\r\n\r\n"):
                await answers.wait()
            writer.write(ANSWER)
            await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = Server(answers_per_connection=[])
    async with speaking_to(server, serve) as transport:
        slow = await begun(ask(transport, server, path="slow"))
        assert [await ask(transport, server) for _ in range(2)] == [200, 200]
        assert len(server.stale) == 1
        await transport.close()
        answers.set()
        with pytest.raises(ConnectionLostError):
            await slow


async def test_where_there_was_no_connection_none_was_stale() -> None:
    server = Server(answers_per_connection=[])
    async with speaking_to(server) as transport:
        with calling(call(Clock())) as under_way, pytest.raises(ProviderConnectionError):
            await transport.send("POST", "http://nowhere.invalid/", headers={}, body=b"{}")
    assert server.stale == []
    assert not under_way.record.replaced_connection


async def test_a_kept_connection_does_not_keep_what_was_sent() -> None:
    server = Server(answers_per_connection=[9])
    async with speaking_to(server) as transport:
        await asyncio.create_task(ask(transport, server))  # with a context of its own, as each purchase has
        gc.collect()
        assert not [one for one in gc.get_objects() if type(one).__name__ == "_Exchange"]
