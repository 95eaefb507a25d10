"""Administrative actions on the running service. Without a key in force these routes are not registered."""

from collections.abc import Coroutine
from typing import Any

from dishka import FromDishka
from pydantic import BaseModel
from quart import Blueprint, Response
from quart_dishka import inject

from api.admin_requests import administrator, check, run_to_completion
from api.response_rendering import json_answer
from api_models import AdminAction, ChangesResponse
from protocols import AdminAccessProtocol, AuditProtocol, CostAlertsProtocol, LLMCacheManagerProtocol

blueprint = Blueprint("admin", __name__, url_prefix="/api/v1/admin")


@blueprint.post("/cache/clear")
@inject
async def clear_cache(
    access: FromDishka[AdminAccessProtocol],
    cache: FromDishka[LLMCacheManagerProtocol],
    audit: FromDishka[AuditProtocol],
) -> Response:
    """Clear the answer cache in all replicas."""
    check(access)
    return await _audited(cache.clear(), AdminAction.CACHE_CLEARED, audit)


@blueprint.post("/alerts/reset")
@inject
async def reset_alerts(
    access: FromDishka[AdminAccessProtocol],
    alerts: FromDishka[CostAlertsProtocol],
    audit: FromDishka[AuditProtocol],
) -> Response:
    """Let spending alerts be sent again if their thresholds are still passed."""
    check(access)
    return await _audited(alerts.reset(), AdminAction.ALERTS_RESET, audit)


@blueprint.get("/changes")
@inject
async def changes(access: FromDishka[AdminAccessProtocol], audit: FromDishka[AuditProtocol]) -> Response:
    """The latest changes made through this replica."""
    check(access)
    return json_answer(ChangesResponse(list(audit.latest())))


async def _audited(work: Coroutine[Any, Any, BaseModel], action: AdminAction, audit: AuditProtocol) -> Response:
    async def done() -> BaseModel:
        body = await work
        audit.record(administrator(), action, None, old=None, new=body.model_dump(mode="json"))
        return body

    return json_answer(await run_to_completion(done()))
