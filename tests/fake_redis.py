"""A Redis in memory, as our stores meet it through `Connections`: it can be broken in every way and mended again."""

import asyncio
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from implementations.shared_state.connections import Command
from implementations.shared_state.entry_store import EntryStore
from implementations.shared_state.prober import Prober
from implementations.shared_state.shared_redis import SharedRedis
from implementations.shared_state.write_behind import WriteBehind
from metrics import Metrics
from tests.fakes import Calendar, Clock, InstantSleep, middle, new_metrics, sample

WRITING = {"SET", "UNLINK"}
WRONG_TYPE = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


class FakeRedis:
    """broken: raised by every exchange; refused: the reply to every write.

    takes_s: what an exchange costs; writes_take_s: what one that writes costs beside that.
    """

    def __init__(self, clock: Clock) -> None:
        self.values: dict[str, Any] = {}
        self.ttl_ms: dict[str, int] = {}
        self._set_at_s: dict[str, float] = {}
        self.sent: list[Command] = []
        self.broken: Exception | None = None
        self.refused: Exception | None = None
        self.hangs = False
        self.takes_s = 0.0
        self.writes_take_s = 0.0
        self.closed = False
        self._clock = clock

    async def send(self, *commands: Command, on_turn: Callable[[], object] = lambda: None) -> list[Any]:
        on_turn()
        self.sent.extend(commands)
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        self._clock.advance(self.takes_s)
        if any(command[0] in WRITING for command in commands):
            self._clock.advance(self.writes_take_s)
        if self.broken is not None:
            raise self.broken
        return [self._reply(command) for command in commands]

    def renew(self) -> None:
        """There are none."""

    async def close(self) -> None:
        self.closed = True

    def count(self, verb: str) -> int:
        return sum(command[0] == verb for command in self.sent)

    def key_of(self, name: str) -> str:
        return next(key for key in self.values if key.endswith(name))

    def _reply(self, command: Command) -> Any:
        verb, key, *rest = command
        if verb in WRITING and self.refused is not None:
            return self.refused
        replies: dict[str, Callable[..., Any]] = {
            "GETRANGE": self._getrange,
            "PTTL": self._pttl,
            "SET": self._set,
            "UNLINK": lambda name: int(self.values.pop(name, None) is not None),
        }
        return replies[str(verb)](key, *rest)

    def _getrange(self, key: str, first: int, last: int) -> Any:
        value = self.values.get(key, b"")
        return value[first : last + 1] if isinstance(value, bytes) else WRONG_TYPE

    def _pttl(self, key: str) -> int:
        """An entry whose time is over stays, so that a test sees that it is not given."""
        if key not in self.values:
            return -2
        if key not in self.ttl_ms:
            return -1
        return round(self.ttl_ms[key] - 1000 * (self._clock() - self._set_at_s[key]))

    def _set(self, key: str, value: Any, *options: Any) -> bytes:
        self.values[key] = value if isinstance(value, bytes) else str(value).encode()
        if options:
            self.ttl_ms[key] = options[1]
            self._set_at_s[key] = self._clock()
        return b"OK"


class Replica:
    """All that one process holds of the shared state, on a Redis that others may share."""

    def __init__(
        self, server: FakeRedis | None = None, *, clock: Clock | None = None, metrics: Metrics | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.calendar = Calendar()
        self.server = server or FakeRedis(self.clock)
        self.metrics = metrics or new_metrics()
        self.sleep = InstantSleep(self.clock)
        self.redis = SharedRedis(self.server, metrics=self.metrics, clock=self.clock)
        self.behind = WriteBehind(metrics=self.metrics)
        self.entries = EntryStore(
            self.redis,
            prefix="test",
            behind=self.behind,
            metrics=self.metrics,
            clock=self.clock,
            now_s=lambda: self.calendar().timestamp(),
        )
        self.generation = self.entries.generation
        self.prober = Prober(
            self.redis,
            reading=self.entries.probe_read,
            writing=self.entries.probe_write,
            jitter=middle,
            sleep=self.sleep,
        )

    async def written(self) -> None:
        """Wait until nothing is being written, however long a busy machine takes."""
        while sample(self.metrics, "llm_provider_cache_writes_behind"):
            await self.behind.finish()

    async def probed(self, times: int) -> None:
        for _ in range(times):
            await self.prober.probe()
