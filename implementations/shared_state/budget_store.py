"""The shared budget in Redis: one hash per period, with the totals and each replica's part of them.

Each exchange is one atomic script. A replica's field is "epoch held spent messages"; a message of another epoch has no
effect, so a command that timed out but was executed later, or was executed twice, does not count twice.
"""

from collections.abc import Sequence
from typing import Any

from implementations.shared_state.connections import Command
from implementations.shared_state.faults import Fault, RedisAwayError
from implementations.shared_state.shared_redis import SharedRedis

KEPT_S = 70 * 86_400
NO_LIMIT = -1

# ARGV: replica, epoch, "declare" or "change", TTL in seconds, ceiling; then per key: held, spent, limit.
# Reply: the answer (-1 unknown epoch, 0 done, n: the n-th key refuses), then per key what the others hold and spent,
# what this replica holds, and its messages so far. Everything is read and checked before anything is written.
SCRIPT = """
local me, epoch, declares, ceiling = ARGV[1], tonumber(ARGV[2]), ARGV[3] == 'declare', tonumber(ARGV[5])
local mine, answer = {}, 0
local function total(key, field)
  local found = tonumber(redis.call('HGET', key, field) or 0)
  return found and found % 1 == 0 and math.abs(found) < 2^53 and found
end
for i, key in ipairs(KEYS) do
  local e, h, s, n = string.match(redis.call('HGET', key, me) or '-1 0 0 0', '^(-?%d+) (-?%d+) (-?%d+) (%d+)$')
  local m = {epoch = tonumber(e), held = tonumber(h), spent = tonumber(s), messages = tonumber(n)}
  m.total, m.total_spent = total(key, 'held'), total(key, 'spent')
  if not (m.messages and m.total and m.total_spent) then return redis.error_reply('WRONGTYPE not written by us') end
  if declares and m.epoch >= epoch or not declares and m.epoch ~= epoch then return {-1} end
  mine[i] = m
end
for i, m in ipairs(mine) do
  local held, spent, limit = tonumber(ARGV[3 + 3 * i]), tonumber(ARGV[4 + 3 * i]), tonumber(ARGV[5 + 3 * i])
  if declares then held, spent = held - m.held, spent - m.spent end
  m.held, m.total = m.held + held, m.total + held
  m.spent, m.total_spent = m.spent + spent, m.total_spent + spent
  if answer == 0 and limit >= 0 and m.total + ceiling > limit then answer = i end
end
local reply, granted = {answer}, answer == 0 and ceiling or 0
for i, m in ipairs(mine) do
  m.held, m.total, m.messages = m.held + granted, m.total + granted, m.messages + 1
  redis.call('HSET', KEYS[i], 'held', string.format('%.0f', m.total), 'spent', string.format('%.0f', m.total_spent),
    me, string.format('%.0f %.0f %.0f %.0f', epoch, m.held, m.spent, m.messages))
  redis.call('EXPIRE', KEYS[i], ARGV[4])
  reply[#reply + 1] = m.total - m.held
  reply[#reply + 1] = m.total_spent - m.spent
  reply[#reply + 1] = m.held
  reply[#reply + 1] = m.messages
end
return reply
"""


class BudgetStore:
    """prefix: of every key; replica: the unique name of this process."""

    def __init__(self, redis: SharedRedis, *, prefix: str, replica: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._replica = replica

    async def exchange(
        self, verb: str, epoch: int, entries: Sequence[tuple[str, int, int, int | None]], *, ceiling: int
    ) -> list[int] | None:
        """The script's reply; None if Redis did not answer: the message may have been applied or not.

        entries: period, held, spent, limit; in micro-dollars.
        """
        keys = [f"{self._prefix}:budget:{period}" for period, *_ in entries]
        figures = [
            figure
            for _, held, spent, limit in entries
            for figure in (held, spent, NO_LIMIT if limit is None else limit)
        ]
        command: Command = ("EVAL", SCRIPT, len(keys), *keys, self._replica, epoch, verb, KEPT_S, ceiling, *figures)
        try:
            return _numbers(await self._send(command))
        except RedisAwayError:
            return None

    async def _send(self, command: Command) -> Any:
        """Try again if the pool is exhausted: nothing was sent, and waiting is better than deciding locally."""
        try:
            return (await self._redis.write(command))[0]
        except RedisAwayError as away:
            if away.fault is not Fault.POOL:
                raise
        return (await self._redis.write(command))[0]


def _numbers(reply: Any) -> list[int] | None:
    """The reply, or None if it is not one of ours (a key of another type)."""
    if not isinstance(reply, list) or not all(isinstance(one, int) for one in reply):
        return None
    return reply
