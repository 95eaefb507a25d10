"""The cache manager over its two tiers: who answers, how old the answer is, and what it is when Redis is away."""

import asyncio
from typing import Any

import pytest
from redis import exceptions

from api_models import CacheClearedResponse, CacheMode, CacheTierReport, DegradedMode, DependencyStatus
from implementations.cache_manager_impl import CacheManagerImpl
from implementations.resilience.call import calling
from protocols import CachedReply, CacheHealth
from tests.fake_redis import FakeRedis, Replica
from tests.fakes import NOON, Clock, call, local_cache, middle, reply, sample

pytestmark = pytest.mark.usefixtures("redis_timeout_s")

OTHER = reply(model="another model")
CLEARED_AT_NOON = round(1000 * NOON.timestamp())


class CachingReplica(Replica):
    """A replica with its cache manager."""

    def __init__(self, server: FakeRedis | None = None, *, clock: Clock | None = None, **changes: Any) -> None:
        super().__init__(server, clock=clock)
        self.local = local_cache(self.clock)
        self.cache = CacheManagerImpl(
            **{
                "local": self.local,
                "shared": self.entries,
                "local_ttl_s": 300.0,
                "near_ttl_s": 2.0,
                "is_alone": True,
                "metrics": self.metrics,
                "jitter": middle,
                **changes,
            }
        )

    async def kept(self, answer: Any = None) -> None:
        self.cache.put("key", answer or reply(), ttl_s=3600.0)
        await self.written()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.calendar.move(seconds=seconds)

    @property
    def reads(self) -> int:
        return sum(command[0] == "GETRANGE" and str(command[1]).endswith("key") for command in self.server.sent)

    def is_in(self, mode: DegradedMode) -> float | None:
        return sample(self.metrics, "llm_provider_degraded_mode", mode=mode)

    def looked_up(self, tier: str, result: str) -> float | None:
        return sample(self.metrics, "llm_provider_cache_tier_lookups_total", tier=tier, result=result)


def pair() -> tuple[CachingReplica, CachingReplica]:
    clock = Clock()
    server = FakeRedis(clock)
    here, there = CachingReplica(server, clock=clock), CachingReplica(server, clock=clock)
    there.calendar = here.calendar
    return here, there


async def test_what_one_replica_bought_another_one_knows_with_its_true_age() -> None:
    here, there = pair()
    await here.kept()
    there.clock.advance(1000)

    assert await there.cache.get("key") == CachedReply(reply=reply(), age_s=1000.0)
    there.clock.advance(1)
    assert await there.cache.get("key") == CachedReply(reply=reply(), age_s=1001.0)


async def test_a_near_answer_is_given_without_asking_redis() -> None:
    replica = CachingReplica()
    await replica.kept()
    replica.pass_time(1.9)
    assert await replica.cache.get("key") is not None
    assert replica.reads == 0
    replica.pass_time(0.1)
    assert await replica.cache.get("key") is not None
    assert replica.reads == 1
    replica.pass_time(1.9)
    assert await replica.cache.get("key") is not None

    assert replica.reads == 1
    assert (replica.looked_up("local", "hit"), replica.looked_up("redis", "hit")) == (2.0, 1.0)


async def test_without_a_near_time_redis_is_always_asked() -> None:
    replica = CachingReplica(near_ttl_s=0.0)
    await replica.kept()
    await replica.cache.get("key")

    assert replica.reads == 1


async def test_a_newer_answer_of_another_replica_replaces_the_local_one() -> None:
    here, there = pair()
    await here.kept()
    await there.kept(OTHER)
    here.pass_time(2.0)
    found = await here.cache.get("key")

    assert found is not None
    assert found.reply == OTHER


async def test_an_older_answer_in_redis_does_not_replace_the_local_one_but_is_replaced_by_it() -> None:
    here, there = pair()
    await here.kept()
    here.pass_time(100.0)
    here.server.refused = exceptions.ReadOnlyError("")
    await here.kept(OTHER)
    here.pass_time(2.0)
    assert await here.cache.get("key") == CachedReply(reply=OTHER, age_s=2.0)
    here.server.refused = None
    await here.probed(4)
    assert await here.cache.get("key") == CachedReply(reply=OTHER, age_s=2.0)
    await here.written()

    assert await there.cache.get("key") == CachedReply(reply=OTHER, age_s=2.0)


async def test_a_purchase_that_is_older_in_redis_than_its_local_copy_is_no_earlier_one() -> None:
    replica = CachingReplica()
    await replica.kept()
    replica.pass_time(2.0)
    for key in replica.server.ttl_ms:
        replica.server.ttl_ms[key] -= 5000
    assert await replica.cache.get("key") == CachedReply(reply=reply(), age_s=7.0)


