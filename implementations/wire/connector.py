"""The pooled connections of the HTTP client: notes which are new, and reuses none on which something came unasked."""

import socket
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.connector import Connection

# Only the list of opened sockets, not the exchange: a connection keeps the context in which it was opened alive.
opened_sockets: ContextVar[list[None]] = ContextVar("opened_sockets")


class Connector(aiohttp.TCPConnector):
    """Connections are not limited here, since providers may share a host: the bulkheads bound the calls."""

    def __init__(self) -> None:
        super().__init__(limit=0, socket_factory=_new_socket)

    async def _get(self, key: Any, traces: Any) -> Connection | None:
        """A pooled connection that is as its last answer left it, if any.

        aiohttp takes what came since then for the answer to the next question (its issue 13656), and so would each
        later question get the answer to the one before.
        """
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


def _new_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket for a new connection, noted for the exchange that opens it."""
    opened_sockets.get().append(None)
    family, kind, protocol, _, _ = address
    return socket.socket(family, kind, protocol)
