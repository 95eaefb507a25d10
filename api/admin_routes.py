"""What an administrator may do to the running service. Without a key in force these routes are not registered."""

from dishka import FromDishka
from quart import Blueprint, Request, Response, request
from quart_dishka import inject

from api.admin_requests import administrator, rendered
from api_models import AdminAction, AlertsResetResponse, CacheClearedResponse, ChangesResponse
from protocols import AdminAccessProtocol, AuditProtocol, CostAlertsProtocol, LLMCacheManagerProtocol

BEARER = "bearer "

blueprint = Blueprint("admin", __name__, url_prefix="/api/v1/admin")


@blueprint.post("/cache/clear")
@inject
async def clear_cache(
    access: FromDishka[AdminAccessProtocol],
    cache: FromDishka[LLMCacheManagerProtocol],
    audit: FromDishka[AuditProtocol],
) -> Response:
    """Forget every kept answer, in all replicas."""
    check(request, access)
    cleared = await cache.clear()
    body = CacheClearedResponse(cleared=True, everywhere=cleared.everywhere, generation=cleared.generation)
    audit.record(administrator(request), AdminAction.CACHE_CLEARED, None, old=None, new=body.model_dump(mode="json"))
    return rendered(body)


@blueprint.post("/alerts/reset")
@inject
async def reset_alerts(
    access: FromDishka[AdminAccessProtocol],
    alerts: FromDishka[CostAlertsProtocol],
    audit: FromDishka[AuditProtocol],
) -> Response:
    """Let alerts on spending be told again, if their marks are still passed."""
    check(request, access)
    done = await alerts.reset()
    body = AlertsResetResponse(reset=True, everywhere=done.everywhere, forgotten=done.forgotten)
    audit.record(administrator(request), AdminAction.ALERTS_RESET, None, old=None, new=body.model_dump(mode="json"))
    return rendered(body)


@blueprint.get("/changes")
@inject
async def changes(access: FromDishka[AdminAccessProtocol], audit: FromDishka[AuditProtocol]) -> Response:
    """The latest changes that this replica was asked for."""
    check(request, access)
    return rendered(ChangesResponse(list(audit.latest())))


def check(asked: Request, access: AdminAccessProtocol) -> None:
    """Let the administrator pass. Every admin route begins with this."""
    access.check(_shown_key(asked), peer=asked.remote_addr or "unknown")


def _shown_key(asked: Request) -> str | None:
    authorization = asked.headers.get("Authorization", "")
    if authorization.lower().startswith(BEARER):
        return authorization[len(BEARER) :].strip()
    return asked.headers.get("X-API-Key")
