"""Entries shared by all replicas, by name, and the generation that invalidates all of them at once.

Reads raise RedisAwayError and are bounded by the caller's timeout; writes happen in the background and never raise.
Every read also fetches the generation, so no replica returns an entry that another one has cleared.
"""

from collections.abc import Callable
from contextlib import suppress

from implementations.resilience.call import REDIS_TIMEOUT_S
from implementations.shared_state.connections import Command
from implementations.shared_state.envelope import MAX_ENTRY_BYTES, SCHEMA, Flaw, FlawedEntryError, seal, unseal
from implementations.shared_state.faults import Fault, RedisAwayError
from implementations.shared_state.generation import Generation
from implementations.shared_state.shared_redis import Access, RedisMode, SharedRedis
from implementations.shared_state.write_behind import WriteBehind
from metrics import REDIS, Metrics
from protocols import ClockProtocol
from value_object import value_object

LONGEST_NUMBER = 18
PROBE_TTL_MS = 10_000
SLACK_S = 1.0  # by which an entry may have more left than it was given: its TTL is rounded, a clock adjusted


@value_object
class StoredEntry:
    """A payload from Redis, with its age and remaining TTL in seconds."""

    payload: bytes
    age_s: float
    left_s: float


class EntryStore:
    """prefix: of every key. clock: monotonic seconds; now_s: Unix seconds, for creation times and generations."""

    def __init__(
        self,
        redis: SharedRedis,
        *,
        prefix: str,
        behind: WriteBehind,
        metrics: Metrics,
        clock: ClockProtocol,
        now_s: Callable[[], float],
    ) -> None:
        self.redis = redis
        self._prefix = prefix
        self._generation_key = f"{prefix}:generation"
        self._ask_generation: Command = ("GETRANGE", self._generation_key, 0, LONGEST_NUMBER)
        self.generation = Generation()
        self._behind = behind
        self._metrics = metrics
        self._clock = clock
        self._now_s = now_s
        self._clear_pending = False
        self._is_behind = False  # Redis, as last read
        for flaw in Flaw:  # rates need a first zero
            metrics.cache_corrupt.of(flaw)

    async def get(self, name: str, *, timeout_s: float = REDIS_TIMEOUT_S) -> StoredEntry | None:
        """The entry, or None if Redis has no usable one. Raises RedisAwayError within timeout_s."""
        give_up_at_s = self._clock() + timeout_s
        while True:
            if self._clear_pending:
                raise RedisAwayError(Fault.AWAY)  # cleared here, but Redis has not been told yet
            asked, key = self.generation.number, self._key(name)
            number, found, left_ms = await self.redis.read(
                self._ask_generation,
                ("GETRANGE", key, 0, MAX_ENTRY_BYTES),
                ("PTTL", key),
                timeout_s=give_up_at_s - self._clock(),
            )
            self._learn(number)
            if self.generation.number == asked:
                return self._opened(name, key, found, left_ms / 1000)

    def put(self, name: str, payload: bytes, *, ttl_s: float, age_s: float = 0.0) -> None:
        """Store the payload for ttl_s seconds from now, in the background; age_s: its age so far."""
        if self._clear_pending or self.redis.mode is not RedisMode.UP:
            self._count_store("skipped")
            return
        sealed = seal(name, payload, created_s=self._now_s() - age_s, ttl_s=age_s + ttl_s)
        if len(sealed) > MAX_ENTRY_BYTES:
            self._count_store("oversized")
        elif not self._behind.start(self._set(self._key(name), sealed, max(1, round(ttl_s * 1000)))):
            self._count_store("dropped")

    async def clear(self) -> bool:
        """Invalidate every entry. False if Redis could not be told: that is retried, and Redis not read until then.

        The number is the time in milliseconds, so that it exceeds those of earlier clearings of which neither this
        replica nor a Redis that lost its data knows.
        """
        self.generation.advance_to(max(self.generation.number + 1, round(1000 * self._now_s())))
        self._clear_pending = True
        with suppress(RedisAwayError):
            await self.probe_read()
        try:
            await self._tell()
        except RedisAwayError:
            return False
        return True

    async def probe_read(self) -> None:
        """The prober's read, of both commands that a look-up needs: learn the generation."""
        number, _ = await self.redis.probe(Access.READ, self._ask_generation, ("PTTL", self._generation_key))
        self._learn(number)

    async def probe_write(self) -> None:
        """The prober's write: the generation, if Redis has a lower one, and a key that expires by itself."""
        if self._clear_pending or self._is_behind:
            await self._tell()
        await self.redis.probe(Access.WRITE, ("SET", f"{self._prefix}:probe", "1", "PX", PROBE_TTL_MS))

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{SCHEMA}:{self.generation.number}:{name}"

    def _learn(self, reply: object) -> None:
        """Adopt a higher generation. A lower one means that Redis lost it: write it back.

        A higher one that is met while a clear is pending does not cover that clear: it gets one above.
        """
        number = int(reply) if isinstance(reply, bytes) and reply.isdigit() and len(reply) <= LONGEST_NUMBER else 0
        self._is_behind = number < self.generation.number
        if self._is_behind and not self._clear_pending:
            self._behind.start(self._quietly(("SET", self._generation_key, self.generation.number)))
        if number > self.generation.number:
            self.generation.advance_to(number + 1 if self._clear_pending else number)

    async def _tell(self) -> None:
        """Set the number, which is not below the one just read. It may be set again if the answer was lost."""
        await self.redis.probe(Access.WRITE, ("SET", self._generation_key, self.generation.number))
        self._clear_pending = False

    def _opened(self, name: str, key: str, found: object, left_s: float) -> StoredEntry | None:
        """The entry, with its age taken from Redis' TTL: the replicas' clocks differ, and jump.

        None if more is left than it was given: Redis' own clock was set back, and might keep it for years.
        """
        if found == b"":
            return None
        try:
            payload, ttl_s = unseal(name, found)
        except FlawedEntryError as flawed:
            self._metrics.cache_corrupt.of(flawed.flaw).inc()
            self._behind.start(self._quietly(("UNLINK", key)))
            return None
        if not 0 < left_s <= ttl_s + SLACK_S:
            return None
        return StoredEntry(payload=payload, age_s=max(0.0, ttl_s - left_s), left_s=left_s)

    async def _set(self, key: str, sealed: bytes, ttl_ms: int) -> None:
        done = await self._quietly(("SET", key, sealed, "PX", ttl_ms))
        self._count_store("stored" if done else "failed")

    async def _quietly(self, command: Command) -> bool:
        """Whether it succeeded; SharedRedis has counted a failure."""
        try:
            await self.redis.write(command)
        except RedisAwayError:
            return False
        return True

    def _count_store(self, result: str) -> None:
        self._metrics.cache_stores.of(REDIS, result).inc()
