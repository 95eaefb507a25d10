"""The pooled connections of the HTTP client: notes which stay silent, reuses none on which something came unasked."""

from contextvars import ContextVar
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection


class Stream(ResponseHandler):
    """What comes on a connection. is_silent: nothing came since it was taken from the pool."""

    is_silent = False

    def data_received(self, data: bytes) -> None:
        """Note it and pass it on."""
        self.is_silent = False
        super().data_received(data)


# Only a list, not the exchange: a connection keeps the context in which it was opened alive.
reused_streams: ContextVar[list[Stream]] = ContextVar("reused_streams")


class Connector(aiohttp.TCPConnector):
    """Connections are not limited here, since providers may share a host: the bulkheads bound the calls."""

    def __init__(self) -> None:
        super().__init__(limit=0)
        stream: type[ResponseHandler] = Stream
        self._factory = partial(stream, loop=self._loop)

    async def _get(self, key: Any, traces: Any) -> Connection | None:
        """A pooled connection that is as its last answer left it, if any; noted for the exchange that takes it.

        aiohttp takes what came since then for the answer to the next question (its issue 13656), and so would each
        later question get the answer to the one before.
        """
        while (connection := await super()._get(key, traces)) is not None:
            stream = connection.protocol
            if isinstance(stream, Stream) and not stream.should_close:
                stream.is_silent = True
                reused_streams.get().append(stream)
                return connection
            connection.close()
        return None
