"""A bounded set of connections to Redis, and one pipelined exchange of commands. No retries.

The caller (`shared_redis.py`) sets one timeout for everything: waiting for a connection, which ends a little earlier,
connecting, sending and reading. redis-py's retries, health checks and timeouts are off; its client, its pipelines and
its pool's queue are bypassed for the function calls that they cost.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Any, Protocol

from redis.asyncio import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, MovedError, ReadOnlyError, RedisError, ResponseError

from implementations.resilience.stalls import within

CONNECTIONS = 32
TURN_S = 0.2  # with less time left for the exchange, it would be broken off, and the connection with it
CLOSE_S = 1.0
KNOWN_S = 10.0  # a name
FOLLOWED_S = 2.0  # a primary
IS_ELSEWHERE = ReadOnlyError, MasterDownError, MovedError

Command = tuple[str | bytes | int, ...]
Address = tuple[str, int]


class ConnectionsProtocol(Protocol):
    """Exchanges commands for replies."""

    async def send(self, *commands: Command, on_turn: Callable[[], object] = lambda: None) -> list[Any]:
        """The reply to each command, in order; a reply may be an exception. Raises connection errors.

        on_turn: called when a connection is free for them.
        """
        ...

    def renew(self) -> None:
        """Use no connection again that is open now."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Connections:
    """url: validated by the settings. connections: how many at most; the last one given back is the next one used.

    find: tells host and port where the URL does not; asked again every FOLLOWED_S, and when a server says that the
    primary, or the keys, are elsewhere.
    """

    def __init__(
        self, url: str, *, find: Callable[[], Awaitable[Address]] | None = None, connections: int = CONNECTIONS
    ) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            decode_responses=False,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            health_check_interval=0,
            socket_timeout=None,
            socket_connect_timeout=None,
            protocol=2,
            driver_info=None,
            **({} if url.startswith("unix:") else {"socket_keepalive": True}),
        )
        made = [self._pool.make_connection() for _ in range(connections)]  # type: ignore[no-untyped-call]  # redis-py's
        self._all: list[Connection] = made
        for connection in self._all:
            if isinstance(connection, SSLConnection):  # reading the authorities stops the event loop for 50 ms
                connection.ssl_context = made[0].ssl_context
        self._free = asyncio.LifoQueue[Connection]()
        for connection in self._all:
            self._free.put_nowait(connection)
        self._find = find
        self._looking: asyncio.Task[Exception | None] | None = None
        self._known_until_s = 0.0

    async def send(self, *commands: Command, on_turn: Callable[[], object] = lambda: None) -> list[Any]:
        """Send all in one pipeline, not as a transaction. Replies are raw, without redis-py's conversions.

        Raises TimeoutError if no connection is free within TURN_S.
        """
        async with within(TURN_S) if self._free.empty() else nullcontext():
            connection = await self._free.get()
        on_turn()
        try:
            if self._find is not None:
                self._look_up()  # in the background: what it finds renews the connections
            if await _is_spent(connection):
                await self._address_is_known()
                await connection.disconnect(nowait=True)
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
            replies = await _replies(connection, commands)
        except BaseException:
            await connection.disconnect(nowait=True)  # a late reply would be read as the reply to the next command
            raise
        finally:
            self._free.put_nowait(connection)
        if any(isinstance(reply, IS_ELSEWHERE) for reply in replies):
            self.renew()  # the address may lead to another primary by now
        return replies

    def renew(self) -> None:
        """Open each connection anew before its next use."""
        self._known_until_s = 0.0
        for connection in self._all:
            connection.mark_for_reconnect()  # type: ignore[no-untyped-call]  # redis-py's

    async def close(self) -> None:
        """Close within a second, whatever Redis does."""
        if self._looking is not None:
            self._looking.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*(one.disconnect() for one in self._all), return_exceptions=True)

    async def _address_is_known(self) -> None:
        """Raises what is wrong with it."""
        looking = self._look_up()
        error = None if looking is None else await asyncio.shield(looking)
        if error is not None:
            raise error

    def _look_up(self) -> asyncio.Task[Exception | None] | None:
        """The look-up under way, one at a time: its thread outlives our timeout, and threads are few (`app.py`).

        None while the address is known, or leads to a Unix socket.
        """
        if asyncio.get_running_loop().time() < self._known_until_s or "host" not in self._pool.connection_kwargs:
            return None
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._looked_up())
        return self._looking

    async def _looked_up(self) -> Exception | None:
        """What is wrong with the address; returned, because nobody may be waiting any more."""
        loop, address = asyncio.get_running_loop(), self._pool.connection_kwargs
        try:
            if self._find is not None:
                self._lead_to(*await self._find())
            await loop.getaddrinfo(address["host"], None, type=socket.SOCK_STREAM)
        except (RedisError, OSError) as error:
            return error
        # redis-py itself looks the name up for each connection.
        self._known_until_s = loop.time() + (KNOWN_S if self._find is None else FOLLOWED_S)
        return None

    def _lead_to(self, host: str, port: int) -> None:
        """Use no connection again that leads to another address."""
        address = self._pool.connection_kwargs
        if (address["host"], address.get("port")) == (host, port):
            return
        address.update(host=host, port=port)
        self.renew()
        for connection in self._all:
            connection.host, connection.port = host, port


async def _is_spent(connection: Connection) -> bool:
    """Whether it must be opened (anew): it is outdated, was closed or reset while idle, or has an unread reply.

    redis-py's own check knows nothing of a reset, and looks the name up for each connection that was closed.
    """
    writer = connection._writer  # noqa: SLF001  it has no public name
    if connection.should_reconnect() or writer is None or writer.is_closing():  # type: ignore[no-untyped-call]  # its
        return True
    return await connection.can_read()


async def _replies(connection: Connection, commands: tuple[Command, ...]) -> list[Any]:
    """Send, then read. What was not sent is dropped: redis-py closes, which waits until a Redis that hangs has read."""
    writer = connection._writer  # noqa: SLF001  it has no public name
    try:
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        return [await _reply(connection) for _ in commands]
    except BaseException:
        if writer is not None:
            writer.transport.abort()
        raise


async def _reply(connection: Connection) -> Any:
    """One reply; an error reply is returned, not raised."""
    try:
        return await connection.read_response()
    except ResponseError as refusal:
        return refusal
