"""What this process is doing, for operators: known figures only, without any I/O."""

from dishka import FromDishka
from quart import Blueprint, Response
from quart_dishka import inject

from api import operations_rendering as rendered
from api.response_rendering import json_answer
from api_models import DegradedMode, OperationsResponse
from config import Settings
from metrics import Metrics, count_of
from protocols import (
    AdmissionProtocol,
    BackgroundProtocol,
    BudgetProtocol,
    HistoryProtocol,
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
        mock_judges=current.mock is not None,
        draining=admission.is_draining,
        degraded_modes=[mode for mode in DegradedMode if count_of(metrics.degraded_mode.of(mode))],
        tasks_down=sorted(background.down),
        traffic=rendered.traffic(metrics, history),
        latency=history.latency(),
        recent_errors=list(history.failures()),
        saturation=rendered.saturation(metrics, settings.judging, [one.name for one in selector.statuses(current)]),
        events=rendered.events(metrics, events.health()),
        money=budget.spending(),
    )
    return json_answer(body)
