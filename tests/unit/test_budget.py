"""Money is put aside before a call and settled after it, alone and in a fleet that shares one store."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain, cycle, repeat
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from api_models import AttemptOutcome, ProviderName, Purchase, UnknownPrice, Usage, UsageScope
from exceptions import CostLimitExceededError
from implementations.accounting.budget import Budget
from implementations.accounting.ceilings import Ceilings
from implementations.accounting.money import micro_usd
from implementations.accounting.prices import Prices
from implementations.accounting.shared_budget import AT_ONCE
from implementations.resilience.call import calling
from protocols import PeriodSpending, ProviderRequest, Reservation
from tests.fake_shared_budget import NOTHING, FakeSharedBudget
from tests.fakes import Calendar, Clock, budget, call, cost_rules, new_metrics, request, sample, settle

pytestmark = pytest.mark.usefixtures("patience_s")

CENT = 10_000
PRICED = 0.1  # what a call of unknown price is reserved at
DAY, TOMORROW, MONTH = "2026-11-23", "2026-11-24", "2026-11"

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


def bought(cost_usd: float | None) -> Purchase:
    return Purchase(model="m", usage=Usage(prompt=1, completion=1), cost_usd=cost_usd)


@dataclass
class Fleet:
    """Some replicas' budgets on one store, with limits in US dollars."""

    day: float | None = 1.0
    month: float | None = None
    size: int = 2
    shared: bool = True
    calendar: Calendar = field(default_factory=Calendar)

    def __post_init__(self) -> None:
        """Create the store and one budget for each replica."""
        self.store = FakeSharedBudget()
        self.metrics = new_metrics()
        rules = cost_rules(limit_usd_per_day=self.day, limit_usd_per_month=self.month, unknown_ceiling_usd=PRICED)
        self.budgets: Sequence[Budget] = [
            budget(
                lambda: rules,
                metrics=self.metrics,
                now=self.calendar,
                shared=self.store.of(f"replica-{number}") if self.shared else None,
                replicas=self.size,
            )
            for number in range(self.size)
        ]

    async def reserves(self, number: int = 0) -> Reservation | None:
        try:
            return await self.budgets[number].reserve(request())
        except CostLimitExceededError:
            return None

    async def buys(self, number: int, cost_usd: float | None) -> bool:
        reservation = await self.reserves(number)
        if reservation is None:
            return False
        self.budgets[number].settle(reservation, AttemptOutcome.SUCCESS, bought(cost_usd))
        await settle()
        return True


async def test_the_fleet_reserves_no_more_than_the_limit_however_many_ask_at_once() -> None:
    fleet = Fleet(day=1.0)
    taken = await asyncio.gather(*(fleet.reserves(number % 2) for number in range(50)))
    assert sum(one is not None for one in taken) == 10
    assert fleet.store.held[DAY] == micro_usd(1.0)
    assert sample(fleet.metrics, "llm_provider_cost_limit_refusals_total", reason="day") == 40.0


async def test_messages_that_overtake_each_other_grant_what_is_there_and_no_more() -> None:
    fleet = Fleet(day=1.0)
    fleet.store.turns = cycle([9, 1, 5, 2, 7])
    granted = 0
    for _ in range(5):
        taken = await asyncio.gather(*(fleet.reserves(number % 2) for number in range(8)))
        granted += sum(one is not None for one in taken)
        assert fleet.store.held[DAY] <= micro_usd(1.0)
    assert granted == 10


async def test_a_call_that_asks_for_too_much_takes_nothing_from_one_that_asks_with_it() -> None:
    fleet = Fleet(day=1.0, size=1)
    dear = replace(request(), provider=ProviderName.OPENAI)

    async def asks(asked: ProviderRequest) -> bool:
        try:
            return bool(await fleet.budgets[0].reserve(asked))
        except CostLimitExceededError:
            return False

    with patch.object(Ceilings, "of", lambda _, asked: micro_usd(2.0 if asked is dear else 0.05)):
        assert list(await asyncio.gather(asks(request()), asks(dear), asks(request()))) == [True, False, True]
        assert list(await asyncio.gather(asks(dear), asks(request()))) == [False, True]


