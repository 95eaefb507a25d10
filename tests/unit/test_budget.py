"""Money is put aside before a call and settled after it: limits, what is charged, what is left and shown."""

from datetime import UTC, datetime
from math import inf
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from api_models import AttemptOutcome, PeriodMoney, ProviderName, UnknownPrice, UsageScope
from exceptions import CostLimitExceededError
from implementations.accounting.ceilings import Ceilings
from implementations.accounting.money import micro_usd
from implementations.accounting.prices import Prices
from tests.fake_shared_budget import FakeSharedBudget
from tests.fakes import Calendar, begun, budget, cost_rules, new_metrics, request, sample
from tests.fleet import CENT, DAY, MONTH, PRICED, Fleet, bought

pytestmark = pytest.mark.usefixtures("redis_timeout_s")

NEVER_BILLED = {
    AttemptOutcome.UNAVAILABLE,
    AttemptOutcome.OVERLOADED,
    AttemptOutcome.CONNECTION,
    AttemptOutcome.TLS,
    AttemptOutcome.REFUSED,
    AttemptOutcome.RATE_LIMITED,
    AttemptOutcome.QUOTA,
    AttemptOutcome.AUTHENTICATION,
    AttemptOutcome.INVALID_REQUEST,
    AttemptOutcome.UNKNOWN_MODEL,
}


@pytest.mark.parametrize("shared", [False, True])
async def test_a_refusal_names_the_limit_that_is_reached(*, shared: bool) -> None:
    fleet = Fleet(day=5.0, month=1.0, shared=shared)
    assert await fleet.buys(0, 1.0)
    assert await fleet.reserves(0) is None
    refused = {
        period: sample(fleet.metrics, "llm_provider_cost_limit_refusals_total", reason=period)
        for period in ("day", "month")
    }
    assert refused == {"day": 0.0, "month": 1.0}


async def test_what_was_put_aside_and_not_spent_can_be_taken_by_another_replica() -> None:
    fleet = Fleet(day=0.1)
    assert await fleet.buys(0, 0.0)
    assert await fleet.reserves(1) is not None
    assert await fleet.reserves(0) is None


async def test_a_month_has_its_own_limit_and_a_new_day_does_not_refill_it() -> None:
    fleet = Fleet(day=None, month=0.25)
    assert [await fleet.buys(0, 0.1) for _ in range(3)] == [True, True, False]
    fleet.calendar.move(days=1)
    assert not await fleet.buys(1, 0.1)
    fleet.calendar.now = datetime(2026, 12, 1, tzinfo=UTC)
    assert await fleet.buys(1, 0.1)


async def test_a_new_day_is_a_new_budget_and_a_clock_set_back_opens_no_old_one() -> None:
    fleet = Fleet(day=0.1)
    assert await fleet.buys(0, 0.1)
    assert not await fleet.buys(0, 0.1)
    fleet.calendar.move(days=1)
    assert await fleet.buys(0, 0.1)
    fleet.calendar.move(days=-1)
    assert not await fleet.buys(0, 0.1)


async def test_a_call_across_midnight_is_paid_by_the_day_on_which_it_began() -> None:
    fleet = Fleet(day=0.1)
    reservation = await fleet.reserved(0)
    fleet.calendar.move(days=1)
    fleet.budgets[0].settle(reservation, AttemptOutcome.SUCCESS, bought(0.1))
    assert await fleet.reserves(0) is not None


@pytest.mark.parametrize("outcome", list(AttemptOutcome))
async def test_a_failure_without_a_bill_costs_nothing_unless_the_provider_may_have_worked(
    outcome: AttemptOutcome,
) -> None:
    fleet = Fleet(shared=False)
    reservation = await fleet.reserved()
    fleet.budgets[0].settle(reservation, outcome, None)
    day, _ = reservation.accounts
    expected = 0 if outcome in NEVER_BILLED else micro_usd(PRICED)
    assert day.held == day.spent == expected, "it belongs into NEVER_BILLED here, or MAY_BE_BILLED of charges.py"


