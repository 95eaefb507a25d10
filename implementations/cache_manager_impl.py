"""Keeps validated replies under their request's fingerprint: in this process, bounded."""

from api_models import CacheMode, DependencyStatus
from implementations.cache.entry_codec import decode, encode
from implementations.cache.local_cache import LocalCache
from metrics import Metrics
from protocols import CachedReply, CacheHealth, ProviderReply


class CacheManagerImpl:
    """local_ttl_s: the longest time that an answer is kept here, in seconds."""

    def __init__(self, *, local: LocalCache, local_ttl_s: float, metrics: Metrics) -> None:
        self._local = local
        self._local_ttl_s = local_ttl_s
        self._metrics = metrics
        # Read when scraped: entries also go when nobody asks.
        metrics.cache_entries.set_function(lambda: len(local))
        metrics.cache_bytes.set_function(lambda: local.payload_bytes)

    async def get(self, key: str) -> CachedReply | None:
        """The reply, or None when it is not known or too old."""
        found = self._look_up(key)
        (self._metrics.cache_misses if found is None else self._metrics.cache_hits).inc()
        return found

    def put(self, key: str, reply: ProviderReply, *, ttl_s: float) -> None:
        """Keep the reply for ttl_s seconds at most."""
        self._local.put(key, encode(reply), ttl_s=min(ttl_s, self._local_ttl_s))

    def health(self) -> CacheHealth:
        """Nothing here can fail."""
        return CacheHealth(mode=CacheMode.HEALTHY, redis=DependencyStatus.DISABLED, redis_failure_count=0)

    def _look_up(self, key: str) -> CachedReply | None:
        entry = self._local.get(key)
        if entry is None:
            return None
        payload, age_s = entry
        reply = decode(payload)
        return None if reply is None else CachedReply(reply=reply, age_s=age_s)