async def test_an_answer_to_the_day_before_grants_what_was_asked_and_leaves_nothing_behind() -> None:
    fleet = Fleet(day=1.0, month=100.0, size=1)
    await fleet.budgets[0].refresh()
    fleet.store.turns = iter([1, 20, 1, 1, *repeat(1, 100)])
    asking = asyncio.create_task(fleet.reserves(0))
    await settle()
    fleet.calendar.move(days=1)
    await fleet.budgets[0].refresh()
    reservation = await asking
    assert reservation is not None
    fleet.budgets[0].settle(reservation, AttemptOutcome.SUCCESS, bought(0.02))
    await settle()
    await fleet.budgets[0].refresh()
    assert fleet.store.held[MONTH] == fleet.store.spent[MONTH] == micro_usd(0.02)


async def test_calls_that_gave_up_waiting_for_their_turn_send_nothing() -> None:
    fleet = Fleet(day=1.0)
    await fleet.budgets[0].refresh()
    before = fleet.store.messages
    fleet.store.goes_on.clear()
    asking = [asyncio.create_task(fleet.reserves(0)) for _ in range(100)]
    await settle()
    for one in asking[AT_ONCE:]:
        one.cancel()
    await settle()
    fleet.store.goes_on.set()
    await asyncio.gather(*asking, return_exceptions=True)
    await settle()
    assert fleet.store.messages - before <= AT_ONCE + 1
    assert fleet.store.held[DAY] == micro_usd(PRICED) * AT_ONCE


async def test_calls_that_gave_up_on_a_redis_that_hangs_do_not_try_it_one_after_the_other() -> None:
    fleet = Fleet(day=1.0)
    fleet.store.goes_on.clear()
    asking = [asyncio.create_task(fleet.reserves(0)) for _ in range(100)]
    await settle()
    for one in asking:
        one.cancel()
    await settle()
    fleet.store.away = True
    fleet.store.goes_on.set()
    await settle()
    assert fleet.store.messages == 1


async def test_the_first_calls_share_one_declaration() -> None:
    fleet = Fleet(day=1.0)
    await asyncio.gather(*(fleet.reserves(0) for _ in range(AT_ONCE)))
    assert fleet.store.messages == 1 + AT_ONCE


async def test_a_call_asks_a_redis_that_does_not_answer_only_once() -> None:
    fleet = Fleet(day=1.0)
    fleet.store.away = True
    assert await fleet.reserves(0) is not None
    assert fleet.store.messages == 1


async def test_a_caller_who_leaves_during_the_declaration_asks_for_nothing() -> None:
    fleet = Fleet(day=1.0)
    fleet.store.goes_on.clear()
    leaving = asyncio.create_task(fleet.reserves(0))
    await settle()
    leaving.cancel()
    await settle()
    fleet.store.goes_on.set()
    await settle()
    assert (fleet.store.messages, fleet.store.held[DAY]) == (1, 0)


async def test_a_round_that_is_cancelled_during_the_declaration_does_not_end_it_for_a_caller() -> None:
    fleet = Fleet(day=1.0)
    fleet.store.goes_on.clear()
    refreshing = asyncio.create_task(fleet.budgets[0].refresh())
    await settle()
    asking = asyncio.create_task(fleet.reserves(0))
    await settle()
    refreshing.cancel()
    await settle()
    fleet.store.goes_on.set()
    assert await asking is not None
    assert fleet.store.held[DAY] == micro_usd(PRICED)


async def test_a_declaration_that_crosses_midnight_is_no_silence_and_the_new_day_is_declared_next() -> None:
    fleet = Fleet(day=1.0)
    fleet.store.goes_on.clear()
    refreshing = asyncio.create_task(fleet.budgets[0].refresh())
    await settle()
    fleet.calendar.move(days=1)
    fleet.store.goes_on.set()
    await refreshing
    assert (fleet.store.messages, fleet.budgets[0].is_local) == (1, False)
    assert await fleet.reserves(0) is not None
    assert fleet.store.held == {DAY: 0, TOMORROW: micro_usd(PRICED), MONTH: micro_usd(PRICED)}


