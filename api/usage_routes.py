"""Usage and costs, from the ledger."""

from datetime import date, timedelta

from dishka import FromDishka
from quart import Blueprint, Response, request
from quart_dishka import inject

from api.query_parameters import word
from api.response_rendering import json_answer
from api_models import ModelUsage, UsageFigures, UsagePeriod, UsageSummaryResponse
from protocols import LLMUsageProtocol, UsageTotals

blueprint = Blueprint("usage", __name__, url_prefix="/api/v1/usage")


@blueprint.get("/summary")
@inject
async def summary(usage: FromDishka[LLMUsageProtocol]) -> Response:
    """The figures of a period, by provider and model."""
    period = word(request, "period", UsagePeriod.TODAY)
    first, last = _days(period, usage.today)
    read = await usage.read(first, last)
    rows = read.rows
    body = UsageSummaryResponse(
        scope=read.scope,
        period=period,
        first_day=first,
        last_day=last,
        total=_figures(sum(rows.values(), UsageTotals())),
        by_provider={name: _figures(read.of(name)) for name in dict.fromkeys(name for name, _ in rows)},
        by_model=[
            ModelUsage(provider=name, model=model, usage=_figures(totals)) for (name, model), totals in rows.items()
        ],
    )
    return json_answer(body)


def _days(period: UsagePeriod, today: date) -> tuple[date, date]:
    match period:
        case UsagePeriod.TODAY:
            return today, today
        case UsagePeriod.YESTERDAY:
            return today - timedelta(days=1), today - timedelta(days=1)
        case UsagePeriod.LAST_7_DAYS:
            return today - timedelta(days=6), today
        case UsagePeriod.MONTH:
            return today.replace(day=1), today


def _figures(totals: UsageTotals) -> UsageFigures:
    return UsageFigures(
        requests=totals.requests,
        successes=totals.successes,
        failures=totals.failures,
        prompt_tokens=totals.prompt_tokens,
        completion_tokens=totals.completion_tokens,
        cost_usd=totals.cost_usd,
        unpriced_purchases=totals.unpriced,
        cache_hits=totals.cache_hits,
        saved_usd=totals.saved_usd,
    )
