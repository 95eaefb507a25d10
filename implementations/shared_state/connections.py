"""A bounded set of connections to Redis, and one pipelined exchange of commands. No retries.

The caller (`shared_redis.py`) sets one timeout for everything: waiting for a connection, which ends a little earlier,
connecting, sending and reading. redis-py's retries, health checks and timeouts are off; its client, its pipelines and
its pool's queue are bypassed for the function calls that they cost.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, Protocol

from redis.asyncio import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

from implementations.resilience.stalls import within

CONNECTIONS = 32
TURN_S = 0.2  # with less time left for the exchange, it would be broken off, and the connection with it
CLOSE_S = 1.0
KNOWN_S = 10.0
IS_REPLICA = ReadOnlyError, MasterDownError

Command = tuple[str | bytes | int, ...]


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
    """url: validated by the settings. connections: how many at most; the last one given back is the next one used."""

    def __init__(self, url: str, *, connections: int = CONNECTIONS) -> None:
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
        self._look_up: asyncio.Task[OSError | None] | None = None
        self._known_until_s = 0.0

    async def send(self, *commands: Command, on_turn: Callable[[], object] = lambda: None) -> list[Any]:
        """Send all in one pipeline, not as a transaction. Replies are raw, without redis-py's conversions.

        Raises TimeoutError if no connection is free within TURN_S.
        """
        async with within(TURN_S) if self._free.empty() else nullcontext():
            connection = await self._free.get()
        on_turn()
        try:
            if await _is_spent(connection):
                await connection.disconnect(nowait=True)
                await self._name_is_known()
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
            replies = await _replies(connection, commands)
        except BaseException:
            await connection.disconnect(nowait=True)  # a late reply would be read as the reply to the next command
            raise
        finally:
            self._free.put_nowait(connection)
        if any(isinstance(reply, IS_REPLICA) for reply in replies):
            self.renew()  # the address may lead to another primary by now
        return replies

    def renew(self) -> None:
        """Open each connection anew before its next use."""
        for connection in self._all:
            connection.mark_for_reconnect()  # type: ignore[no-untyped-call]  # redis-py's

    async def close(self) -> None:
        """Close within a second, whatever Redis does."""
        if self._look_up is not None:
            self._look_up.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*(one.disconnect() for one in self._all), return_exceptions=True)

    async def _name_is_known(self) -> None:
        """Wait for one look-up at a time: its thread outlives our timeout, and threads are few (`app.py`).

        A name that was found is not looked up again for KNOWN_S, because redis-py looks it up itself.
        """
        address, now_s = self._pool.connection_kwargs, asyncio.get_running_loop().time()
        if "host" not in address or now_s < self._known_until_s:
            return  # the former is a Unix socket
        if self._look_up is None or self._look_up.done():
            self._look_up = asyncio.create_task(_look_up(address["host"]))
        error = await asyncio.shield(self._look_up)
        if error is not None:
            raise error
        self._known_until_s = now_s + KNOWN_S


async def _look_up(host: str) -> OSError | None:
    """What is wrong with the name; returned, because nobody may be waiting any more."""
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    return None


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
