"""Ranks the usable providers by the strategy in force. By cost and latency, ties go to the least loaded."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import inf
from random import Random

from api_models import ProviderName, SelectionStrategy
from protocols import CHARACTERS_PER_TOKEN, ComparisonQuery, CurrentSettings, LLMAccountingProtocol, PricesProtocol

USUAL_ANSWER_TOKENS = 400
EXPLORATION_INTERVAL = 20
LATENCY_STEP_S = 0.05
NEVER = datetime.min.replace(tzinfo=UTC)

Rank = Callable[[ProviderName], float]


class Ranking:
    """chance: draws the order of `random`."""

    def __init__(self, *, prices: PricesProtocol, accounting: LLMAccountingProtocol, chance: Random) -> None:
        self._prices = prices
        self._accounting = accounting
        self._chance = chance
        self._turn = 0

    def ranked(
        self, names: Sequence[ProviderName], query: ComparisonQuery, settings: CurrentSettings
    ) -> Sequence[ProviderName]:
        """The names, best first. names: in priority order."""
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
                return self._by(lambda name: self._cost(name, query, settings), names)
            case SelectionStrategy.LEAST_LATENCY:
                return self._explored(self._by(self._latency, names))

    def _by(self, rank: Rank, names: Sequence[ProviderName]) -> list[ProviderName]:
        """Sort by rank, then by calls in flight; the sort is stable, so ties keep priority order."""
        return sorted(names, key=lambda name: (rank(name), self._accounting.activity(name).in_flight))

    def _cost(self, name: ProviderName, query: ComparisonQuery, settings: CurrentSettings) -> float:
        """Micro-dollars for a question of this size; an unknown price comes last."""
        rates = self._prices.rates(name, settings.default_models[name])
        if rates is None:
            return inf
        tokens = query.size // CHARACTERS_PER_TOKEN
        return tokens * rates.input + USUAL_ANSWER_TOKENS * rates.output

    def _latency(self, name: ProviderName) -> float:
        """The average in steps of LATENCY_STEP_S; a provider without an average comes first, to be measured."""
        average_s = self._accounting.activity(name).average_response_s
        return 0.0 if average_s is None else average_s // LATENCY_STEP_S + 1

    def _explored(self, ranked: list[ProviderName]) -> Sequence[ProviderName]:
        """Every EXPLORATION_INTERVAL turns the least recently asked provider goes first, to detect a recovery."""
        if self._turn % EXPLORATION_INTERVAL or not ranked:
            return ranked
        forgotten = min(ranked, key=self._last_asked)
        return [forgotten, *(name for name in ranked if name is not forgotten)]

    def _last_asked(self, name: ProviderName) -> datetime:
        activity = self._accounting.activity(name)
        return max(activity.last_success or NEVER, activity.last_failure or NEVER)
