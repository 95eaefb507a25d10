"""The usage of all replicas in Redis: one hash of counters per day; and set-once marks.

Batches are numbered. The script stores the number of each replica's last batch, so a batch that is sent again because
its reply was lost counts once.
"""

from collections.abc import Collection, Mapping, Sequence

from implementations.shared_state.faults import RedisAwayError
from implementations.shared_state.shared_redis import RedisMode, SharedRedis

KEPT_S = 70 * 86_400

# KEYS: this replica's marker, then the days. ARGV: number, TTL in seconds; then triples: key index, field, difference.
SCRIPT = """
if tonumber(redis.call('GET', KEYS[1]) or '0') >= tonumber(ARGV[1]) then return 0 end
for i = 3, #ARGV, 3 do redis.call('HINCRBY', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]) end
for i = 1, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""


class UsageStore:
    """prefix: of every key; replica: the unique name of this process."""

    def __init__(self, redis: SharedRedis, *, prefix: str, replica: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._marker = f"{prefix}:usage:sent:{replica}"

    async def add(self, number: int, days: Mapping[str, Mapping[str, int]]) -> bool:
        """Add the differences, by day and field, unless this batch was counted already. False: no answer."""
        keys = [self._marker, *map(self._key, days)]
        changes = [
            part
            for index, fields in enumerate(days.values(), start=2)
            for field, difference in fields.items()
            for part in (index, field, difference)
        ]
        try:
            (reply,) = await self._redis.write(("EVAL", SCRIPT, len(keys), *keys, number, KEPT_S, *changes))
        except RedisAwayError:
            return False
        return isinstance(reply, int)

    async def days(self, days: Sequence[str]) -> list[dict[str, int]] | None:
        """The counters of these days; None if Redis does not answer."""
        try:
            replies = await self._redis.read_report(*(("HGETALL", self._key(day)) for day in days))
        except RedisAwayError:
            return None
        return [_counters(reply) for reply in replies]

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


def _counters(reply: object) -> dict[str, int]:
    """Alternating fields and values as a dict; empty for an exception (a key of another type)."""
    if not isinstance(reply, list):
        return {}
    pairs = zip(reply[::2], reply[1::2], strict=True)
    return {str(field, errors="replace"): int(value) for field, value in pairs if value.lstrip(b"-").isdigit()}
