"""Comparisons, providers and models."""

from dataclasses import asdict

from dishka import FromDishka
from quart import Blueprint, Response, request
from quart_dishka import inject

from api.query_parameters import flag, word_of
from api.request_headers import refuse_foreign_page
from api.request_reading import read_comparison
from api.request_scope import caller, current_scope, note
from api.response_rendering import json_answer, render_result
from api_models import (
    AttemptOutcome,
    ModelPrices,
    ModelReport,
    ModelsResponse,
    ProbeReport,
    ProviderName,
    ProviderReport,
    ProvidersResponse,
    TemperatureUse,
)
from protocols import (
    AdmissionProtocol,
    CurrentSettings,
    HistoryProtocol,
    LLMOrchestratorProtocol,
    LLMProviderSelectorProtocol,
    LLMProviderTesterProtocol,
    LLMUsageProtocol,
    ModelCatalogueProtocol,
    ModelTraits,
    PricesProtocol,
    ProviderStatus,
    Rates,
    RuntimeSettingsProtocol,
    UsageTotals,
)

blueprint = Blueprint("llm", __name__, url_prefix="/api/v1")


@blueprint.post("/comparison")
@inject
async def compare(
    orchestrator: FromDishka[LLMOrchestratorProtocol],
    admission: FromDishka[AdmissionProtocol],
    history: FromDishka[HistoryProtocol],
) -> Response:
    """Judge one pair of essays."""
    with admission.admit():
        query = await read_comparison(current_scope().request)
        result = await orchestrator.compare(query)
    history.answered(result.timings.total_s)
    note(
        provider=result.reply.provider,
        model=result.reply.purchase.model,
        cache=result.cache_outcome,
        attempts=len(result.attempts),
        cost_usd=result.cost_usd,
        prompt_tokens=result.reply.purchase.usage.prompt,
        completion_tokens=result.reply.purchase.usage.completion,
    )
    failed = [attempt.in_words for attempt in result.attempts if attempt.outcome is not AttemptOutcome.SUCCESS]
    if failed:
        note(failed_attempts=failed)
    return render_result(query, result)


@blueprint.get("/providers")
@inject
async def providers(
    selector: FromDishka[LLMProviderSelectorProtocol],
    runtime_settings: FromDishka[RuntimeSettingsProtocol],
    usage: FromDishka[LLMUsageProtocol],
) -> Response:
    """Every provider's current state; today's requests and costs are the fleet's while Redis answers."""
    settings = runtime_settings.current()
    day = usage.today
    today = await usage.read(day, day)
    real = (name for name in ProviderName if name is not ProviderName.MOCK)
    judges = (ProviderName.MOCK,) if settings.mock else real
    total = sum(map(today.of, judges), UsageTotals())  # also of those that are not listed any more
    body = ProvidersResponse(
        providers=[_report(status, today.of(status.name)) for status in selector.statuses(settings)],
        default_provider=ProviderName.MOCK if settings.mock else settings.default_provider,
        selection_strategy=settings.selection_strategy,
        total_requests_today=total.requests,
        total_cost_today=total.cost_usd,
        scope=today.scope,
    )
    return json_answer(body)


@blueprint.get("/models")
@inject
async def models(
    catalogue: FromDishka[ModelCatalogueProtocol],
    prices: FromDishka[PricesProtocol],
    runtime_settings: FromDishka[RuntimeSettingsProtocol],
) -> Response:
    """Every model of the catalogue, with what it accepts and what it costs today."""
    settings = runtime_settings.current()
    body = ModelsResponse(
        models=[
            _model_report(name, model, traits, prices.rates(name, model), settings)
            for name in ProviderName
            for model, traits in catalogue.models(name).items()
        ]
    )
    return json_answer(body)


@blueprint.post("/providers/<provider>/test")
@inject
async def test_provider(
    provider: str, tester: FromDishka[LLMProviderTesterProtocol], admission: FromDishka[AdmissionProtocol]
) -> Response:
    """Test one provider: by its free probe, or with ?deep=true by one paid verdict."""
    refuse_foreign_page(current_scope().request)
    with admission.admit():
        name = word_of(ProviderName, "provider", provider)
        body = await tester.test(
            name, deep=flag(request, "deep"), caller=caller(), correlation_id=current_scope().correlation_id
        )
    return json_answer(body)


def _model_report(
    provider: ProviderName, model: str, traits: ModelTraits, rates: Rates | None, settings: CurrentSettings
) -> ModelReport:
    return ModelReport(
        id=model,
        provider=provider,
        tier=traits.tier,
        is_default=settings.default_models.get(provider) == model,
        context_tokens=traits.context_tokens,
        max_output_tokens=traits.max_output_tokens,
        temperature=traits.temperature,
        max_temperature=None if traits.temperature is TemperatureUse.NEVER else traits.max_temperature,
        reasoning_efforts=list(traits.efforts),
        min_cacheable_tokens=traits.min_cacheable_tokens,
        deprecated_on=traits.deprecated_on,
        prices_usd_per_million_tokens=ModelPrices(**asdict(rates)) if rates else None,
    )


def _report(status: ProviderStatus, today: UsageTotals) -> ProviderReport:
    activity, found = status.activity, status.last_probe
    average_s = activity.average_response_s
    return ProviderReport(
        name=status.name,
        enabled=status.enabled,
        configured=status.configured,
        available=status.available,
        circuit_breaker_state=status.circuit_state,
        circuit_forced=status.held_because is not None,
        default_model=status.default_model,
        last_success=activity.last_success,
        last_failure=activity.last_failure,
        failure_count=activity.failure_count,
        average_response_time_ms=None if average_s is None else round(average_s * 1000, 1),
        in_flight=activity.in_flight,
        requests_today=today.requests,
        cost_today_usd=today.cost_usd,
        reason=status.reason,
        last_probe=None if found is None else ProbeReport(at=found.at, success=found.success, message=found.message),
    )
