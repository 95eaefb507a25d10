"""Spans inside a request: one for each attempt at a provider, one for each cache look-up.

Wired only if tracing is on.
"""

from urllib.parse import urlsplit

from exceptions import ProviderError
from implementations.observability.gen_ai import outcome_attributes, request_attributes, span_name, usage_attributes
from protocols import (
    Attributes,
    CacheCleared,
    CachedReply,
    CacheHealth,
    CacheStatistics,
    LLMCacheManagerProtocol,
    LLMProviderProtocol,
    ProviderReply,
    ProviderRequest,
    SpanKind,
    TracerProtocol,
)

HTTPS_PORT, HTTP_PORT = 443, 80


class Traced:
    """One client span per attempt. base_url: of the provider, None for one inside this process."""

    def __init__(self, provider: LLMProviderProtocol, *, tracer: TracerProtocol, base_url: str | None) -> None:
        self._provider = provider
        self._tracer = tracer
        self._address = _address(base_url)

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply. The span holds model and token counts, never any content."""
        attributes = {**request_attributes(request), **self._address}
        with self._tracer.span(span_name(request), kind=SpanKind.CLIENT, attributes=attributes) as span:
            try:
                reply = await self._provider.generate_comparison(request)
            except ProviderError as failure:
                span.set_attributes({**outcome_attributes(failure), **usage_attributes(failure.purchase)})
                raise
            span.set_attributes({**outcome_attributes(None), **usage_attributes(reply.purchase)})
            return reply


class TracedCache:
    """One span per look-up; everything else is delegated."""

    def __init__(self, cache: LLMCacheManagerProtocol, *, tracer: TracerProtocol) -> None:
        self._cache = cache
        self._tracer = tracer

    @property
    def generation(self) -> int:
        """The number in every key."""
        return self._cache.generation

    async def get(self, key: str) -> CachedReply | None:
        """The reply, or None."""
        with self._tracer.span("cache lookup", attributes={}) as span:
            found = await self._cache.get(key)
            span.set_attributes({"llm_provider.cache.hit": found is not None})
            return found

    def put(self, key: str, reply: ProviderReply, *, ttl_s: float) -> None:
        """Keep the reply."""
        self._cache.put(key, reply, ttl_s=ttl_s)

    def health(self) -> CacheHealth:
        """The known state."""
        return self._cache.health()

    def statistics(self) -> CacheStatistics:
        """What was found, kept and saved."""
        return self._cache.statistics()

    async def clear(self) -> CacheCleared:
        """Forget every reply."""
        return await self._cache.clear()


def _address(base_url: str | None) -> Attributes:
    if base_url is None:
        return {}
    url = urlsplit(base_url)
    return {
        "server.address": url.hostname or "",
        "server.port": url.port or (HTTPS_PORT if url.scheme == "https" else HTTP_PORT),
    }