async def test_a_call_that_waited_for_its_turn_over_midnight_takes_nothing_of_the_new_day() -> None:
    fleet = Fleet(day=2.0, month=2.0, size=1)
    await fleet.budgets[0].refresh()
    fleet.store.goes_on.clear()
    asking = [asyncio.create_task(fleet.reserves(0)) for _ in range(AT_ONCE + 1)]
    await settle()
    fleet.calendar.move(days=1)
    fleet.store.goes_on.set()
    for reservation in await asyncio.gather(*asking):
        assert reservation is not None
        fleet.budgets[0].release(reservation)
    await settle()
    await fleet.budgets[0].refresh()
    assert (fleet.store.held[TOMORROW], fleet.store.held[MONTH]) == (0, 0)


async def test_a_grant_that_arrives_after_a_new_declaration_is_told_to_redis_again() -> None:
    fleet = Fleet(day=1.0)
    await fleet.budgets[0].refresh()
    fleet.store.turns = iter([1, 200, *repeat(1, 100)])
    asking = asyncio.create_task(fleet.reserves(0))
    await settle()
    fleet.store.loses_answers = True
    await fleet.budgets[0].refresh()
    fleet.store.loses_answers = False
    await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == 0
    assert await asking is not None
    await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == fleet.store.held[MONTH] == micro_usd(PRICED)


@pytest.mark.parametrize("is_lost", [False, True])
async def test_an_answer_from_before_a_loss_says_nothing_about_the_redis_of_now(*, is_lost: bool) -> None:
    fleet = Fleet(day=1.0)
    for _ in range(5):
        assert await fleet.buys(0, 0.01)
    fleet.store.turns = iter([1, 200, *repeat(1, 100)])
    asking = asyncio.create_task(fleet.reserves(0))
    await settle()
    fleet.store.forget()
    await fleet.budgets[0].refresh()
    assert fleet.budgets[0].is_local
    await fleet.budgets[0].refresh()
    fleet.store.loses_answers, sent = is_lost, fleet.store.messages
    while not asking.done() and fleet.store.messages == sent:  # noqa: ASYNC110  turn by turn
        await asyncio.sleep(0)
    fleet.store.loses_answers = False
    assert await asking is not None
    assert not fleet.budgets[0].is_local


async def test_a_refusal_of_the_fleet_stands_although_redis_lost_its_data_before_it_arrived() -> None:
    fleet = Fleet(day=2 * PRICED, size=2)
    for _ in range(2):
        assert await fleet.reserves(1) is not None
    await fleet.budgets[0].refresh()
    fleet.store.turns = iter([1, 200, *repeat(1, 100)])
    asking = asyncio.create_task(fleet.reserves(0))
    await settle()
    fleet.store.forget()
    for _ in range(2):
        await fleet.budgets[0].refresh()
    assert fleet.budgets[0].left_usd(0) == pytest.approx(PRICED), "the other's is not known any more"
    assert await asking is None


async def test_a_redis_that_forgot_no_more_than_the_last_message_is_told_again() -> None:
    fleet = Fleet(day=1.0)
    await fleet.budgets[0].refresh()
    older = fleet.store.snapshot()
    assert await fleet.reserves(0) is not None
    fleet.store.restore(older)
    for _ in range(2):
        await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == micro_usd(PRICED)


async def test_what_was_spent_is_told_although_it_is_no_less_than_was_put_aside() -> None:
    fleet = Fleet(day=1.0)
    assert await fleet.buys(0, PRICED)
    assert fleet.store.spent[DAY] == fleet.store.spent[MONTH] == micro_usd(PRICED)


async def test_what_is_settled_while_a_message_is_under_way_is_told_right_after_it() -> None:
    fleet = Fleet(day=1.0)
    first, second = await fleet.reserves(0), await fleet.reserves(0)
    assert first is not None
    assert second is not None
    fleet.store.goes_on.clear()
    fleet.budgets[0].release(first)
    await settle()
    fleet.budgets[0].release(second)
    fleet.store.goes_on.set()
    await settle()
    assert fleet.store.held[DAY] == 0


