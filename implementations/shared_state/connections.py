"""A bounded connection pool to Redis, and one pipelined exchange of commands. No retries, no timeouts of its own.

The caller (`shared_redis.py`) sets one timeout for everything: waiting for a connection, connecting, sending and
reading. redis-py's retries, health checks and timeouts are off; its client and pipelines, a quarter of the function
calls of an exchange, are bypassed.
"""

import asyncio
from typing import Any, Protocol

from redis.asyncio import BlockingConnectionPool, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

CONNECTIONS = 32
POOL_WAIT_S = 0.05
CLOSE_S = 1.0

Command = tuple[str | bytes | int, ...]


class ConnectionsProtocol(Protocol):
    """Exchanges commands for replies."""

    async def send(self, *commands: Command) -> list[Any]:
        """The reply to each command, in order; a reply may be an exception. Raises connection errors."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Connections:
    """url: validated by the settings. connections: the size of the pool."""

    def __init__(self, url: str, *, connections: int = CONNECTIONS) -> None:
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=POOL_WAIT_S,
            decode_responses=False,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            health_check_interval=0,
            socket_timeout=None,
            socket_connect_timeout=None,
            socket_keepalive=None if url.startswith("unix:") else True,
            protocol=2,
            driver_info=None,
        )

    async def send(self, *commands: Command) -> list[Any]:
        """Send all in one pipeline, not as a transaction. Replies are raw, without redis-py's conversions."""
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py does not annotate it
        try:
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            return [await _reply(connection) for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)  # a late reply would be read as the reply to the next command
            raise
        finally:
            await self._pool.release(connection)

    async def close(self) -> None:
        """Close within a second, whatever Redis does."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._pool.aclose()
        except (TimeoutError, OSError):
            return


async def _reply(connection: Connection) -> Any:
    """One reply; an error reply is returned, not raised."""
    try:
        return await connection.read_response()
    except ResponseError as refusal:
        return refusal