@pytest.mark.parametrize("outcome", list(AttemptOutcome))
async def test_a_bill_of_unknown_price_costs_the_ceiling_however_the_call_ended(outcome: AttemptOutcome) -> None:
    fleet = Fleet(shared=False)
    reservation = await fleet.reserved()
    fleet.budgets[0].settle(reservation, outcome, bought(None))
    day, month = reservation.accounts
    assert day.held == day.spent == month.held == month.spent == micro_usd(PRICED)


async def test_a_failure_with_a_bill_costs_what_was_billed_and_is_settled_once() -> None:
    fleet = Fleet(shared=False)
    reservation = await fleet.reserved()
    for _ in range(2):
        fleet.budgets[0].settle(reservation, AttemptOutcome.TRUNCATED, bought(0.03))
    assert reservation.accounts[0].held == 3 * CENT


async def test_a_purchase_of_unknown_price_is_charged_at_the_ceiling_and_never_free() -> None:
    fleet = Fleet(day=0.25)
    assert [await fleet.buys(0, None) for _ in range(3)] == [True, True, False]


async def test_an_unknown_price_is_refused_when_the_operator_says_so_even_without_a_limit() -> None:
    metrics = new_metrics()
    strict = budget(lambda: cost_rules(unknown_price=UnknownPrice.REFUSE), metrics=metrics)
    with pytest.raises(CostLimitExceededError):
        await strict.reserve(request())
    assert sample(metrics, "llm_provider_cost_limit_refusals_total", reason="unknown_price") == 1.0


async def test_what_is_free_is_answered_when_nothing_is_left() -> None:
    calendar = Calendar()
    poor = budget(
        lambda: cost_rules(limit_usd_per_day=0.0),
        metrics=new_metrics(),
        prices=Prices({}, base_urls={}, now=calendar),
        now=calendar,
    )
    assert (await poor.reserve(request(provider=ProviderName.MOCK))).ceiling == 0
    with pytest.raises(CostLimitExceededError) as refused:
        await poor.reserve(request(provider=ProviderName.OPENAI, model="gpt-6-luna"))
    assert refused.value.provider is ProviderName.OPENAI


async def test_what_is_free_is_answered_and_asks_nobody_although_more_is_spent_than_the_limit_of_now() -> None:
    fleet = Fleet(day=0.2)
    assert await fleet.buys(0, 5.0)
    before = fleet.store.messages
    with patch.object(Ceilings, "of", lambda *_: 0):
        assert await fleet.reserves(0) is not None
    assert fleet.store.messages == before
    assert (fleet.budgets[0].left_usd(0), await fleet.reserves(0)) == (0.0, None)


async def test_without_a_limit_nothing_is_asked_on_the_way_of_a_request() -> None:
    fleet = Fleet(day=None)
    assert await fleet.buys(0, 5.0)
    assert fleet.store.messages == 0
    await fleet.budgets[0].refresh()
    assert fleet.store.spent[DAY] == fleet.store.spent[MONTH] == micro_usd(5.0)
    assert await fleet.buys(0, 5.0)
    assert fleet.store.messages == 2, "a declaration and what came since, of the round"


async def test_a_limit_that_is_lifted_while_redis_is_asked_refuses_for_the_last_time() -> None:
    rules, store = [cost_rules(limit_usd_per_day=0.0)], FakeSharedBudget()
    limited = budget(lambda: rules[-1], metrics=new_metrics(), shared=store.of("replica"))
    await limited.refresh()
    store.goes_on.clear()
    asking = await begun(limited.reserve(request()))
    rules.append(cost_rules())
    store.goes_on.set()
    with pytest.raises(CostLimitExceededError):
        await asking
    assert (await limited.reserve(request())).ceiling > 0


async def test_without_redis_each_replica_keeps_to_its_part() -> None:
    fleet = Fleet(day=1.0, shared=False)
    taken = [await fleet.reserves(number % 2) for number in range(50)]
    assert sum(one is not None for one in taken) == 10


