"""What an administrator may do to the running service. Without a key in force these routes are not registered."""

import structlog
from dishka import FromDishka
from quart import Blueprint, Request, Response, request
from quart_dishka import inject

from api.peer import peer
from api.request_scope import asked_by
from api.shown_key import shown_key
from api_models import ADMIN, CacheClearedResponse
from protocols import AdminAccessProtocol, LLMCacheManagerProtocol

blueprint = Blueprint("admin", __name__, url_prefix="/api/v1/admin")
log = structlog.get_logger("admin")


@blueprint.post("/cache/clear")
@inject
async def clear_cache(access: FromDishka[AdminAccessProtocol], cache: FromDishka[LLMCacheManagerProtocol]) -> Response:
    """Forget every kept answer, in all replicas."""
    check(request, access)
    cleared = await cache.clear()
    log.warning("cache_cleared", peer=peer(), generation=cleared.generation, everywhere=cleared.everywhere)
    body = CacheClearedResponse(cleared=True, everywhere=cleared.everywhere, generation=cleared.generation)
    return Response(body.model_dump_json(), content_type="application/json")


def check(asked: Request, access: AdminAccessProtocol) -> None:
    """Let the administrator pass. Every admin route begins with this."""
    access.check(shown_key(asked), peer=peer())
    asked_by(ADMIN)
