"""Cache statistics, for dashboards."""

from dishka import FromDishka
from quart import Blueprint, Response
from quart_dishka import inject

from api.response_rendering import json_answer
from api_models import CacheStatsResponse, CacheTierReport
from protocols import LLMCacheManagerProtocol, TierStatistics

blueprint = Blueprint("cache", __name__, url_prefix="/api/v1/cache")


@blueprint.get("/stats")
@inject
async def stats(cache: FromDishka[LLMCacheManagerProtocol]) -> Response:
    """Hits, misses and savings of this process since its start."""
    known = cache.statistics()
    body = CacheStatsResponse(
        cache_mode=known.mode,
        generation=known.generation,
        hits=known.hits,
        misses=known.misses,
        hit_rate=_rate(known.hits, known.misses),
        saved_usd=known.saved_usd,
        local=_tier(known.local),
        redis=None if known.redis is None else _tier(known.redis),
    )
    return json_answer(body)


def _tier(known: TierStatistics) -> CacheTierReport:
    return CacheTierReport(
        hits=known.hits,
        misses=known.misses,
        hit_rate=_rate(known.hits, known.misses),
        stores=known.stores,
        evictions=known.evictions,
        entries=known.entries,
        size_bytes=known.size_bytes,
    )


def _rate(hits: int, misses: int) -> float:
    return round(hits / (hits + misses), 4) if hits else 0.0
