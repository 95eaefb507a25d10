"""Finds out, without any traffic, whether Redis is there and whether it has come back.

A circuit closes after several good probes in a row: a Redis that comes and goes every two seconds stays away, one that
came back to stay is used again within ten. The time between two probes is drawn, so that replicas do not ask together.
"""

from collections.abc import Awaitable, Callable

from implementations.shared_state.faults import RedisAwayError
from implementations.shared_state.shared_redis import Access, SharedRedis
from protocols import SleepProtocol

GOOD_PROBES = 4
SHORTEST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 1.6

Check = Callable[[], Awaitable[None]]


class Prober:
    """reading, writing: ask Redis by `SharedRedis.probe`; writing is only tried when reading went well.

    jitter: a number between its two bounds; sleep: waits so many seconds.
    """

    def __init__(
        self,
        redis: SharedRedis,
        *,
        reading: Check,
        writing: Check,
        jitter: Callable[[float, float], float],
        sleep: SleepProtocol,
    ) -> None:
        self._redis = redis
        self._checks = {Access.READ: reading, Access.WRITE: writing}
        self._jitter = jitter
        self._sleep = sleep
        self._good = dict.fromkeys(Access, 0)

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            await self.probe()
            await self._sleep(self._jitter(SHORTEST_PAUSE_S, LONGEST_PAUSE_S))

    async def probe(self) -> None:
        """Read, then write; close the circuits whose probes went well often enough."""
        reads = await self._went_well(Access.READ)
        writes = reads and await self._went_well(Access.WRITE)
        # Writing first, so that coming back whole is one change of mode.
        self._judge(Access.WRITE, well=writes)
        self._judge(Access.READ, well=reads)

    def _judge(self, access: Access, *, well: bool) -> None:
        """Only probes of a circuit that is open count."""
        self._good[access] = self._good[access] + 1 if well and not self._redis.works(access) else 0
        if self._good[access] >= GOOD_PROBES:
            self._redis.reopen(access)

    async def _went_well(self, access: Access) -> bool:
        try:
            await self._checks[access]()
        except RedisAwayError:
            return False
        return True
