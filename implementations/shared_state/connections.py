"""The way to Redis: a bounded pool of connections and one exchange of commands. No retries, no bounds in time.

Whoever sends sets the time limit (`shared_redis.py`), once and for everything: waiting for a connection, opening it,
asking and reading. Everything that redis-py would do by itself is switched off; its client and its pipelines, a quarter
of the calls of an exchange, are left out.
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
        """The reply to each command, in order; a reply may be an exception. Raises what the connection meets."""
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...


class Connections:
    """url has been checked by the settings. connections: how many at most."""

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
        """All of them in one exchange, not as a transaction. Replies are as they came, none is given another form."""
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py left that one out
        try:
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            return [await _reply(connection) for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)  # what comes now would be taken for the reply to the next one
            raise
        finally:
            await self._pool.release(connection)

    async def close(self) -> None:
        """Within a second, whatever the other side does."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._pool.aclose()
        except (TimeoutError, OSError):
            return


async def _reply(connection: Connection) -> Any:
    """A refusal is a reply, too."""
    try:
        return await connection.read_response()
    except ResponseError as refusal:
        return refusal
