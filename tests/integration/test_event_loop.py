"""A name may have several addresses, of which one leads nowhere: who connects by name gets through all the same."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from implementations.shared_state.connections import Connections
from tests.integration.certificates import certificate
from tests.integration.service_process import HANG_S, out_of_reach

NAME = "several.example"
Address = tuple[str, int]
NOBODY: Address = ("127.0.0.1", 9)  # listens there


def let_name_have(*addresses: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever looks NAME up find these."""
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in addresses]

    async def asked(host: Any, *rest: Any, **named: Any) -> Any:
        return found if host == NAME else await look_up(host, *rest, **named)

    monkeypatch.setattr(loop, "getaddrinfo", asked)


async def pong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer once."""
    await reader.read(1000)
    writer.write(b"+PONG\r\n")
    writer.close()


@pytest.mark.parametrize("first", ["out of reach", "refusing"])
async def test_redis_is_found_at_the_address_that_answers(monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    with out_of_reach() as port:
        async with await asyncio.start_server(pong, "127.0.0.1") as server:
            there = server.sockets[0].getsockname()
            nowhere = ("127.0.0.1", port) if first == "out of reach" else NOBODY
            let_name_have(nowhere, there, monkeypatch=monkeypatch)
            connections = Connections(f"redis://{NAME}:6379")
            async with asyncio.timeout(HANG_S):
                assert await connections.send(("PING",)) == [b"PONG"]
            await connections.close()


async def test_an_address_that_answers_late_is_still_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with await asyncio.start_server(pong, "127.0.0.1") as server:
        there = server.sockets[0].getsockname()
        let_name_have(there, NOBODY, monkeypatch=monkeypatch)
        loop, refused = asyncio.get_running_loop(), asyncio.Event()
        connect = loop.sock_connect

        async def connecting(own: socket.socket, address: Address) -> None:
            if address == NOBODY:
                refused.set()
            await refused.wait()
            await asyncio.sleep(0 if address == NOBODY else 0.05)
            await connect(own, address)

        monkeypatch.setattr(loop, "sock_connect", connecting)
        reader, writer = await asyncio.open_connection(NAME, 1)
        writer.write(b"PING")
        assert await reader.read() == b"+PONG\r\n"
        writer.close()


async def test_where_no_address_answers_the_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    let_name_have(NOBODY, NOBODY, monkeypatch=monkeypatch)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(NAME, 1)


async def test_whoever_is_not_waited_for_any_more_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket stays open: pytest would warn of it."""
    with out_of_reach() as port:
        let_name_have(*2 * [("127.0.0.1", port)], monkeypatch=monkeypatch)
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.open_connection(NAME, 1)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before


@pytest.mark.parametrize("certified", [NAME, "elsewhere.example"])
async def test_tls_is_spoken_with_the_name_and_not_with_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certified: str
) -> None:
    made = certificate(tmp_path, "own", host=x509.DNSName(certified))
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=made.trusted)
    serving.load_cert_chain(made.trusted, made.key)

    async with await asyncio.start_server(pong, "127.0.0.1", ssl=serving) as server:
        let_name_have(server.sockets[0].getsockname(), monkeypatch=monkeypatch)
        if certified != NAME:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(NAME, 1, ssl=asking)
            return
        reader, writer = await asyncio.open_connection(NAME, 1, ssl=asking)
        writer.write(b"PING")
        assert await reader.read() == b"+PONG\r\n"
        writer.close()
