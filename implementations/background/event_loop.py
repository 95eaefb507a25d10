"""The event loop of the process: uvloop's, but of a name's addresses it connects to whichever answers first.

uvloop itself tries one address after the other, each for the two minutes that the system takes to give up. Redis and
Kafka, whose clients leave the choice to it, would never get to the second one; aiohttp chooses by itself.
"""

import socket
from typing import Any

import uvloop
from aiohappyeyeballs import start_connection

HEAD_START_S = 0.05  # of an address over the next: Redis, new connection included, has 120 ms before it counts as slow


class EventLoop(uvloop.Loop):
    """The addresses race, in their order (RFC 8305)."""

    async def create_connection(
        self, protocol_factory: Any, host: str | None = None, port: int | None = None, **options: Any
    ) -> tuple[Any, Any]:
        """Connect. Raises OSError if no address can be connected to."""
        if host is None:
            return await super().create_connection(protocol_factory, **options)
        addresses = await self.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if options.get("ssl") and options.get("server_hostname") is None:
            options["server_hostname"] = host
        sock = await start_connection(addresses, happy_eyeballs_delay=HEAD_START_S)
        return await super().create_connection(protocol_factory, sock=sock, **options)
