"""The way to Redis: a bounded pool of connections and one exchange of commands. No retries, no bounds in time.

Whoever sends sets the time limit (`shared_redis.py`), once and for everything: waiting for a connection, opening it,
asking and reading. Everything that redis-py would do by itself is switched off.
"""

import asyncio
from typing import Any, Protocol

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

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
        pool = BlockingConnectionPool.from_url(
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
        self._redis = Redis.from_pool(pool)

    async def send(self, *commands: Command) -> list[Any]:
        """All of them in one exchange, not as a transaction."""
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def close(self) -> None:
        """Within a second, whatever the other side does."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._redis.aclose()
        except (TimeoutError, OSError):
            return
