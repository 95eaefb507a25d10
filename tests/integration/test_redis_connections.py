"""One exchange of commands with Redis: who reads which reply, and what becomes of a connection afterwards."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
import uvloop
from cryptography import x509
from redis.exceptions import ConnectionError as NotConnectedError
from redis.exceptions import MovedError, ReadOnlyError, ResponseError

from implementations.shared_state.connections import Address, Connections
from tests.fakes import begun, settle
from tests.integration.certificates import HERE, certificate

RESET = struct.pack("ii", 1, 0)  # to linger for no time: what is left is not sent, and the other side is reset

LONG_S = 30.0

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def speaking_to(path: Path, serve: Serve, *, at_once: int = 1) -> AsyncIterator[Connections]:
    """So many connections at a time, to a server in this process."""
    async with await asyncio.start_unix_server(serve, path):
        connections = Connections(f"unix://{path}", connections=at_once)
        try:
            yield connections
        finally:
            await connections.close()


async def told(reader: asyncio.StreamReader) -> bytes:
    """The last word of a command, as a reply."""
    command = await reader.readuntil(b"!\r\n")
    return b"+" + command.rsplit(b"\r\n", 2)[1] + b"\r\n"


async def test_a_reply_that_comes_too_late_is_nobody_s(socket_path: Path) -> None:
    opened: list[asyncio.StreamWriter] = []
    first_came = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The first command is answered when the second comes."""
        opened.append(writer)
        with suppress(asyncio.IncompleteReadError):
            late = b"" if first_came.is_set() else await told(reader)
            first_came.set()
            writer.write(late + await told(reader))
        writer.close()

    async with speaking_to(socket_path, serve) as connections:
        first = asyncio.create_task(connections.send(("GET", "first!")))
        await first_came.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await connections.send(("GET", "second!")) == [b"second!"]
    assert len(opened) == 2


@pytest.mark.parametrize("rest", [b"", b"+more than was asked\r\n"], ids=["closed", "unread"])
async def test_a_connection_that_cannot_be_used_again_is_opened_anew(socket_path: Path, rest: bytes) -> None:
    opened: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        writer.write(await told(reader) + rest)
        if rest:
            await reader.read()
        writer.close()

    async with speaking_to(socket_path, serve) as connections:
        turns: list[str] = []
        for name in ("first!", "second!"):
            assert await connections.send(("GET", name), on_turn=lambda: turns.append("turn")) == [name.encode()]
            await settle()
    assert (len(opened), len(turns)) == (2, 2)


