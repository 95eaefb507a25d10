"""Detects, without traffic, whether Redis is up and whether it has recovered.

A circuit closes after several good probes in a row: a Redis that flaps every two seconds stays unused, one that has
recovered is used again within ten. The interval between probes is jittered, so that replicas do not probe together.
When the service stops, one good probe is enough: what Redis has not been told by then is lost.
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
    """reading, writing: checks that use `SharedRedis.probe`; writing is only tried if reading succeeded.

    jitter: draws a number between its two bounds; sleep: takes seconds.
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
        """Probe in a loop, forever."""
        while True:
            await self.probe()
            await self._sleep(self._jitter(SHORTEST_PAUSE_S, LONGEST_PAUSE_S))

    async def probe(self, *, enough: int = GOOD_PROBES) -> None:
        """Read, then write; close the circuits with enough good probes in a row."""
        reads = await self._went_well(Access.READ)
        writes = reads and await self._went_well(Access.WRITE)
        # Writing first, so that a full recovery is a single mode change.
        self._judge(Access.WRITE, enough, well=writes)
        self._judge(Access.READ, enough, well=reads)

    def _judge(self, access: Access, enough: int, *, well: bool) -> None:
        """Count good probes in a row, only while the circuit is open."""
        self._good[access] = self._good[access] + 1 if well and not self._redis.works(access) else 0
        if self._good[access] >= enough:
            self._redis.use_again(access)
            self._good[access] = 0  # traffic may open it again before the next probe

    async def _went_well(self, access: Access) -> bool:
        try:
            await self._checks[access]()
        except RedisAwayError:
            return False
        return True
