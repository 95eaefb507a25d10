"""Ranks the usable providers by the strategy in force. By cost and latency, ties go to the least loaded.

A question that was ranked before keeps its order: strategies would rank it differently a moment later, and the same
question would be bought from one provider after another. Only for an answer that is not kept is it ranked anew.

The swapped pair shares that order: a caller asks both to cancel the judge's position bias, which takes the same judge.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import inf
from random import Random

from api_models import ProviderName, SelectionStrategy
from protocols import BYTES_PER_TOKEN, ComparisonQuery, CurrentSettings, LLMAccountingProtocol, PricesProtocol

USUAL_ANSWER_TOKENS = 400
EXPLORATION_INTERVAL = 20
LATENCY_STEP_S = 0.05
KEPT_ORDERS = 4096

Rank = Callable[[ProviderName], float]


class Ranking:
    """chance: draws the order of `random`."""

    def __init__(self, *, prices: PricesProtocol, accounting: LLMAccountingProtocol, chance: Random) -> None:
        self._prices = prices
        self._accounting = accounting
        self._chance = chance
        self._turn = 0
        self._orders = OrderedDict[int, Sequence[ProviderName]]()  # the least recently used one first

    def ranked(
        self, names: Sequence[ProviderName], query: ComparisonQuery, settings: CurrentSettings
    ) -> Sequence[ProviderName]:
        """The names, best first. names: in priority order."""
        strategy = settings.selection_strategy
        if strategy is SelectionStrategy.PRIORITY or not query.cache_use.writes:
            return self._ordered(names, query, settings)
        texts = (query.system_prompt, query.user_prompt, frozenset((query.essay_a, query.essay_b)))
        question = hash((strategy, *names, *texts, query.replicate))
        order = self._orders.pop(question, None) or self._ordered(names, query, settings)
        self._orders[question] = order
        if len(self._orders) > KEPT_ORDERS:
            self._orders.popitem(last=False)
        return order

    def _ordered(
        self, names: Sequence[ProviderName], query: ComparisonQuery, settings: CurrentSettings
    ) -> Sequence[ProviderName]:
        self._turn += 1
        match settings.selection_strategy:
            case SelectionStrategy.PRIORITY:
                return names
            case SelectionStrategy.ROUND_ROBIN:
                start = self._turn % len(names) if names else 0
                return [*names[start:], *names[:start]]
            case SelectionStrategy.RANDOM:
                return self._chance.sample(names, len(names))
            case SelectionStrategy.LEAST_COST:
                tokens = query.size_bytes // BYTES_PER_TOKEN
                return self._by(lambda name: self._cost(name, tokens, settings), names)
            case SelectionStrategy.LEAST_LATENCY:
                return self._explored(self._by(self._latency, names))

    def _by(self, rank: Rank, names: Sequence[ProviderName]) -> list[ProviderName]:
        """Sort by rank, then by calls in flight; the sort is stable, so ties keep priority order."""
        return sorted(names, key=lambda name: (rank(name), self._accounting.activity(name).in_flight))

    def _cost(self, name: ProviderName, tokens: int, settings: CurrentSettings) -> float:
        """Micro-dollars for a question of so many tokens; an unknown price comes last."""
        rates = self._prices.rates(name, settings.default_models[name])
        if rates is None:
            return inf
        return tokens * rates.input + USUAL_ANSWER_TOKENS * rates.output

    def _latency(self, name: ProviderName) -> float:
        """The average in steps of LATENCY_STEP_S; a provider without an average comes first, to be measured."""
        average_s = self._accounting.activity(name).average_response_s
        return 0.0 if average_s is None else average_s // LATENCY_STEP_S + 1

    def _explored(self, ranked: list[ProviderName]) -> Sequence[ProviderName]:
        """Every EXPLORATION_INTERVAL turns the least recently asked provider goes first, to detect a recovery."""
        if self._turn % EXPLORATION_INTERVAL or not ranked:
            return ranked
        forgotten = min(ranked, key=self._last_heard_s)
        return [forgotten, *(name for name in ranked if name is not forgotten)]

    def _last_heard_s(self, name: ProviderName) -> float:
        heard_s = self._accounting.activity(name).last_heard_s
        return -inf if heard_s is None else heard_s
