"""Who is asked first under each strategy."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from api_models import AttemptOutcome, ProviderName, Purchase, SelectionStrategy
from implementations.selection.ranking import EXPLORATION_INTERVAL, KEPT_ORDERS, Ranking
from protocols import CacheUse, Rates
from tests.fakes import (
    TEXTS,
    Calendar,
    Clock,
    FixedPrices,
    accounting_of,
    current_settings,
    new_metrics,
    query,
    reply,
    request,
)

A, B, C = ProviderName.ANTHROPIC, ProviderName.OPENAI, ProviderName.GOOGLE
NAMES = (A, B, C)


class PriceList:
    """Rates by provider; who is not listed has no known price."""

    def __init__(self, rates: dict[ProviderName, Rates]) -> None:
        self._rates = rates

    def rates(self, provider: ProviderName, model: str) -> Rates | None:
        return self._rates.get(provider)

    def cost_usd(self, provider: ProviderName, purchase: Purchase, *, asked: str) -> float | None:
        return None


def rates(input_usd: float, output_usd: float) -> Rates:
    return Rates(input=input_usd, cached_input=0.0, cache_write=0.0, output=output_usd)


class Harness:
    """A ranking and its accounting."""

    def __init__(self, prices: dict[ProviderName, Rates] | None = None) -> None:
        self.calendar, self.clock = Calendar(), Clock()
        self.accounting = accounting_of(FixedPrices(0.0), metrics=new_metrics(), now=self.calendar, clock=self.clock)
        self.ranking = Ranking(prices=PriceList(prices or {}), accounting=self.accounting, chance=Random(7))

    def order(self, strategy: SelectionStrategy, *, essay: str = "short", **more: Any) -> list[ProviderName]:
        """Of a question whose answer is not kept."""
        return self.order_of(strategy, essay=essay, cache_use=CacheUse.BYPASS, **more)

    def order_of(self, strategy: SelectionStrategy, *, essay: str = "short", **more: Any) -> list[ProviderName]:
        """Of a question whose answer may be known."""
        settings = current_settings(selection_strategy=strategy)
        return list(self.ranking.ranked(NAMES, query(essay_a=essay, **more), settings))

    def answered(self, name: ProviderName, *, within_s: float) -> None:
        self.accounting.started(request(provider=name))
        self.accounting.succeeded(request(provider=name), reply(provider=name), within_s)


def test_by_priority_the_order_is_the_operators() -> None:
    assert Harness().order(SelectionStrategy.PRIORITY) == list(NAMES)


def test_round_robin_gives_everybody_the_same_share() -> None:
    harness = Harness()
    firsts = Counter(harness.order(SelectionStrategy.ROUND_ROBIN)[0] for _ in range(30))
    assert firsts == {A: 10, B: 10, C: 10}


def test_at_random_everybody_comes_first_at_times() -> None:
    harness = Harness()
    orders = [harness.order(SelectionStrategy.RANDOM) for _ in range(300)]
    assert all(sorted(order) == sorted(NAMES) for order in orders)
    assert min(Counter(order[0] for order in orders).values()) > 50


def test_the_cheapest_for_this_size_comes_first_and_an_unknown_price_last() -> None:
    harness = Harness({B: rates(1.0, 10.0), C: rates(5.0, 1.0)})
    assert harness.order(SelectionStrategy.LEAST_COST) == [C, B, A]
    assert harness.order(SelectionStrategy.LEAST_COST, essay="long " * 4000) == [B, C, A]


@pytest.mark.parametrize("letter", ["x", "\u05d0"], ids=["one byte", "two bytes"])
@pytest.mark.parametrize(("size_bytes", "first"), [(1596, B), (1604, A)])
def test_the_size_counts_in_tokens_beside_those_of_a_usual_answer(
    size_bytes: int, first: ProviderName, letter: str
) -> None:
    harness = Harness({A: rates(1.0, 2.0), B: rates(2.0, 1.0)})
    letters = (size_bytes - query(essay_a="").size_bytes) // len(letter.encode())
    assert harness.order(SelectionStrategy.LEAST_COST, essay=letter * letters)[0] is first


def test_of_equal_price_the_one_with_fewer_calls_under_way_comes_first() -> None:
    harness = Harness(dict.fromkeys(NAMES, rates(1.0, 1.0)))
    harness.accounting.started(request(provider=A))
    assert harness.order(SelectionStrategy.LEAST_COST) == [B, C, A]


def test_the_quickest_comes_first_and_who_was_never_asked_before_all() -> None:
    harness = Harness()
    harness.answered(A, within_s=2.0)
    harness.answered(B, within_s=0.001)
    assert harness.order(SelectionStrategy.LEAST_LATENCY) == [C, B, A]


@pytest.mark.parametrize(("within_s", "first"), [(1.03, B), (1.06, A)], ids=["within a step", "a step slower"])
def test_of_about_the_same_latency_the_one_with_fewer_calls_under_way_comes_first(
    within_s: float, first: ProviderName
) -> None:
    harness = Harness()
    for name, took_s in ((A, 1.01), (B, within_s), (C, 9.0)):
        harness.answered(name, within_s=took_s)
    harness.accounting.started(request(provider=A))
    assert harness.order(SelectionStrategy.LEAST_LATENCY)[0] is first


@pytest.mark.parametrize("step_minutes", [5, -60], ids=["goes on", "is set back"])
def test_now_and_then_whoever_was_not_asked_for_longest_goes_first_whatever_the_wall_clock_does(
    step_minutes: int,
) -> None:
    harness = Harness()
    harness.answered(B, within_s=1.5)
    harness.clock.advance(300.0)
    harness.calendar.move(minutes=step_minutes)
    harness.answered(A, within_s=1.0)
    harness.answered(C, within_s=2.0)
    orders = [harness.order(SelectionStrategy.LEAST_LATENCY) for _ in range(EXPLORATION_INTERVAL)]
    assert [order[0] for order in orders] == [A] * (EXPLORATION_INTERVAL - 1) + [B]
    assert orders[-1] == [B, A, C]


def test_now_and_then_who_was_never_asked_goes_before_who_never_succeeded() -> None:
    harness = Harness()
    harness.accounting.started(request(provider=A))
    harness.accounting.failed(request(provider=A), AttemptOutcome.UNAVAILABLE, 1.0, None)
    orders = [harness.order(SelectionStrategy.LEAST_LATENCY) for _ in range(EXPLORATION_INTERVAL)]
    assert [order[0] for order in orders] == [A] * (EXPLORATION_INTERVAL - 1) + [B]


@pytest.mark.parametrize("strategy", SelectionStrategy)
def test_the_same_question_keeps_its_order_whatever_happens_meanwhile(strategy: SelectionStrategy) -> None:
    harness = Harness(dict.fromkeys(NAMES, rates(1.0, 1.0)))
    first = harness.order_of(strategy)
    for number in range(EXPLORATION_INTERVAL + 1):
        harness.accounting.started(request(provider=first[0]))
        harness.answered(first[1], within_s=0.1)
        harness.order_of(strategy, essay=f"another one, number {number}")
    assert harness.order_of(strategy) == first


@pytest.mark.parametrize("strategy", SelectionStrategy)
def test_a_pair_and_the_swapped_pair_go_to_the_same_judge(strategy: SelectionStrategy) -> None:
    harness = Harness(dict.fromkeys(NAMES, rates(1.0, 1.0)))
    for number in range(EXPLORATION_INTERVAL + 1):
        one, other = f"essay {number}", f"another essay {number}"
        first = harness.order_of(strategy, essay=one, essay_b=other)
        harness.accounting.started(request(provider=first[0]))
        harness.answered(first[1], within_s=0.1)
        assert harness.order_of(strategy, essay=other, essay_b=one) == first


@pytest.mark.parametrize("part", [*TEXTS, "replicate"])
def test_another_question_or_an_independent_judgement_takes_its_own_turn(part: str) -> None:
    ranking, settings = Harness().ranking, current_settings(selection_strategy=SelectionStrategy.ROUND_ROBIN)
    others: list[Any] = [0, 1, 2] if part == "replicate" else ["a", "b", "c"]
    first = {ranking.ranked(NAMES, query(**{part: other}), settings)[0] for other in others}
    assert first == set(NAMES), "what is part of the question, in selection/ranking.py"


@pytest.mark.parametrize("strategy", SelectionStrategy)
def test_a_question_is_ranked_anew_among_others_than_before(strategy: SelectionStrategy) -> None:
    ranking, settings = Harness().ranking, current_settings(selection_strategy=strategy)
    for names in ((A, B), (A, C), (C,), (A, B, C)):
        assert sorted(ranking.ranked(names, query(), settings)) == sorted(names)


def test_each_replica_has_an_order_of_its_own() -> None:
    here, there = Harness(), Harness()
    there.order_of(SelectionStrategy.ROUND_ROBIN, essay="another one")
    assert here.order_of(SelectionStrategy.ROUND_ROBIN) != there.order_of(SelectionStrategy.ROUND_ROBIN)


def test_a_strategy_that_is_changed_ranks_anew_and_old_orders_are_forgotten() -> None:
    harness = Harness({A: rates(3.0, 3.0), B: rates(2.0, 2.0), C: rates(1.0, 1.0)})
    assert harness.order_of(SelectionStrategy.ROUND_ROBIN) == [B, C, A]
    assert harness.order_of(SelectionStrategy.LEAST_COST) == [C, B, A]
    for number in range(KEPT_ORDERS + 1):
        harness.order_of(SelectionStrategy.ROUND_ROBIN, essay=str(number))
    assert harness.order_of(SelectionStrategy.ROUND_ROBIN) == [C, A, B]


@pytest.mark.parametrize("strategy", SelectionStrategy)
def test_nobody_can_be_ranked_in_any_way(strategy: SelectionStrategy) -> None:
    ranking, settings = Harness().ranking, current_settings(selection_strategy=strategy)
    for _ in range(EXPLORATION_INTERVAL):
        assert list(ranking.ranked((), query(), settings)) == []
