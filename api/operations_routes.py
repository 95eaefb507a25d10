"""What this process is doing, for whoever looks after it: known figures only, without any I/O."""

from collections.abc import Iterator

from dishka import FromDishka
from quart import Blueprint, Response
from quart_dishka import inject

from api import operations_rendering as rendered
from api_models import CacheMode, DegradedMode, OperationsResponse
from config import Settings
from metrics import Metrics
from protocols import (
    AdmissionProtocol,
    BackgroundProtocol,
    BudgetProtocol,
    CurrentSettings,
    HistoryProtocol,
    LLMCacheManagerProtocol,
    LLMEventPublisherProtocol,
    LLMProviderSelectorProtocol,
    RuntimeSettingsProtocol,
)

blueprint = Blueprint("operations", __name__, url_prefix="/api/v1")


@blueprint.get("/operations")
@inject
async def operations(
    settings: FromDishka[Settings],
    metrics: FromDishka[Metrics],
    history: FromDishka[HistoryProtocol],
    selector: FromDishka[LLMProviderSelectorProtocol],
    runtime_settings: FromDishka[RuntimeSettingsProtocol],
    cache: FromDishka[LLMCacheManagerProtocol],
    events: FromDishka[LLMEventPublisherProtocol],
    admission: FromDishka[AdmissionProtocol],
    background: FromDishka[BackgroundProtocol],
    budget: FromDishka[BudgetProtocol],
) -> Response:
    """Traffic, latency, errors, saturation, events and money of this process."""
    current = runtime_settings.current()
    body = OperationsResponse(
        started_at=history.began_at,
        uptime_s=round(history.uptime_s, 3),
        degraded_modes=list(_modes(current, cache, events, admission, budget)),
        tasks_down=sorted(background.down),
        traffic=rendered.traffic(metrics, history),
        latency=rendered.latency(history.pace()),
        recent_errors=[rendered.recent_error(failure) for failure in history.failures()],
        saturation=rendered.saturation(metrics, settings.judging, [one.name for one in selector.statuses(current)]),
        events=rendered.events(metrics, events.health()),
        money=rendered.money(budget.spending()),
    )
    return Response(body.model_dump_json(), content_type="application/json")


def _modes(
    current: CurrentSettings,
    cache: LLMCacheManagerProtocol,
    events: LLMEventPublisherProtocol,
    admission: AdmissionProtocol,
    budget: BudgetProtocol,
) -> Iterator[DegradedMode]:
    if current.mock is not None:
        yield DegradedMode.MOCK_JUDGES
    if not admission.is_open:
        yield DegradedMode.DRAINING
    if cache.health().mode is CacheMode.READ_ONLY:
        yield DegradedMode.CACHE_READ_ONLY
    if cache.health().mode is CacheMode.DEGRADED:
        yield DegradedMode.CACHE_LOCAL_ONLY
    if budget.is_local:
        yield DegradedMode.BUDGET_LOCAL
    if events.health().buffering is not None:
        yield DegradedMode.EVENTS_BUFFERING
    if events.health().dropping:
        yield DegradedMode.EVENTS_DROPPING
