"""Caches validated replies by request fingerprint: in this process and in Redis, local only while Redis is down.

A local entry younger than the near-cache TTL is served directly; otherwise Redis is read, and its entry replaces the
local copy. If Redis has none, or an earlier purchase, or is unavailable, the unexpired local entry is served; one that
Redis lacks is written back to it.
"""

from collections.abc import Callable, Mapping
from functools import partial

from api_models import (
    CacheClearedResponse,
    CacheMode,
    CacheStatsResponse,
    CacheTierReport,
    DegradedMode,
    DependencyStatus,
)
from implementations.cache.entry_codec import decode, encode
from implementations.cache.local_cache import LocalCache, LocalEntry
from implementations.resilience.call import waiting_for_redis
from implementations.shared_state.entry_store import EntryStore, StoredEntry
from implementations.shared_state.faults import RedisAwayError
from implementations.shared_state.generation import Generation
from implementations.shared_state.shared_redis import RedisMode
from metrics import LOCAL, REDIS, Metrics, count_of
from protocols import CachedReply, CacheHealth, ProviderReply

SHORTEST_TTL, LONGEST_TTL = 0.9, 1.1
# One state in the words of Redis' log lines and metrics, of the health report, and of the degraded modes.
MODES: Mapping[RedisMode, tuple[CacheMode, DegradedMode | None]] = {
    RedisMode.UP: (CacheMode.HEALTHY, None),
    RedisMode.READ_ONLY: (CacheMode.READ_ONLY, DegradedMode.CACHE_READ_ONLY),
    RedisMode.DOWN: (CacheMode.DEGRADED, DegradedMode.CACHE_LOCAL_ONLY),
}


