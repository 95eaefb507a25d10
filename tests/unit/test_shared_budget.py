"""Money in a fleet that shares one store: messages that cross, get lost or come late, and a store that forgets."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, cycle, repeat
from unittest.mock import patch

import pytest

from api_models import AttemptOutcome, ProviderName
from exceptions import CostLimitExceededError
from implementations.accounting.ceilings import Ceilings
from implementations.accounting.money import micro_usd
from implementations.accounting.shared_budget import AT_ONCE, Entry
from implementations.resilience.call import calling
from protocols import ProviderRequest
from tests.fake_shared_budget import FakeBudgetStore
from tests.fakes import Clock, begun, call, request, sample, settle
from tests.fleet import CENT, DAY, MONTH, PRICED, TOMORROW, Fleet, bought

pytestmark = pytest.mark.usefixtures("redis_timeout_s")


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
    assert fleet.store.messages == 2 + 5 * 8, "a declaration of each replica, and all questions in that epoch"


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
    fleet.store.delay_next_reply()
    asking = await begun(fleet.reserves(0))
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


async def test_a_redis_that_answers_to_declarations_alone_leaves_each_replica_its_part() -> None:
    fleet, exchange = Fleet(day=1.0), FakeBudgetStore.exchange

    async def answers_declarations(
        store: FakeBudgetStore, verb: str, epoch: int, entries: Sequence[Entry], *, ceiling: int
    ) -> list[int] | None:
        reply = await exchange(store, verb, epoch, entries, ceiling=ceiling)
        return reply if verb == "declare" else None

    with patch.object(FakeBudgetStore, "exchange", answers_declarations):
        assert await fleet.reserves(0) is not None


async def left_before_the_answer(fleet: Fleet) -> None:
    """A caller of the first replica, while the store is silent; then it answers."""
    fleet.store.goes_on.clear()
    leaving = await begun(fleet.reserves(0))
    leaving.cancel()
    await settle()
    fleet.store.goes_on.set()
    await settle()


async def test_a_caller_who_leaves_during_the_declaration_asks_for_nothing() -> None:
    fleet = Fleet(day=1.0)
    await left_before_the_answer(fleet)
    assert (fleet.store.messages, fleet.store.held[DAY]) == (1, 0)


async def test_a_round_that_is_cancelled_during_the_declaration_does_not_end_it_for_a_caller() -> None:
    fleet = Fleet(day=1.0)
    fleet.store.goes_on.clear()
    refreshing = await begun(fleet.budgets[0].refresh())
    asking = await begun(fleet.reserves(0))
    refreshing.cancel()
    await settle()
    fleet.store.goes_on.set()
    assert await asking is not None
    assert fleet.store.held[DAY] == micro_usd(PRICED)


async def test_a_declaration_that_crosses_midnight_is_no_silence_and_the_new_day_is_declared_next() -> None:
    fleet = Fleet(day=1.0)
    fleet.store.goes_on.clear()
    refreshing = await begun(fleet.budgets[0].refresh())
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
    fleet.store.delay_next_reply()
    asking = await begun(fleet.reserves(0))
    fleet.store.loses_answers = True
    await fleet.budgets[0].refresh()
    fleet.store.loses_answers = False
    await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == 0
    assert await asking is not None
    assert not fleet.budgets[0].is_local
    await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == fleet.store.held[MONTH] == micro_usd(PRICED)


@pytest.mark.parametrize("is_lost", [False, True])
async def test_an_answer_from_before_a_loss_says_nothing_about_the_redis_of_now(*, is_lost: bool) -> None:
    fleet = Fleet(day=1.0)
    for _ in range(5):
        assert await fleet.buys(0, 0.01)
    fleet.store.delay_next_reply()
    asking = await begun(fleet.reserves(0))
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
    assert fleet.store.messages == sent + 1, "the epoch of now goes on"


async def test_a_refusal_of_the_fleet_stands_although_redis_lost_its_data_before_it_arrived() -> None:
    fleet = Fleet(day=2 * PRICED, size=2)
    for _ in range(2):
        assert await fleet.reserves(1) is not None
    await fleet.budgets[0].refresh()
    fleet.store.delay_next_reply()
    asking = await begun(fleet.reserves(0))
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


async def releases_twice(fleet: Fleet) -> None:
    """The message that tells of the first release is under way, and the store holds it up, when the second follows."""
    first, second = await fleet.reserved(0), await fleet.reserved(0)
    fleet.store.goes_on.clear()
    fleet.budgets[0].release(first)
    await settle()
    fleet.budgets[0].release(second)


async def test_what_is_settled_while_a_message_is_under_way_is_told_right_after_it() -> None:
    fleet = Fleet(day=1.0)
    await releases_twice(fleet)
    fleet.store.goes_on.set()
    await settle()
    assert fleet.store.held[DAY] == 0


async def test_a_redis_that_does_not_answer_is_left_alone_until_the_next_round() -> None:
    fleet = Fleet(day=1.0)
    await releases_twice(fleet)
    fleet.store.away = True
    before = fleet.store.messages
    fleet.store.goes_on.set()
    await settle()
    assert fleet.store.messages == before
    fleet.store.away = False
    await fleet.budgets[0].refresh()
    assert fleet.store.held[DAY] == 0


async def test_while_redis_is_away_each_replica_keeps_to_its_part_and_to_what_it_knows_of_the_others() -> None:
    fleet = Fleet(day=1.0)
    for _ in range(9):
        assert await fleet.buys(0, 0.1)
    await fleet.budgets[1].refresh()
    fleet.store.away = True
    assert [await fleet.buys(1, 0.1) for _ in range(3)] == [True, False, False]
    assert fleet.budgets[1].left_usd(0) == 0.0
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
    reservation = await fleet.reserved(0)
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


@pytest.mark.parametrize(("day", "month"), [(1.0, None), (None, 1.0)])
async def test_what_a_redis_that_forgot_should_not_have_granted_is_refused_and_released(
    day: float | None, month: float | None
) -> None:
    fleet = Fleet(day=day, month=month, size=2)
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
    late = await begun(fleet.reserves(0))
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
    await left_before_the_answer(fleet)
    assert fleet.store.held[DAY] == 0
    assert await fleet.reserves(1) is not None


async def test_the_end_waits_for_what_was_asked_for_a_caller_who_left_and_gives_it_back() -> None:
    fleet = Fleet(day=1.0)
    await fleet.budgets[0].refresh()
    fleet.store.goes_on.clear()
    leaving = await begun(fleet.reserves(0))
    leaving.cancel()
    finishing = await begun(fleet.budgets[0].finish())
    assert not finishing.done()
    fleet.store.goes_on.set()
    await finishing
    assert fleet.store.held[DAY] == 0


async def test_what_was_spent_just_before_the_end_is_told_before_it() -> None:
    fleet = Fleet(day=1.0)
    reservation = await fleet.reserved(0)
    fleet.budgets[0].settle(reservation, AttemptOutcome.SUCCESS, bought(0.03))
    await fleet.budgets[0].finish()
    assert fleet.store.held[DAY] == fleet.store.spent[DAY] == 3 * CENT


async def test_what_another_replica_put_aside_is_left_neither_today_nor_this_month() -> None:
    fleet = Fleet(day=1.0, month=2.0)
    assert await fleet.reserves(1) is not None
    await fleet.budgets[0].refresh()
    assert [fleet.budgets[0].left_usd(index) for index in (0, 1)] == pytest.approx([1.0 - PRICED, 2.0 - PRICED])


async def test_what_a_call_of_yesterday_spends_is_told_for_the_month() -> None:
    fleet = Fleet(day=1.0, month=100.0, size=1)
    reservation = await fleet.reserved(0)
    fleet.calendar.move(days=1)
    await fleet.budgets[0].refresh()
    fleet.budgets[0].settle(reservation, AttemptOutcome.SUCCESS, bought(0.02))
    await fleet.budgets[0].finish()
    assert fleet.store.held[MONTH] == fleet.store.spent[MONTH] == micro_usd(0.02)


@pytest.mark.parametrize("rounds_in_vain", [0, 1])
async def test_what_was_spent_while_redis_was_away_is_told_at_the_end(rounds_in_vain: int) -> None:
    fleet = Fleet(day=1.0)
    fleet.store.away = True
    assert await fleet.buys(0, 0.03)
    for _ in range(rounds_in_vain):
        await fleet.budgets[0].refresh()
    fleet.store.away = False
    await fleet.budgets[0].finish()
    assert fleet.store.held[DAY] == fleet.store.spent[DAY] == 3 * CENT


async def test_a_redis_that_is_slow_gets_no_more_time_than_the_call_has_for_it_and_no_money_is_lost(
    redis_timeout_s: float,
) -> None:
    fleet = Fleet(day=1.0)
    await fleet.budgets[0].refresh()
    fleet.store.goes_on.clear()
    with calling(call(Clock())) as running:
        running.record.redis_s = redis_timeout_s
        reservation = await fleet.reserved(0)
    fleet.store.goes_on.set()
    await settle()
    fleet.budgets[0].release(reservation)
    await settle()
    assert fleet.store.held[DAY] == 0