async def test_a_look_up_does_not_replace_what_is_bought_during_it() -> None:
    replica = CachingReplica()
    await replica.kept()
    replica.pass_time(100.0)
    await asyncio.gather(replica.cache.get("key"), replica.kept(OTHER))

    assert await replica.cache.get("key") == CachedReply(reply=OTHER, age_s=0.0)


async def test_an_answer_from_redis_is_kept_here_no_longer_than_it_has_left() -> None:
    here, there = pair()
    await here.kept()
    there.clock.advance(3599)
    assert await there.cache.get("key") is not None
    there.clock.advance(0.9)
    assert await there.cache.get("key") is not None
    there.clock.advance(0.2)

    assert await there.cache.get("key") is None


async def test_the_local_tier_answers_alone_while_redis_is_away() -> None:
    replica = CachingReplica()
    await replica.kept()
    replica.server.broken = ConnectionRefusedError()
    for _ in range(20):
        replica.pass_time(10.0)
        assert await replica.cache.get("key") is not None
    assert await replica.cache.get("another key") is None

    assert replica.reads == 3
    assert replica.cache.health() == CacheHealth(
        mode=CacheMode.DEGRADED,
        redis=DependencyStatus.UNHEALTHY,
        redis_failure_count=3,
        degraded_mode=DegradedMode.CACHE_LOCAL_ONLY,
        cause="connection",
    )
    assert replica.is_in(DegradedMode.CACHE_LOCAL_ONLY) == 1.0
    replica.server.broken = None
    await replica.probed(4)
    assert replica.is_in(DegradedMode.CACHE_LOCAL_ONLY) == 0.0
    assert replica.cache.health() == CacheHealth(
        mode=CacheMode.HEALTHY, redis=DependencyStatus.HEALTHY, redis_failure_count=3
    )


async def test_a_redis_that_can_only_be_read_goes_on_giving_answers() -> None:
    here, there = pair()
    await here.kept()
    here.server.refused = exceptions.ReadOnlyError("")
    await there.kept(OTHER)

    assert there.cache.health() == CacheHealth(
        mode=CacheMode.READ_ONLY,
        redis=DependencyStatus.HEALTHY,
        redis_failure_count=1,
        degraded_mode=DegradedMode.CACHE_READ_ONLY,
        cause="read_only",
    )
    assert there.is_in(DegradedMode.CACHE_READ_ONLY) == 1.0
    there.pass_time(2.0)
    found = await there.cache.get("key")
    assert found is not None
    assert there.looked_up("redis", "hit") == 1.0


async def test_a_redis_that_lost_its_data_gets_back_what_is_asked_for() -> None:
    here, there = pair()
    await here.kept()
    here.server.values.clear()
    here.pass_time(2.0)
    assert await here.cache.get("key") == CachedReply(reply=reply(), age_s=2.0)
    await here.written()

    assert await there.cache.get("key") == CachedReply(reply=reply(), age_s=2.0)


async def test_a_payload_that_is_no_reply_is_a_miss() -> None:
    replica = CachingReplica()
    replica.entries.put("key", b'{"winner": "Essay C"}', ttl_s=60)
    await replica.written()

    assert await replica.cache.get("key") is None


async def test_the_time_to_live_is_drawn_within_a_tenth() -> None:
    bounds: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        bounds.append((low, high))
        return high

    replica = CachingReplica(jitter=draw)
    await replica.kept()

    assert bounds == [(0.9, 1.1)]
    assert replica.server.ttl_ms[replica.server.key_of("key")] == 3_960_000


async def test_the_local_tier_keeps_an_answer_for_its_own_time_and_no_longer_than_was_drawn() -> None:
    def draw(low: float, high: float) -> float:
        return high

    brief = CachingReplica(shared=None)
    lasting = CachingReplica(shared=None, local_ttl_s=10_000.0, jitter=draw)
    for replica, last_s in ((brief, 300.0), (lasting, 3960.0)):
        await replica.kept()
        replica.pass_time(last_s - 0.5)
        assert await replica.cache.get("key") is not None
        replica.pass_time(1.0)
        assert await replica.cache.get("key") is None


async def test_the_candidates_of_one_request_share_their_patience_with_redis(redis_timeout_s: float) -> None:
    replica = CachingReplica()
    await replica.kept()
    replica.pass_time(2.0)
    with calling(call(replica.clock)) as running:
        running.record.redis_s = redis_timeout_s
        assert await replica.cache.get("key") is not None

    assert replica.reads == 0
    assert replica.looked_up("redis", "unavailable") == 1.0