async def test_a_redis_that_does_not_answer_is_left_alone_until_the_next_round() -> None:
    fleet = Fleet(day=1.0)
    first, second = await fleet.reserves(0), await fleet.reserves(0)
    assert first is not None
    assert second is not None
    fleet.store.goes_on.clear()
    fleet.budgets[0].release(first)
    await settle()
    fleet.budgets[0].release(second)
    fleet.store.away = True
    before = fleet.store.messages
    fleet.store.goes_on.set()
    await settle()
    assert fleet.store.messages == before
    fleet.store.away = False
    await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == 0


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
    reservation = await fleet.reserves(0)
    assert reservation is not None
    fleet.calendar.move(days=1)
    fleet.budgets[0].settle(reservation, AttemptOutcome.SUCCESS, bought(0.1))
    assert await fleet.reserves(0) is not None


@pytest.mark.parametrize("outcome", list(AttemptOutcome))
async def test_a_failure_without_a_bill_costs_nothing_unless_the_provider_may_have_worked(
    outcome: AttemptOutcome,
) -> None:
    fleet = Fleet(shared=False)
    reservation = await fleet.reserves()
    assert reservation is not None
    fleet.budgets[0].settle(reservation, outcome, None)
    day, _ = reservation.accounts
    assert day.held == day.spent == (0 if outcome in NEVER_BILLED else micro_usd(PRICED))


@pytest.mark.parametrize("outcome", list(AttemptOutcome))
async def test_a_bill_of_unknown_price_costs_the_ceiling_however_the_call_ended(outcome: AttemptOutcome) -> None:
    fleet = Fleet(shared=False)
    reservation = await fleet.reserves()
    assert reservation is not None
    fleet.budgets[0].settle(reservation, outcome, bought(None))
    day, month = reservation.accounts
    assert day.held == day.spent == month.held == month.spent == micro_usd(PRICED)


async def test_a_failure_with_a_bill_costs_what_was_billed_and_is_settled_once() -> None:
    fleet = Fleet(shared=False)
    reservation = await fleet.reserves()
    assert reservation is not None
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
        lambda: cost_rules(limit_usd_per_day=0.0), metrics=new_metrics(), prices=Prices({}, now=calendar), now=calendar
    )
    assert (await poor.reserve(request(provider=ProviderName.MOCK))).ceiling == 0
    with pytest.raises(CostLimitExceededError):
        await poor.reserve(request(provider=ProviderName.OPENAI, model="gpt-6-luna"))


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
    asking = asyncio.create_task(limited.reserve(request()))
    await settle()
    rules.append(cost_rules())
    store.goes_on.set()
    with pytest.raises(CostLimitExceededError):
        await asking
    assert (await limited.reserve(request())).ceiling > 0


async def test_without_redis_each_replica_keeps_to_its_part() -> None:
    fleet = Fleet(day=1.0, shared=False)
    taken = [await fleet.reserves(number % 2) for number in range(50)]
    assert sum(one is not None for one in taken) == 10


async def test_while_redis_is_away_each_replica_keeps_to_its_part_and_to_what_it_knows_of_the_others() -> None:
    fleet = Fleet(day=1.0)
    for _ in range(9):
        assert await fleet.buys(0, 0.1)
    await fleet.budgets[1].refresh()
    fleet.store.away = True
    assert [await fleet.buys(1, 0.1) for _ in range(3)] == [True, False, False]
    assert not await fleet.buys(0, 0.1)
    assert fleet.budgets[1].is_local


async def test_what_was_spent_while_redis_was_away_is_merged_when_it_returns() -> None:
    fleet = Fleet(day=1.0)
    fleet.store.away = True
    for _ in range(4):
        assert await fleet.buys(0, 0.1)
    fleet.store.away = False
    await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == fleet.store.spent[DAY] == 40 * CENT
    assert not fleet.budgets[0].is_local


async def test_what_was_put_aside_while_redis_was_away_is_told_when_it_returns() -> None:
    fleet = Fleet(day=1.0)
    fleet.store.away = True
    reservation = await fleet.reserves(0)
    assert reservation is not None
    fleet.store.away = False
    await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == micro_usd(PRICED)
    fleet.budgets[0].release(reservation)
    await settle()
    assert fleet.store.held[DAY] == 0


async def test_an_answer_that_was_lost_counts_once() -> None:
    fleet = Fleet(day=1.0, size=1)
    assert await fleet.buys(0, 0.1)
    fleet.store.loses_answers = True
    assert await fleet.buys(0, 0.1)
    fleet.store.loses_answers = False
    await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == fleet.store.spent[DAY] == 20 * CENT