async def test_a_budget_that_is_not_shared_any_more_is_a_degraded_mode_told_once_and_so_is_its_return() -> None:
    fleet = Fleet(day=1.0)
    limited = fleet.budgets[-1]  # whose gauges are shown
    shown = []
    with capture_logs() as lines:
        for fleet.store.away in (False, False, True, True, False, False):
            await limited.refresh()
            mode = sample(fleet.metrics, "llm_provider_degraded_mode", mode="budget_local")
            shown.append((limited.is_local, mode))
    assert shown == [(is_local, float(is_local)) for is_local in (False, False, True, True, False, False)]
    assert lines == [
        {"event": "budget_local", "log_level": "warning", "replicas": 2},
        {"event": "budget_shared", "log_level": "info"},
    ]


@pytest.mark.parametrize(("day", "shared"), [(None, True), (1.0, False)])
async def test_without_limits_or_without_redis_nothing_is_degraded(day: float | None, *, shared: bool) -> None:
    fleet = Fleet(day=day, shared=shared)
    fleet.store.away = True
    with capture_logs() as lines:
        await fleet.budgets[0].refresh()
        await fleet.budgets[0].finish()
    assert (fleet.budgets[0].is_local, lines) == (False, [])
    assert fleet.budgets[0].spending().scope is UsageScope.REPLICA


def test_every_reason_of_a_refusal_is_shown_before_the_first() -> None:
    metrics = new_metrics()
    budget(cost_rules, metrics=metrics)
    for reason in ("day", "month", "unknown_price"):
        assert sample(metrics, "llm_provider_cost_limit_refusals_total", reason=reason) == 0.0


async def test_while_redis_is_away_a_replica_may_still_put_aside_its_part() -> None:
    fleet = Fleet(day=1.0, size=4)
    await fleet.budgets[3].refresh()
    assert fleet.budgets[3].left_usd(0) == pytest.approx(1.0)
    fleet.store.away = True
    assert await fleet.buys(3, 0.05)
    assert fleet.budgets[3].left_usd(0) == pytest.approx(0.2)
    assert sample(fleet.metrics, "llm_provider_budget_left_ratio", period="day") == pytest.approx(0.8)


@pytest.mark.parametrize(("limit_usd", "left"), [(None, 1.0), (4.0, 1.0), (0.0, 0.0)])
def test_a_replica_that_is_alone_measures_what_is_left_by_its_own_part(limit_usd: float | None, left: float) -> None:
    metrics = new_metrics()
    budget(lambda: cost_rules(limit_usd_per_day=limit_usd), metrics=metrics, replicas=4)

    assert sample(metrics, "llm_provider_budget_left_ratio", period="day") == left


async def test_what_is_left_is_shown_also_as_a_part_of_the_limit() -> None:
    fleet = Fleet(day=1.0)
    assert await fleet.buys(1, 0.25)
    await fleet.buys(0, 0.25)
    assert fleet.budgets[0].left_usd(0) == pytest.approx(0.5)
    await fleet.budgets[1].refresh()

    shown = {
        measure: [sample(fleet.metrics, f"llm_provider_budget_left_{measure}", period=one) for one in ("day", "month")]
        for measure in ("dollars", "ratio")
    }
    assert shown == {"dollars": [pytest.approx(0.5), inf], "ratio": [pytest.approx(0.5), 1.0]}


async def test_spending_is_told_for_the_fleet_once_it_was_heard() -> None:
    fleet = Fleet(day=1.0, month=None)
    assert fleet.budgets[0].spending().scope is UsageScope.REPLICA
    await fleet.buys(0, 0.2)
    await fleet.buys(1, 0.3)
    await fleet.reserves(1)
    await fleet.budgets[0].refresh()
    told = fleet.budgets[0].spending()
    assert told.scope is UsageScope.FLEET
    assert told.day == PeriodMoney(period=DAY, spent_usd=0.5, limit_usd=1.0, left_usd=0.4)
    assert told.month == PeriodMoney(period=MONTH, spent_usd=0.5, limit_usd=None, left_usd=None)
