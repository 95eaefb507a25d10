"""The event loop of the process: uvloop's, but a name is connected to at whichever of its addresses answers first.

uvloop itself tries one address after the other, each for the two minutes that the system takes to give up. Redis and
Kafka, whose clients leave the choice to it, would never get to the second one; aiohttp chooses by itself.
"""

import asyncio
import socket
from typing import Any

import uvloop

HEAD_START_S = 0.05  # of an address over the next: Redis, new connection included, has 120 ms before it counts as slow


class EventLoop(uvloop.Loop):
    """The addresses race, in their order (RFC 8305)."""

    async def create_connection(
        self, protocol_factory: Any, host: str | None = None, port: int | None = None, **options: Any
    ) -> tuple[Any, Any]:
        """Connect. Raises the OSError of the address that failed last if all of them do."""
        if host is None:
            return await super().create_connection(protocol_factory, **options)
        addresses = await self.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if options.get("ssl") and options.get("server_hostname") is None:
            options["server_hostname"] = host
        return await super().create_connection(protocol_factory, sock=await _first_connected(addresses), **options)


async def _first_connected(addresses: list[Any]) -> socket.socket:
    """The next address is tried when one has failed, or none has answered for HEAD_START_S."""
    error: BaseException = OSError("the name has no address")
    untried, pending = [*reversed(addresses)], set[asyncio.Task[socket.socket]]()
    try:
        while untried or pending:
            if untried:
                pending.add(asyncio.create_task(_connected(*untried.pop())))
            ended, pending = await asyncio.wait(
                pending, timeout=HEAD_START_S if untried else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in ended:
                failure = attempt.exception()
                if failure is None:
                    return attempt.result()
                error = failure
        raise error
    finally:
        for attempt in pending:
            attempt.cancel()


async def _connected(family: int, kind: int, protocol: int, _: str, address: Any) -> socket.socket:
    own = socket.socket(family, kind, protocol)
    try:
        own.settimeout(0)
        await asyncio.get_running_loop().sock_connect(own, address)
    except BaseException:
        own.close()
        raise
    return own
