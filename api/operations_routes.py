"""What this process is doing, for operators: known figures only, without any I/O, and the page that shows them.

The page contains no figures: it fetches them, with a key where one is required.
"""

from dishka import FromDishka
from quart import Blueprint, Response, request
from quart_dishka import inject

from api import operations_rendering as rendered
from api.response_rendering import json_answer
from api.static_texts import page
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

PAGE = page("operations.html")

blueprint = Blueprint("operations", __name__)


@blueprint.get("/api/v1/operations")
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


@blueprint.get("/")
async def show() -> Response:
    """The page, or 304."""
    return PAGE.answer(request)