async def test_a_redis_that_lost_everything_is_told_again_by_each_replica() -> None:
    fleet = Fleet(day=1.0)
    for number in (0, 1):
        assert await fleet.buys(number, 0.3)
    fleet.store.forget()
    for _ in range(2):
        for one in fleet.budgets:
            await one.refresh()
    assert fleet.store.held[DAY] == 60 * CENT


async def test_calls_that_find_that_redis_lost_everything_get_what_is_left_of_the_limit_not_of_a_part() -> None:
    fleet = Fleet(day=1.0)
    for _ in range(5):
        assert await fleet.buys(0, 0.1)
    fleet.store.forget()
    taken = await asyncio.gather(*(fleet.reserves(0) for _ in range(AT_ONCE)))
    assert sum(one is not None for one in taken) == 5
    assert fleet.store.held[DAY] == micro_usd(1.0)


async def test_a_redis_that_went_back_to_older_figures_is_told_again_by_each_replica() -> None:
    fleet = Fleet(day=1.0)
    assert await fleet.buys(0, 0.1)
    assert await fleet.buys(1, 0.1)
    older = fleet.store.snapshot()
    for number in (0, 1, 0, 1):
        assert await fleet.buys(number, 0.15)
    fleet.store.restore(older)
    for one in fleet.budgets:
        await one.refresh()
        await one.refresh()
    assert fleet.store.held[DAY] == fleet.store.spent[DAY] == 80 * CENT


async def test_a_redis_that_went_back_after_a_second_declaration_is_told_again() -> None:
    fleet = Fleet(day=5.0, size=1)
    for _ in range(5):
        assert await fleet.buys(0, 0.1)
    fleet.store.loses_answers = True
    await fleet.budgets[0].refresh()
    fleet.store.loses_answers = False
    await fleet.budgets[0].refresh()
    assert await fleet.buys(0, 0.1)
    older = fleet.store.snapshot()
    assert await fleet.buys(0, 0.1)
    fleet.store.restore(older)
    for _ in range(2):
        await fleet.budgets[0].refresh()
    assert fleet.store.spent[DAY] == 70 * CENT


async def test_a_redis_that_went_back_while_messages_were_on_their_way_is_told_again() -> None:
    fleet = Fleet(day=1.0, size=1)
    assert await fleet.buys(0, 0.1)
    older = fleet.store.snapshot()
    answered = AT_ONCE // 2
    fleet.store.turns = chain([1] * answered, [100] * (AT_ONCE - answered), repeat(1))
    asking = [asyncio.create_task(fleet.reserves(0)) for _ in range(AT_ONCE)]
    await settle()
    assert fleet.store.held[DAY] == 10 * CENT + micro_usd(PRICED) * answered
    fleet.store.restore(older)
    assert all(await asyncio.gather(*asking))
    for _ in range(2):
        await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == 10 * CENT + micro_usd(PRICED) * AT_ONCE


async def test_who_comes_back_first_to_a_redis_that_lost_everything_does_not_get_what_the_others_spent() -> None:
    fleet = Fleet(day=1.0)
    for number in (0, 1):
        assert await fleet.buys(number, 0.48)
    await fleet.budgets[0].refresh()
    fleet.store.forget()
    assert [await fleet.buys(0, 0.1) for _ in range(3)] == [False] * 3
    assert fleet.budgets[0].spent(DAY) == 96 * CENT
    for one in (*fleet.budgets, *fleet.budgets):
        await one.refresh()
    assert fleet.store.held[DAY] == 96 * CENT


async def test_what_a_redis_that_forgot_should_not_have_granted_is_refused_and_released() -> None:
    fleet = Fleet(day=1.0, size=2)
    for number in (0, 1):
        assert await fleet.buys(number, 0.48)
    await fleet.budgets[0].refresh()
    fleet.store.forget()
    await fleet.budgets[0].refresh()
    await fleet.budgets[0].refresh()
    before = fleet.store.messages
    assert await fleet.reserves(0) is None
    await settle()
    assert fleet.store.held[DAY] == 48 * CENT
    assert fleet.store.messages == before + 2, "the reservation, and its release"
    assert not fleet.budgets[0].is_local


