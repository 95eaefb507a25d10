"""The usage of all replicas in Redis: one hash per day, a field for each row of each replica; and set-once marks."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from implementations.shared_state.connections import Command
from implementations.shared_state.faults import RedisAwayError
from implementations.shared_state.shared_redis import RedisMode, SharedRedis

KEPT_S = 70 * 86_400


class UsageStore:
    """prefix: of every key; replica: the unique name of this process."""

    def __init__(self, redis: SharedRedis, *, prefix: str, replica: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._replica = replica

    async def put(self, days: Mapping[str, Mapping[str, bytes]]) -> int | None:
        """Write this replica's texts, by day and name. Returns how many were new; None: no answer."""
        commands: list[Command] = []
        for day, texts in days.items():
            fields = (part for name, text in texts.items() for part in (f"{self._replica}|{name}", text))
            commands += [("HSET", self._key(day), *fields), ("EXPIRE", self._key(day), KEPT_S)]
        try:
            added = (await self._redis.write(*commands))[::2]
        except RedisAwayError:
            return None
        return sum(added) if all(isinstance(count, int) for count in added) else None

    async def days(self, days: Sequence[str]) -> Sequence[Iterator[tuple[str, bytes]]] | None:
        """Name and text of all replicas' rows, for each of these days, to be read once; None: no answer."""
        try:
            replies = await self._redis.read(*(("HGETALL", self._key(day)) for day in days), time_counts=False)
        except RedisAwayError:
            return None
        return [_texts(reply) for reply in replies]

    async def mark(self, name: str) -> bool | None:
        """Set a mark; whether it was not set before. None if Redis does not answer."""
        try:
            (reply,) = await self._redis.write(("SET", self._mark_key(name), "1", "NX", "EX", KEPT_S))
        except RedisAwayError:
            return None
        return bool(reply)

    async def unmark(self, names: Collection[str]) -> bool:
        """Remove these marks; False if Redis does not answer."""
        if not names:
            return self._redis.mode is RedisMode.UP
        try:
            await self._redis.write(("UNLINK", *map(self._mark_key, names)))
        except RedisAwayError:
            return False
        return True

    def _mark_key(self, name: str) -> str:
        return f"{self._prefix}:mark:{name}"

    def _key(self, day: str) -> str:
        return f"{self._prefix}:usage:{day}"


def _texts(reply: object) -> Iterator[tuple[str, bytes]]:
    """Alternating fields and values, without the replicas' names; empty for an exception (a key of another type)."""
    if isinstance(reply, list):
        for field, text in zip(reply[::2], reply[1::2], strict=True):
            yield str(field, errors="replace").partition("|")[2], text
