"""Spans inside a request: one for each attempt at a provider, one for each cache look-up.

Wired only if tracing is on.
"""

from functools import cache
from urllib.parse import urlsplit

from exceptions import ProviderError
from implementations.observability.gen_ai import outcome_attributes, request_attributes, span_name, usage_attributes
from protocols import (
    Attributes,
    CachedReply,
    LLMProviderProtocol,
    LookUp,
    ProviderReply,
    ProviderRequest,
    TracerProtocol,
)

HTTPS_PORT, HTTP_PORT = 443, 80


class Traced:
    """One client span per attempt."""

    def __init__(self, provider: LLMProviderProtocol, *, tracer: TracerProtocol) -> None:
        self._provider = provider
        self._tracer = tracer

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply. The span holds model and token counts, never any content."""
        attributes = {**request_attributes(request), **_address(request.base_url)}
        with self._tracer.span(span_name(request), attributes=attributes, is_call=True) as span:
            try:
                reply = await self._provider.generate_comparison(request)
            except ProviderError as failure:
                span.set_attributes({**outcome_attributes(failure), **usage_attributes(failure.purchase)})
                raise
            span.set_attributes({**outcome_attributes(None), **usage_attributes(reply.purchase)})
            return reply


def traced_look_up(look_up: LookUp, *, tracer: TracerProtocol) -> LookUp:
    """The same look-up, with one span each time."""

    async def traced(key: str) -> CachedReply | None:
        with tracer.span("cache lookup", attributes={}) as span:
            found = await look_up(key)
            span.set_attributes({"llm_provider.cache.hit": found is not None})
            return found

    return traced


@cache
def _address(base_url: str | None) -> Attributes:
    """Nothing for a provider inside this process, which has no URL."""
    if base_url is None:
        return {}
    url = urlsplit(base_url)
    return {
        "server.address": url.hostname or "",
        "server.port": url.port or (HTTPS_PORT if url.scheme == "https" else HTTP_PORT),
    }