async def test_an_answer_that_crosses_midnight_belongs_to_the_day_before() -> None:
    fleet = Fleet(day=1.0)
    for _ in range(5):
        assert await fleet.buys(0, 0.01)
    fleet.store.goes_on.clear()
    late = asyncio.create_task(fleet.reserves(0))
    await settle()
    fleet.calendar.move(days=1)
    fleet.store.goes_on.set()
    await late
    messages = fleet.store.messages
    assert await fleet.reserves(0)
    assert fleet.store.messages <= messages + 2, "at most one declaration, and the reservation"
    assert await fleet.reserves(0)
    assert fleet.store.messages <= messages + 3


async def test_a_caller_who_leaves_while_money_is_put_aside_leaves_none_behind() -> None:
    fleet = Fleet(day=1.0)
    leaving = [asyncio.create_task(fleet.reserves(0)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await settle()
    await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == 0


async def test_what_is_granted_to_a_caller_who_left_is_given_back_at_once() -> None:
    fleet = Fleet(day=PRICED)
    await fleet.budgets[0].refresh()
    fleet.store.goes_on.clear()
    leaving = asyncio.create_task(fleet.reserves(0))
    await settle()
    leaving.cancel()
    await settle()
    fleet.store.goes_on.set()
    await settle()
    assert fleet.store.held[DAY] == 0
    assert await fleet.reserves(1) is not None


async def test_the_end_waits_for_what_was_asked_for_a_caller_who_left_and_gives_it_back() -> None:
    fleet = Fleet(day=1.0)
    await fleet.budgets[0].refresh()
    fleet.store.goes_on.clear()
    leaving = asyncio.create_task(fleet.reserves(0))
    await settle()
    leaving.cancel()
    finishing = asyncio.create_task(fleet.budgets[0].finish())
    await settle()
    assert not finishing.done()
    fleet.store.goes_on.set()
    await finishing
    assert fleet.store.held[DAY] == 0


async def test_what_was_spent_just_before_the_end_is_told_before_it() -> None:
    fleet = Fleet(day=1.0)
    reservation = await fleet.reserves(0)
    assert reservation is not None
    fleet.budgets[0].settle(reservation, AttemptOutcome.SUCCESS, bought(0.03))
    await fleet.budgets[0].finish()
    assert fleet.store.held[DAY] == fleet.store.spent[DAY] == 3 * CENT


async def test_what_was_spent_while_redis_was_away_is_told_at_the_end() -> None:
    fleet = Fleet(day=1.0)
    fleet.store.away = True
    assert await fleet.buys(0, 0.03)
    fleet.store.away = False
    await fleet.budgets[0].finish()
    assert fleet.store.held[DAY] == fleet.store.spent[DAY] == 3 * CENT


async def test_a_redis_that_is_slow_gets_no_more_time_than_the_call_has_for_it_and_no_money_is_lost(
    patience_s: float,
) -> None:
    fleet = Fleet(day=1.0)
    await fleet.budgets[0].refresh()
    fleet.store.goes_on.clear()
    with calling(call(Clock())) as running:
        running.record.redis_s = patience_s
        reservation = await fleet.reserves(0)
    assert reservation is not None
    fleet.store.goes_on.set()
    await settle()
    fleet.budgets[0].release(reservation)
    await settle()
    assert fleet.store.held[DAY] == 0


async def test_a_budget_that_is_not_shared_any_more_is_told_once_and_so_is_its_return() -> None:
    fleet = Fleet(day=1.0)
    limited = fleet.budgets[0]
    shown = []
    with capture_logs() as lines:
        for fleet.store.away in (False, False, True, True, False, False):
            await limited.refresh()
            shown.append(limited.is_local)
    assert shown == [False, False, True, True, False, False]
    assert lines == [
        {"event": "budget_local", "log_level": "warning", "replicas": 2},
        {"event": "budget_shared", "log_level": "info"},
    ]


async def test_a_budget_that_is_not_shared_is_a_degraded_mode() -> None:
    fleet = Fleet(day=1.0, size=1)
    await fleet.budgets[0].refresh()
    assert sample(fleet.metrics, "llm_provider_degraded_mode", mode="budget_local") == 0.0
    fleet.store.away = True
    await fleet.budgets[0].refresh()
    assert sample(fleet.metrics, "llm_provider_degraded_mode", mode="budget_local") == 1.0


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


async def test_what_is_left_is_shown() -> None:
    fleet = Fleet(day=1.0)
    assert sample(fleet.metrics, "llm_provider_budget_left_dollars", period="month") == float("inf")
    assert await fleet.buys(1, 0.25)
    await fleet.buys(0, 0.25)
    assert fleet.budgets[0].left_usd(0) == pytest.approx(0.5)


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


async def test_what_is_left_is_also_shown_as_a_part_of_the_limit() -> None:
    fleet = Fleet(day=1.0)
    assert await fleet.buys(1, 0.25)
    await fleet.buys(0, 0.25)
    await fleet.budgets[1].refresh()

    ratios = [sample(fleet.metrics, "llm_provider_budget_left_ratio", period=period) for period in ("day", "month")]
    assert ratios == [pytest.approx(0.5), 1.0]


async def test_spending_is_told_for_the_fleet_once_it_was_heard() -> None:
    fleet = Fleet(day=1.0, month=None)
    assert fleet.budgets[0].spending().scope is UsageScope.REPLICA
    await fleet.buys(0, 0.2)
    await fleet.buys(1, 0.3)
    await fleet.reserves(1)
    await fleet.budgets[0].refresh()
    told = fleet.budgets[0].spending()
    assert told.scope is UsageScope.FLEET
    assert told.day == PeriodSpending(period=DAY, spent_usd=0.5, limit_usd=1.0, left_usd=0.4)
    assert told.month == PeriodSpending(period=MONTH, spent_usd=0.5, limit_usd=None, left_usd=None)


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["reserve", "settle", "refresh", "away", "back", "lose", "keep", "save", "go back", "forget"],
        ),
        st.integers(0, 1),
        st.integers(0, 10 * CENT),
    ),
    max_size=40,
)


