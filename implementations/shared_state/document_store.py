"""One text in Redis with compare-and-set: the operator's decisions, for all replicas."""

from implementations.shared_state.faults import RedisAwayError
from implementations.shared_state.shared_redis import SharedRedis

LAST_BYTE = 128 * 1024  # a longer text is not ours, and is not read to the end
ANOTHER_TYPE = b"another type"

# KEYS: the text. ARGV: the text that was read, the new text, the last byte to read. Another type is replaced.
SCRIPT = """
local there = redis.pcall('GETRANGE', KEYS[1], 0, ARGV[3])
if type(there) ~= 'table' and there ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class DocumentStore:
    """key: of the text."""

    def __init__(self, redis: SharedRedis, *, key: str) -> None:
        self._redis = redis
        self._key = key

    async def read(self) -> bytes | None:
        """The text, empty if there is none; None if Redis does not answer."""
        try:
            (reply,) = await self._redis.read(("GETRANGE", self._key, 0, LAST_BYTE))
        except RedisAwayError:
            return None
        return reply if isinstance(reply, bytes) else ANOTHER_TYPE

    async def replace(self, there: bytes, fresh: bytes) -> bool | None:
        """Whether it was replaced; None if Redis does not answer: it may have been replaced or not."""
        try:
            (reply,) = await self._redis.write(("EVAL", SCRIPT, 1, self._key, there, fresh, LAST_BYTE))
        except RedisAwayError:
            return None
        return bool(reply)