async def test_redis_gets_no_more_time_than_the_request_has() -> None:
    replica = CachingReplica()
    await replica.kept()
    replica.pass_time(2.0)
    with calling(call(replica.clock, remaining_s=0.0)):
        assert await replica.cache.get("key") is not None

    assert replica.reads == 0


async def test_clearing_empties_both_tiers_of_all_replicas() -> None:
    here, there = pair()
    await here.kept()
    await there.cache.get("key")
    assert await here.cache.clear() == CacheClearedResponse(cleared=True, generation=CLEARED_AT_NOON, everywhere=True)
    assert (len(here.local), await here.cache.get("key")) == (0, None)
    assert await there.cache.get("key") is not None
    there.pass_time(2.0)

    assert await there.cache.get("key") is None
    assert len(there.local) == 0
    of_several = CachingReplica(is_alone=False)
    assert await of_several.cache.clear() == CacheClearedResponse(
        cleared=True, generation=CLEARED_AT_NOON, everywhere=True
    )


@pytest.mark.parametrize("outage", [None, ConnectionRefusedError()], ids=["is back", "is down"])
async def test_a_replica_that_knows_of_no_clearing_clears_all_others_after_redis_lost_its_data(
    outage: Exception | None,
) -> None:
    here, there = pair()
    await there.cache.clear()
    await there.kept()
    here.server.values.clear()
    here.server.broken = outage
    here.pass_time(60.0)
    cleared = await here.cache.clear()
    here.server.broken = None
    await here.probed(1)

    assert cleared == CacheClearedResponse(cleared=True, generation=CLEARED_AT_NOON + 60_000, everywhere=outage is None)
    assert await there.cache.get("key") is None
    assert await here.cache.get("key") is None


async def test_what_a_look_up_finds_during_a_clearing_is_neither_given_nor_kept() -> None:
    here, there = pair()
    await there.kept()
    found, _ = await asyncio.gather(here.cache.get("key"), here.cache.clear())

    assert (found, here.reads > 0) == (None, True)
    assert len(here.local) == 0
    assert await here.cache.get("key") is None


async def test_clearing_without_redis_empties_the_local_tier_and_says_so() -> None:
    here = CachingReplica(shared=None)
    await here.kept()
    assert await here.cache.clear() == CacheClearedResponse(cleared=True, generation=1, everywhere=True)
    assert await here.cache.get("key") is None
    of_several = CachingReplica(shared=None, is_alone=False)
    assert await of_several.cache.clear() == CacheClearedResponse(cleared=True, generation=1, everywhere=False)
    away = CachingReplica()
    await away.kept()
    away.server.broken = ConnectionRefusedError()

    assert await away.cache.clear() == CacheClearedResponse(cleared=True, generation=CLEARED_AT_NOON, everywhere=False)
    assert await away.cache.get("key") is None


async def test_the_statistics_tell_of_each_tier_and_of_what_was_saved() -> None:
    here, there = pair()
    await there.cache.get("key")
    await here.kept()
    await there.cache.get("key")
    await there.cache.get("key")
    told = there.cache.statistics()

    assert (told.cache_mode, told.generation, told.saved_usd) == (CacheMode.HEALTHY, 0, 0.5)
    assert (told.hits, told.misses, told.hit_rate) == (2, 1, 0.6667)
    assert told.redis == CacheTierReport(
        hits=1, misses=1, hit_rate=0.5, stores=0, evictions=None, entries=None, size_bytes=None
    )
    size = there.local.payload_bytes
    assert told.local == CacheTierReport(
        hits=1, misses=2, hit_rate=0.3333, stores=1, evictions=0, entries=1, size_bytes=size
    )
    assert CachingReplica(shared=None).cache.statistics().redis is None


async def test_a_hit_of_unknown_price_saves_nothing_that_we_know_of() -> None:
    replica = CachingReplica()
    await replica.kept(reply(cost_usd=None))
    await replica.cache.get("key")

    assert replica.cache.statistics().saved_usd == 0.0


@pytest.mark.parametrize("fault", [TimeoutError(), ValueError("a lie"), exceptions.InvalidResponse("HTTP/1.1 400")])
async def test_no_fault_of_redis_reaches_the_caller(fault: Exception) -> None:
    replica = CachingReplica()
    replica.server.broken = fault
    await replica.kept()
    replica.pass_time(2.0)

    assert await replica.cache.get("key") is not None
