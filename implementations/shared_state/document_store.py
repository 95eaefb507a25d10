"""One text in Redis that is replaced only by whoever knows it: what an operator decided, for all replicas."""

from implementations.shared_state.faults import RedisAwayError
from implementations.shared_state.shared_redis import SharedRedis

LAST_BYTE = 128 * 1024  # what is longer is none of ours, and not read to its end
ANOTHER_TYPE = b"another type"

# KEYS: the text. ARGV: what was read, what is to stand there, the last byte that is read. What is no text gives way.
SCRIPT = """
local there = redis.pcall('GETRANGE', KEYS[1], 0, ARGV[3])
if type(there) ~= 'table' and there ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class DocumentStore:
    """key: where it stands."""

    def __init__(self, redis: SharedRedis, *, key: str) -> None:
        self._redis = redis
        self._key = key

    async def read(self) -> bytes | None:
        """The text, empty when there is none; None when Redis does not answer."""
        try:
            (reply,) = await self._redis.read(("GETRANGE", self._key, 0, LAST_BYTE))
        except RedisAwayError:
            return None
        return reply if isinstance(reply, bytes) else ANOTHER_TYPE

    async def replace(self, there: bytes, fresh: bytes) -> bool | None:
        """Whether it was done; None when Redis does not answer, which does not say that nothing was done."""
        try:
            (reply,) = await self._redis.write(("EVAL", SCRIPT, 1, self._key, there, fresh, LAST_BYTE))
        except RedisAwayError:
            return None
        return bool(reply)
