"""GET /api/v1/usage/summary: what was used and what it cost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any, ClassVar

import pytest
from quart.typing import TestClientProtocol as Client

from api_models import ProviderName, UsageScope
from config import Settings
from protocols import LLMUsageProtocol, UsageRows, UsageTotals
from startup_setup import create_app
from tests.fakes import NOON
from tests.in_place_of import in_place_of
from tests.integration.dialects import OPENAI
from tests.integration.pointed_service import Service, running
from tests.integration.stand_in import answer, standing_in


async def figures(service: Service, period: str = "today") -> dict[str, Any]:
    told = await service.reads(f"/api/v1/usage/summary?period={period}")
    assert told.status == 200
    body: dict[str, Any] = told.json()
    return body


async def test_purchases_failures_and_savings_stand_in_the_summary() -> None:
    async with (
        standing_in(OPENAI.fails("failed"), answer(OPENAI.good())) as provider,
        running(**OPENAI.variables(provider.url)) as service,
    ):
        for _ in range(3):
            assert (await service.judges(OPENAI, headers={"Cache-Control": "max-age=60"})).status == 200
        today, week = await figures(service), await figures(service, "7d")
        shown = (await service.reads("/api/v1/providers")).json()
    total = today["total"]
    assert (total["requests"], total["successes"], total["failures"], total["cache_hits"]) == (2, 1, 1, 2)
    assert total["cost_usd"] == pytest.approx(OPENAI.good_usd, abs=2e-6)
    assert total["saved_usd"] == pytest.approx(2 * OPENAI.good_usd, abs=2e-6)
    assert today["by_provider"]["openai"] == total
    assert [(row["provider"], row["model"]) for row in today["by_model"]] == [("openai", OPENAI.model)]
    assert week["total"] == total
    assert shown["total_requests_today"] == 2
    assert shown["total_cost_today"] == pytest.approx(total["cost_usd"])


async def test_models_that_a_caller_makes_up_share_a_row_and_those_of_the_operator_have_their_own() -> None:
    async with (
        standing_in(answer(OPENAI.good())) as provider,
        running(
            **{**OPENAI.variables(provider.url), "OPENAI_DEFAULT_MODEL": "our-default"},
            PRICE_OVERRIDES='{"openai/our-priced": {"input": 1, "output": 2}}',
        ) as service,
    ):
        for model in ("our-default", "our-priced", "made-up-1", "made-up-2"):
            assert (await service.judges(OPENAI, overrides={"model_override": model})).status == 200
        rows = (await figures(service))["by_model"]
    requests = {row["model"]: row["usage"]["requests"] for row in rows}
    assert requests == {"our-default": 1, "our-priced": 1, "other": 2}


async def test_an_unknown_period_is_the_callers_mistake() -> None:
    async with running() as service:
        body = (await service.reads("/api/v1/usage/summary?period=century")).refusal(400, "VALIDATION_ERROR")
        assert (await figures(service, "yesterday"))["total"]["requests"] == 0
    assert "today, yesterday, month, 7d" in body["details"]


class Usage:
    """A ledger whose today is the 23rd of November; asked: for which days it was."""

    def __init__(self, rows: UsageRows) -> None:
        self.today = NOON.date()
        self.asked: list[tuple[date, date]] = []
        self._rows = rows

    async def read(self, first: date, last: date) -> UsageRows:
        self.asked.append((first, last))
        return self._rows


@asynccontextmanager
async def showing(usage: Usage) -> AsyncIterator[Client]:
    async with create_app(Settings.from_environment(), in_place_of(LLMUsageProtocol, usage)).test_app() as app:
        yield app.test_client()


class Counting(UsageRows):
    """Counts for whom it was summed."""

    summed: ClassVar[list[ProviderName]] = []

    def of(self, provider: ProviderName) -> UsageTotals:
        """The sum of one provider."""
        self.summed.append(provider)
        return super().of(provider)


async def test_every_figure_is_shown_where_it_belongs() -> None:
    totals = UsageTotals(
        requests=10,
        successes=7,
        failures=3,
        prompt_tokens=900,
        completion_tokens=80,
        cost_micro_usd=250_000,
        unpriced=2,
        cache_hits=5,
        saved_micro_usd=500_000,
    )
    rows = UsageRows(scope=UsageScope.FLEET, rows={(ProviderName.OPENAI, "gpt-6-luna"): totals})
    async with showing(Usage(rows)) as client:
        told = await (await client.get("/api/v1/usage/summary?period=7d")).get_json()
    figures = {
        "requests": 10,
        "successes": 7,
        "failures": 3,
        "prompt_tokens": 900,
        "completion_tokens": 80,
        "cost_usd": 0.25,
        "unpriced_purchases": 2,
        "cache_hits": 5,
        "saved_usd": 0.5,
    }
    assert told == {
        "scope": "fleet",
        "period": "7d",
        "first_day": "2026-11-17",
        "last_day": "2026-11-23",
        "total": figures,
        "by_provider": {"openai": figures},
        "by_model": [{"provider": "openai", "model": "gpt-6-luna", "usage": figures}],
    }


async def test_the_rows_are_summed_once_for_each_provider_however_many_there_are() -> None:
    names = (ProviderName.OPENAI, ProviderName.GOOGLE)
    rows = {(name, f"model-{number}"): UsageTotals(requests=1) for name in names for number in range(100)}
    async with showing(Usage(Counting(scope=UsageScope.REPLICA, rows=rows))) as client:
        told = await (await client.get("/api/v1/usage/summary")).get_json()
    assert Counting.summed == [*names]
    assert {name: usage["requests"] for name, usage in told["by_provider"].items()} == {"openai": 100, "google": 100}
    assert (told["total"]["requests"], len(told["by_model"])) == (200, 200)


@pytest.mark.parametrize(
    ("period", "first", "last"), [("today", 23, 23), ("yesterday", 22, 22), ("7d", 17, 23), ("month", 1, 23)]
)
async def test_a_period_is_these_days_the_last_one_included(period: str, first: int, last: int) -> None:
    usage = Usage(UsageRows(scope=UsageScope.REPLICA, rows={}))
    async with showing(usage) as client:
        assert (await client.get(f"/api/v1/usage/summary?period={period}")).status_code == 200
    assert usage.asked == [(date(2026, 11, first), date(2026, 11, last))]
