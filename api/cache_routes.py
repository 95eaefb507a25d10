"""Cache statistics, for dashboards."""

from dishka import FromDishka
from quart import Blueprint, Response
from quart_dishka import inject

from api.response_rendering import json_answer
from protocols import LLMCacheManagerProtocol

blueprint = Blueprint("cache", __name__, url_prefix="/api/v1/cache")


@blueprint.get("/stats")
@inject
async def stats(cache: FromDishka[LLMCacheManagerProtocol]) -> Response:
    """Hits, misses and savings of this process since its start."""
    return json_answer(cache.statistics())
