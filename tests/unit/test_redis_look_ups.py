"""A look-up of Redis's name that hangs takes one thread, however often Redis is asked meanwhile."""

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from implementations.shared_state.connections import Connections
from implementations.shared_state.faults import Fault, fault_of
from tests.fakes import settle

NAME = "redis.example"
BRIEFLY_S = 0.02


class Resolver:
    """Looks up NAME only when the test lets it, and finds nothing unless told what."""

    def __init__(self) -> None:
        self.asked = 0
        self.knows: str | None = None
        self.was_asked = threading.Event()
        self.may_answer = threading.Event()
        self._look_up = socket.getaddrinfo

    def __call__(self, host: Any, *rest: Any, **named: Any) -> Any:
        if host != NAME:
            return self._look_up(host, *rest, **named)
        self.asked += 1
        self.was_asked.set()
        self.may_answer.wait()
        if self.knows is not None:
            return self._look_up(self.knows, *rest, **named)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    return found


async def test_a_look_up_that_hangs_is_not_begun_again(resolver: Resolver) -> None:
    connections = Connections(f"redis://{NAME}:6379")
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(BRIEFLY_S):
                await connections.send(("PING",))
    await asyncio.to_thread(resolver.was_asked.wait, 30.0)  # its thread may begin late
    assert resolver.asked == 1
    waiting = asyncio.create_task(connections.send(("PING",)))
    await asyncio.sleep(0)
    resolver.may_answer.set()
    with pytest.raises(OSError, match="unknown") as told:
        await waiting
    assert (fault_of(told.value), resolver.asked) == (Fault.CONNECTION, 1)
    with pytest.raises(OSError, match="unknown"):
        await connections.send(("PING",))
    assert resolver.asked == 2
    await connections.close()


async def test_a_look_up_that_hangs_is_not_begun_for_each_connection_that_redis_closed(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its machine goes: a look-up for each would leave no thread for those of the providers."""

    async def redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"+PONG\r\n")
        writer.close()

    monkeypatch.setattr("implementations.shared_state.connections.KNOWN_S", 0.0)
    resolver.knows = "127.0.0.1"
    resolver.may_answer.set()
    async with await asyncio.start_server(redis, "127.0.0.1") as server:
        connections = Connections(f"redis://{NAME}:{server.sockets[0].getsockname()[1]}")
        await asyncio.gather(*(connections.send(("PING",)) for _ in range(3)))
        await settle()
        resolver.may_answer.clear()
        resolver.was_asked.clear()
        resolver.asked = 0
        sending = [asyncio.create_task(connections.send(("PING",))) for _ in range(3)]
        await asyncio.to_thread(resolver.was_asked.wait, 30.0)
        await asyncio.sleep(BRIEFLY_S)
        asked = resolver.asked
        resolver.may_answer.set()
        assert await asyncio.gather(*sending) == [[b"PONG"]] * 3
        assert asked == 1
        await connections.close()


async def test_a_name_that_was_found_is_not_looked_up_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def nowhere(host: str, *_: object, **__: object) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9))]

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    connections = Connections(f"redis://{NAME}:9")
    for _ in range(3):
        with pytest.raises(Exception, match="connect"):
            await connections.send(("PING",))
    assert asked == [NAME] * (1 + 3), "one of ours, and redis-py's own"
    await connections.close()


async def test_a_look_up_that_nobody_waits_for_any_more_ends_in_silence(resolver: Resolver) -> None:
    connections = Connections(f"redis://{NAME}:6379")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(BRIEFLY_S):
            await connections.send(("PING",))
    await connections.close()
    resolver.may_answer.set()  # the loop waits for its thread


async def test_a_unix_socket_has_no_name_and_is_asked_like_any_other_address(
    socket_path: Path, resolver: Resolver
) -> None:
    async def redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(b"+PONG\r\n")
        writer.close()

    async with await asyncio.start_unix_server(redis, socket_path):
        connections = Connections(f"unix://{socket_path}")
        assert await connections.send(("PING",)) == [b"PONG"]
        await connections.close()
    assert resolver.asked == 0
