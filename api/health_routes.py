"""Health probes and metrics, answered from known state without any I/O."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from dishka import FromDishka
from quart import Blueprint, Response, request
from quart_dishka import inject

from api.health_warnings import day_warnings, mode_warnings, provider_warnings, task_warnings
from api.response_rendering import json_answer
from api_models import (
    CacheMode,
    CacheReport,
    CircuitState,
    Dependencies,
    DependencyStatus,
    HealthResponse,
    HealthStatus,
    ProviderHealth,
    StatusResponse,
)
from config import Settings
from metrics import Metrics
from protocols import (
    AdmissionProtocol,
    BackgroundProtocol,
    BudgetProtocol,
    CacheHealth,
    EventHealth,
    LLMCacheManagerProtocol,
    LLMEventPublisherProtocol,
    LLMProviderSelectorProtocol,
    LLMUsageProtocol,
    ProviderStatus,
    RuntimeSettingsProtocol,
)

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
@inject
async def healthz(
    settings: FromDishka[Settings],
    selector: FromDishka[LLMProviderSelectorProtocol],
    runtime_settings: FromDishka[RuntimeSettingsProtocol],
    cache: FromDishka[LLMCacheManagerProtocol],
    events: FromDishka[LLMEventPublisherProtocol],
    admission: FromDishka[AdmissionProtocol],
    background: FromDishka[BackgroundProtocol],
    budget: FromDishka[BudgetProtocol],
    usage: FromDishka[LLMUsageProtocol],
) -> Response:
    """Whether the service can serve, and what is wrong."""
    current = runtime_settings.current()
    statuses = selector.statuses(current)
    cache_health, event_health = cache.health(), events.health()
    dependencies = _dependencies(cache_health, event_health)
    status = _status(statuses, dependencies, draining=admission.is_draining, down=background.down)
    body = HealthResponse(
        service=settings.service.name,
        version=settings.service.version,
        status=status,
        environment=settings.service.environment,
        dependencies=dependencies,
        providers={known.name: _provider(known) for known in statuses},
        warnings=[
            *provider_warnings(
                statuses,
                ranked={current.default_provider, *current.priority_order},
                mock=current.mock is not None,
                draining=admission.is_draining,
            ),
            *task_warnings(background.down),
            *day_warnings(usage.today, datetime.now(UTC).date()),
            *mode_warnings(cache_health, event_health, budget_is_local=budget.is_local),
        ],
    )
    return json_answer(body, status=503 if status is HealthStatus.UNHEALTHY else 200)


@blueprint.get("/livez")
async def livez() -> Response:
    """Answers as long as the event loop runs."""
    return json_answer(StatusResponse(status="alive"))


@blueprint.get("/readyz")
@inject
async def readyz(
    selector: FromDishka[LLMProviderSelectorProtocol],
    runtime_settings: FromDishka[RuntimeSettingsProtocol],
    admission: FromDishka[AdmissionProtocol],
) -> Response:
    """Whether the service accepts new work."""
    ready = not admission.is_draining and any(
        status.is_usable for status in selector.statuses(runtime_settings.current())
    )
    body = StatusResponse(status="ready" if ready else "not ready")
    return json_answer(body, status=200 if ready else 503)


@blueprint.get("/metrics")
@inject
async def scrape(metrics: FromDishka[Metrics]) -> Response:
    """All metrics, in OpenMetrics format if requested."""
    text, content_type = metrics.exposition(request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


def _dependencies(cache: CacheHealth, events: EventHealth) -> Dependencies:
    return Dependencies(
        redis=cache.redis,
        kafka=events.kafka,
        cache=CacheReport(
            cache_mode=cache.mode,
            local_cache_available=True,
            redis_available=cache.redis is DependencyStatus.HEALTHY,
            redis_failure_count=cache.redis_failure_count,
        ),
    )


def _status(
    statuses: Sequence[ProviderStatus], dependencies: Dependencies, *, draining: bool, down: Collection[str]
) -> HealthStatus:
    """Open circuits only degrade, since they are retried; unhealthy means draining or no usable provider."""
    usable = [status for status in statuses if status.is_usable]
    if draining or not usable:
        return HealthStatus.UNHEALTHY
    well = (
        DependencyStatus.UNHEALTHY not in {dependencies.redis, dependencies.kafka}
        and dependencies.cache.cache_mode is CacheMode.HEALTHY
        and any(status.circuit_state is not CircuitState.OPEN for status in usable)
        and not down
    )
    return HealthStatus.HEALTHY if well else HealthStatus.DEGRADED


def _provider(status: ProviderStatus) -> ProviderHealth:
    return ProviderHealth(
        enabled=status.enabled,
        configured=status.configured,
        available=status.available,
        circuit_breaker_state=status.circuit_state,
        circuit_forced=status.held_because is not None,
    )
