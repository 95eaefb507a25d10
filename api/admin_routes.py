"""Administrative actions on the running service. Without a key in force these routes are not registered."""

from dishka import FromDishka
from quart import Blueprint, Response
from quart_dishka import inject

from api.admin_requests import administrator, check, run_to_completion
from api.response_rendering import json_answer
from api_models import AdminAction, AlertsResetResponse, CacheClearedResponse, ChangesResponse
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
    by = administrator()

    async def cleared() -> CacheClearedResponse:
        body = await cache.clear()
        audit.record(by, AdminAction.CACHE_CLEARED, None, old=None, new=body.model_dump(mode="json"))
        return body

    return json_answer(await run_to_completion(cleared()))


@blueprint.post("/alerts/reset")
@inject
async def reset_alerts(
    access: FromDishka[AdminAccessProtocol],
    alerts: FromDishka[CostAlertsProtocol],
    audit: FromDishka[AuditProtocol],
) -> Response:
    """Let spending alerts be sent again if their thresholds are still passed."""
    check(access)
    by = administrator()

    async def reset() -> AlertsResetResponse:
        body = await alerts.reset()
        audit.record(by, AdminAction.ALERTS_RESET, None, old=None, new=body.model_dump(mode="json"))
        return body

    return json_answer(await run_to_completion(reset()))


@blueprint.get("/changes")
@inject
async def changes(access: FromDishka[AdminAccessProtocol], audit: FromDishka[AuditProtocol]) -> Response:
    """The latest changes made through this replica."""
    check(access)
    return json_answer(ChangesResponse(list(audit.latest())))