class Race:
    """Two replicas that do what is drawn, some of it at once."""

    def __init__(self) -> None:
        self.fleet = Fleet(day=0.5)
        self.open: list[tuple[int, Reservation]] = []
        self.spent = 0
        self.saved = self.fleet.store.snapshot()

    async def does(self, step: Step) -> None:
        verb, who, amount = step
        store = self.fleet.store
        match verb:
            case "reserve":
                for one in await asyncio.gather(*(self.fleet.reserves(who) for _ in range(1 + amount % 3))):
                    if one is not None:
                        self.open.append((who, one))
            case "settle" if self.open:
                who, reservation = self.open.pop(amount % len(self.open))
                self.spent += amount
                self.fleet.budgets[who].settle(reservation, AttemptOutcome.SUCCESS, bought(amount / 1e6))
            case "refresh":
                await self.fleet.budgets[who].refresh()
            case "away" | "back":
                store.away = verb == "away"
            case "lose" | "keep":
                store.loses_answers = verb == "lose"
            case "save":
                self.saved = store.snapshot()
            case "go back" | "forget":
                store.restore(self.saved if verb == "go back" else NOTHING)

    @property
    def held(self) -> int:
        return self.spent + sum(one.ceiling for _, one in self.open)


@given(STEPS)
async def test_reserved_is_settled_plus_open_whatever_redis_does(steps: list[Step]) -> None:
    race = Race()
    for step in steps:
        await race.does(step)
    race.fleet.store.away = race.fleet.store.loses_answers = False
    for _ in range(2):
        for one in race.fleet.budgets:
            await settle()
            await one.refresh()
    assert race.fleet.store.held.get(DAY, 0) == race.held
    assert race.fleet.store.spent.get(DAY, 0) == race.spent


@given(STEPS, st.lists(st.integers(1, 6), min_size=1, max_size=20))
async def test_two_replicas_that_race_for_the_last_cent_never_overspend_while_redis_answers(
    steps: list[Step], turns: list[int]
) -> None:
    race = Race()
    race.fleet.store.turns = cycle(turns)
    for step in steps:
        if step[0] not in {"away", "lose", "go back", "forget"}:
            await race.does(step)
            assert race.held <= micro_usd(0.5)
            assert race.fleet.store.held.get(DAY, 0) <= micro_usd(0.5)