async def test_a_connection_that_was_reset_while_idle_is_opened_anew() -> None:
    opened: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        writer.write(await told(reader))
        with suppress(ConnectionResetError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        connections = Connections(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", connections=1)
        assert await connections.send(("GET", "first!")) == [b"first!"]
        opened[0].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        opened[0].transport.abort()
        await settle()
        assert await connections.send(("GET", "second!")) == [b"second!"]
        await connections.close()
    assert len(opened) == 2


async def test_a_refusal_is_one_of_the_replies_and_the_connection_goes_on(socket_path: Path) -> None:
    opened: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        with suppress(asyncio.IncompleteReadError):
            while True:
                writer.write(await told(reader) + b"-WRONGTYPE\r\n")
        writer.close()

    async with speaking_to(socket_path, serve) as connections:
        for name in ("first!", "second!"):
            answer, refusal = await connections.send(("GET", name), ("GET", "list"))
            assert answer == name.encode()
            assert isinstance(refusal, ResponseError)
    assert len(opened) == 1


async def test_what_one_connection_hears_of_a_replica_holds_for_all(socket_path: Path) -> None:
    opened: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        with suppress(asyncio.IncompleteReadError):
            while True:
                word = await told(reader)
                writer.write(b"-READONLY\r\n" if word == b"+written!\r\n" else word)
        writer.close()

    async with speaking_to(socket_path, serve, at_once=2) as connections:
        for count in (2, 4):
            await asyncio.gather(*(connections.send(("GET", f"{name}!")) for name in ("one", "other")))
            assert len(opened) == count
            answer, refusal = await connections.send(("GET", "read!"), ("SET", "written!"))
            assert answer == b"read!"
            assert isinstance(refusal, ReadOnlyError)


async def test_a_redis_that_reads_nothing_delays_the_end_no_longer_than_it_may(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("implementations.shared_state.connections.CLOSE_S", 0.01)
    may_end = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_end.wait()
        writer.close()

    async with speaking_to(socket_path, serve) as connections:
        sending = await begun(connections.send(("SET", "more than its buffers hold" * 1_000_000)))
        asyncio.get_running_loop().call_later(LONG_S, may_end.set)
        await connections.close()
        sending.cancel()
        assert not may_end.is_set()
        may_end.set()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_a_redis_that_hangs_did_not_take_in_time_is_never_sent(
    socket_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Else each such command would keep its socket and its value until Redis goes on."""
    value = b"x" * 16 * 1024 * 1024  # more than the system takes for a server that does not read

    async def exchange() -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"SET")
            asked.set()
            await left.wait()
            received.set_result(len(await reader.read()))
            writer.close()

        asked, left = asyncio.Event(), asyncio.Event()
        received = asyncio.get_running_loop().create_future()
        async with speaking_to(socket_path, serve) as connections:
            writing = asyncio.create_task(connections.send(("SET", "key", value)))
            await asyncio.wait_for(asked.wait(), LONG_S)
            writing.cancel()
            await asyncio.wait((writing,))
            left.set()
            return int(await asyncio.wait_for(received, LONG_S))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(exchange()) < len(value)


async def test_the_authorities_of_tls_are_read_once_for_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Mock(return_value=ssl.create_default_context())
    monkeypatch.setattr(ssl, "create_default_context", read)
    connections = Connections("rediss://127.0.0.1:1", connections=2)  # nobody is there
    for ended in await asyncio.gather(*(connections.send(("GET", "it")) for _ in range(2)), return_exceptions=True):
        assert isinstance(ended, NotConnectedError)
    await connections.close()
    assert read.call_count == 1


@pytest.mark.parametrize(
    ("authority", "host", "shows_ours", "is_spoken_to"),
    [
        ("redis", HERE, True, True),
        ("redis", HERE, False, False),
        ("redis", x509.DNSName("redis.example"), True, False),
        ("somebody", HERE, True, False),
        (None, HERE, True, False),
    ],
    ids=["both", "without ours", "of another host", "of somebody else's authority", "of no public authority"],
)
async def test_only_a_redis_whose_certificate_is_right_hears_a_command_and_it_may_want_ours(
    tmp_path: Path, authority: str | None, host: x509.GeneralName, *, shows_ours: bool, is_spoken_to: bool
) -> None:
    ours, theirs = certificate(tmp_path, "ours"), certificate(tmp_path, "redis", host=host)
    certificate(tmp_path, "somebody")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(theirs.trusted, theirs.key)
    tls.load_verify_locations(ours.trusted)
    tls.verify_mode = ssl.CERT_REQUIRED
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            heard.append(await told(reader))
            writer.write(heard[-1])
        writer.close()

    options = [f"ssl_ca_certs={tmp_path / authority}.pem"] if authority else []
    options += [f"ssl_certfile={ours.trusted}", f"ssl_keyfile={ours.key}"] if shows_ours else []
    async with await asyncio.start_server(serve, "127.0.0.1", ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        connections = Connections(f"rediss://127.0.0.1:{port}?{'&'.join(options)}", connections=1)
        ended: list[object] = await asyncio.gather(connections.send(("GET", "it!")), return_exceptions=True)
        await connections.close()
    assert (ended == [[b"it!"]]) == bool(heard) == is_spoken_to
    assert is_spoken_to or isinstance(ended[0], (NotConnectedError, OSError))


@asynccontextmanager
async def two_servers() -> AsyncIterator[list[Address]]:
    """Each answers any command with its own number, but refuses to know what it is told has moved."""

    def serve(number: int) -> Serve:
        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.IncompleteReadError, ConnectionResetError):
                while True:
                    has_moved = await told(reader) == b"+moved!\r\n"
                    writer.write(b"-MOVED 6510 10.0.0.1:6379\r\n" if has_moved else b":%d\r\n" % number)
            writer.close()

        return served

    async with (
        await asyncio.start_server(serve(0), "127.0.0.1") as zero,
        await asyncio.start_server(serve(1), "127.0.0.1") as one,
    ):
        yield [server.sockets[0].getsockname() for server in (zero, one)]


@asynccontextmanager
async def following(find: Callable[[], Awaitable[Address]]) -> AsyncIterator[Connections]:
    connections = Connections("redis://primary", find=find, connections=2)
    try:
        yield connections
    finally:
        await connections.close()


async def test_connections_go_where_they_are_told_to_without_any_wait_of_what_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two_servers() as addresses:
        found = [addresses[0]]
        may_look = asyncio.Event()
        may_look.set()

        async def find() -> Address:
            await may_look.wait()
            return found[-1]

        async with following(find) as connections:
            assert await connections.send(("GET", "it!")) == [0]
            monkeypatch.setattr("implementations.shared_state.connections.FOLLOWED_S", 0.0)
            found.append(addresses[1])
            connections.renew()
            assert await connections.send(("GET", "it!")) == [1]
            may_look.clear()
            assert await connections.send(("GET", "it!")) == [1]  # asks, and does not wait
            found.append(addresses[0])
            may_look.set()
            await settle(5)
            assert await connections.send(("GET", "it!")) == [0]


async def test_a_primary_is_asked_for_now_and_then_and_one_that_stays_keeps_its_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[asyncio.StreamWriter] = []
    asked: list[Address] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                writer.write(await told(reader))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:

        async def find() -> Address:
            asked.append(server.sockets[0].getsockname())
            return asked[-1]

        async with following(find) as connections:
            monkeypatch.setattr("implementations.shared_state.connections.FOLLOWED_S", LONG_S)
            for _ in range(3):
                await connections.send(("GET", "it!"))
            assert (len(asked), len(opened)) == (1, 1)
            monkeypatch.setattr("implementations.shared_state.connections.FOLLOWED_S", 0.0)
            connections.renew()
            async with asyncio.timeout(LONG_S):
                while len(asked) < 4:
                    await connections.send(("GET", "it!"))
            await connections.send(("GET", "it!"))
    assert len(opened) == 2


async def test_a_server_that_says_the_keys_have_moved_is_left_at_once() -> None:
    async with two_servers() as addresses:
        found = list(addresses)

        async def find() -> Address:
            return found.pop(0)

        async with following(find) as connections:
            (refusal,) = await connections.send(("GET", "moved!"))
            assert isinstance(refusal, MovedError)
            assert await connections.send(("GET", "it!")) == [1]


async def test_what_is_wrong_with_the_look_up_is_told_and_looked_up_anew() -> None:
    async with two_servers() as addresses:
        found: list[Address | Exception] = [NotConnectedError(), addresses[0]]

        async def find() -> Address:
            told = found.pop(0)
            if isinstance(told, Exception):
                raise told
            return told

        async with following(find) as connections:
            with pytest.raises(NotConnectedError):
                await connections.send(("GET", "it!"))
            assert await connections.send(("GET", "it!")) == [0]