class CacheManagerImpl:
    """shared: None without Redis. local_ttl_s: the longest time that an entry stays in this process, in seconds.

    near_ttl_s: how long it is served without asking Redis. is_alone: there is no other replica. jitter: draws a number
    between its two bounds, so that entries stored together do not expire together.
    """

    def __init__(
        self,
        *,
        local: LocalCache,
        shared: EntryStore | None,
        local_ttl_s: float,
        near_ttl_s: float,
        is_alone: bool,
        metrics: Metrics,
        jitter: Callable[[float, float], float],
    ) -> None:
        self._local = local
        self._shared = shared
        self._generation = Generation() if shared is None else shared.generation
        self._local_ttl_s = local_ttl_s
        self._near_ttl_s = near_ttl_s
        self._is_alone = is_alone
        self._metrics = metrics
        self._jitter = jitter
        self._generation.on_advance = local.clear
        # Computed on scrape: entries also expire without traffic.
        metrics.cache_entries.set_function(lambda: len(local))
        metrics.cache_bytes.set_function(lambda: local.payload_bytes)
        for mode in (DegradedMode.CACHE_LOCAL_ONLY, DegradedMode.CACHE_READ_ONLY):
            metrics.degraded_mode.of(mode).set_function(partial(self._is_in, mode))

    @property
    def generation(self) -> int:
        """The number in every answer's key in Redis."""
        return self._generation.number

    async def get(self, key: str) -> CachedReply | None:
        """The reply, or None if absent or expired. A request waits at most a quarter of a second for Redis."""
        local = self._local.get(key)
        if self._shared is None or (local is not None and local.here_s < self._near_ttl_s):
            tier, found = LOCAL, _reply_in(local)
        else:
            tier, found = await self._from_both(key, self._shared)
        self._looked_up(LOCAL, found=found is not None and tier == LOCAL)
        self._count(found)
        return found

    def put(self, key: str, reply: ProviderReply, *, ttl_s: float) -> None:
        """Store the reply for ttl_s seconds, plus or minus a tenth: locally at once, in Redis in the background."""
        payload = encode(reply)
        drawn_s = ttl_s * self._jitter(SHORTEST_TTL, LONGEST_TTL)
        self._store_locally(key, payload, ttl_s=drawn_s, age_s=0.0)
        if self._shared is not None:
            self._shared.put(key, payload, ttl_s=drawn_s)

    async def clear(self) -> CacheClearedResponse:
        """Invalidate every reply by raising the generation, which is in their keys in Redis, and empty this tier."""
        if self._shared is None:
            self._generation.advance_to(self._generation.number + 1)
        everywhere = self._is_alone if self._shared is None else await self._shared.clear()
        return CacheClearedResponse(cleared=True, everywhere=everywhere, generation=self._generation.number)

    def health(self) -> CacheHealth:
        """The state known from the circuits and the prober; no I/O."""
        if self._shared is None:
            return CacheHealth(mode=CacheMode.HEALTHY, redis=DependencyStatus.DISABLED, redis_failure_count=0)
        redis = self._shared.redis
        mode, degraded_mode = MODES[redis.mode]
        return CacheHealth(
            mode=mode,
            redis=DependencyStatus.UNHEALTHY if redis.mode is RedisMode.DOWN else DependencyStatus.HEALTHY,
            redis_failure_count=redis.failures,
            degraded_mode=degraded_mode,
            cause=None if degraded_mode is None else redis.cause,
        )

    def _is_in(self, mode: DegradedMode) -> float:
        return float(self.health().degraded_mode is mode)

    def statistics(self) -> CacheStatsResponse:
        """Read from the metrics, the only place where these are counted."""
        hits, misses = round(count_of(self._metrics.cache_hits)), round(count_of(self._metrics.cache_misses))
        return CacheStatsResponse(
            cache_mode=self.health().mode,
            generation=self._generation.number,
            hits=hits,
            misses=misses,
            hit_rate=_rate(hits, misses),
            saved_usd=count_of(self._metrics.cache_saved),
            local=self._tier(
                LOCAL,
                evictions=round(count_of(self._metrics.cache_evictions)),
                entries=len(self._local),
                size_bytes=self._local.payload_bytes,
            ),
            redis=None if self._shared is None else self._tier(REDIS),
        )

    async def _from_both(self, key: str, shared: EntryStore) -> tuple[str, CachedReply | None]:
        """The tier that answered and its reply: Redis, else local."""
        try:
            with waiting_for_redis() as timeout_s:
                entry = await shared.get(key, timeout_s=timeout_s)
        except RedisAwayError:
            self._metrics.cache_lookups.of(REDIS, "unavailable").inc()
            return LOCAL, _reply_in(self._local.get(key))
        reply = None if entry is None else decode(entry.payload)
        self._looked_up(REDIS, found=reply is not None)
        local = self._local.get(key)
        if entry is None or reply is None or _is_bought_later(local, entry):
            if local is not None:  # Redis lost the entry or never stored it: write it back, with the TTL it has left
                shared.put(key, local.payload, ttl_s=local.left_s, age_s=local.age_s)
            return LOCAL, _reply_in(local)
        self._store_locally(key, entry.payload, ttl_s=entry.left_s, age_s=entry.age_s)
        return REDIS, CachedReply(reply=reply, age_s=entry.age_s)

    def _store_locally(self, key: str, payload: bytes, *, ttl_s: float, age_s: float) -> None:
        self._local.put(key, payload, ttl_s=min(ttl_s, self._local_ttl_s), age_s=age_s)
        self._metrics.cache_stores.of(LOCAL, "stored").inc()

    def _looked_up(self, tier: str, *, found: bool) -> None:
        self._metrics.cache_lookups.of(tier, "hit" if found else "miss").inc()

    def _count(self, found: CachedReply | None) -> None:
        if found is None:
            self._metrics.cache_misses.inc()
            return
        self._metrics.cache_hits.inc()
        self._metrics.cache_saved.inc(found.reply.purchase.cost_usd or 0.0)

    def _tier(
        self, tier: str, *, evictions: int | None = None, entries: int | None = None, size_bytes: int | None = None
    ) -> CacheTierReport:
        lookups, stores = self._metrics.cache_lookups, self._metrics.cache_stores
        hits, misses = (round(count_of(lookups.of(tier, result))) for result in ("hit", "miss"))
        return CacheTierReport(
            hits=hits,
            misses=misses,
            hit_rate=_rate(hits, misses),
            stores=round(count_of(stores.of(tier, "stored"))),
            evictions=evictions,
            entries=entries,
            size_bytes=size_bytes,
        )


def _rate(hits: int, misses: int) -> float:
    return round(hits / (hits + misses), 4) if hits else 0.0


def _is_bought_later(local: LocalEntry | None, shared: StoredEntry) -> bool:
    """Whether the local entry is a later purchase. The ages of one purchase differ by the round trips to Redis."""
    return local is not None and local.payload != shared.payload and local.age_s < shared.age_s


def _reply_in(entry: LocalEntry | None) -> CachedReply | None:
    reply = None if entry is None else decode(entry.payload)
    return None if entry is None or reply is None else CachedReply(reply=reply, age_s=entry.age_s)
