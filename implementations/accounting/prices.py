"""What a purchase cost, in US dollars; None when the price is not known, never 0 instead.

In this order: the figure that the provider told, the operator's own table, nothing for what runs on our own machines,
the dated and tiered tables of genai-prices.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from functools import lru_cache

from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from api_models import ProviderName, Purchase, Usage
from config import PriceOverride
from protocols import Rates

MILLION = 1_000_000
SMALL_PROMPT = 1_000  # below the end of every first tier
FREE = frozenset({ProviderName.MOCK, ProviderName.INTERNAL})


class Prices:
    """overrides: the operator's rates, by "provider/model". now: the UTC wall clock, by which prices change."""

    def __init__(self, overrides: Mapping[str, PriceOverride], *, now: Callable[[], datetime]) -> None:
        self._overrides = {key: _rates(row) for key, row in overrides.items()}
        self._now = now

    def cost_usd(self, provider: ProviderName, purchase: Purchase, *, asked: str) -> float | None:
        """What the purchase costs at this moment; None when the price is unknown, or without counts to apply it to.

        asked: the model that was asked for; the one that answered may bear a longer name, with a date.
        """
        if purchase.cost_usd is not None:
            return purchase.cost_usd
        models = (purchase.model, asked)
        given = next((rates for model in models if (rates := self._overrides.get(f"{provider}/{model}"))), None)
        if given is None and provider in FREE:
            return 0.0
        if purchase.usage.prompt == 0:
            return None
        if given is not None:
            return _at(given, purchase.usage)
        costs = (_listed_cost(provider, model, purchase.usage, self._now()) for model in models)
        return next((cost for cost in costs if cost is not None), None)

    def rates(self, provider: ProviderName, model: str) -> Rates | None:
        """The rates of this moment for prompts of a usual size, None when unknown."""
        given = self._overrides.get(f"{provider}/{model}")
        if given is not None:
            return given
        if provider in FREE:
            return Rates(input=0.0, cached_input=0.0, cache_write=0.0, output=0.0)
        return _listed_rates(provider, model, self._now().date())


@lru_cache(maxsize=1024)
def _listed_rates(provider: ProviderName, model: str, day: date) -> Rates | None:
    """Read from what a few tokens of each kind cost; kept, because a calculation takes a tenth of a millisecond."""

    def rate(**counts: int) -> float | None:
        cost = _listed_cost(provider, model, Usage(**counts), datetime.combine(day, time(), UTC))
        return None if cost is None else round(cost * MILLION / SMALL_PROMPT, 6)

    fresh = rate(prompt=SMALL_PROMPT, completion=0)
    cached = rate(prompt=SMALL_PROMPT, completion=0, cached=SMALL_PROMPT)
    written = rate(prompt=SMALL_PROMPT, completion=0, written=SMALL_PROMPT)
    output = rate(prompt=0, completion=SMALL_PROMPT)
    if fresh is None or cached is None or written is None or output is None:
        return None
    return Rates(input=fresh, cached_input=cached, cache_write=written, output=output)


def _listed_cost(provider: ProviderName, model: str, usage: Usage, at: datetime) -> float | None:
    counts = PricedUsage(
        input_tokens=usage.prompt,
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.written,
        cache_write_1h_tokens=usage.written_for_long,
        output_tokens=usage.completion,
    )
    try:
        price = calc_price(counts, model, provider_id=provider, genai_request_timestamp=at)
    except LookupError:
        return None
    return float(price.total_price)


def _rates(row: PriceOverride) -> Rates:
    return Rates(
        input=row.input,
        cached_input=row.input if row.cached_input is None else row.cached_input,
        cache_write=row.input if row.cache_write is None else row.cache_write,
        output=row.output,
    )


def _at(rates: Rates, usage: Usage) -> float:
    fresh = usage.prompt - usage.cached - usage.written
    return (
        fresh * rates.input
        + usage.cached * rates.cached_input
        + usage.written * rates.cache_write
        + usage.completion * rates.output
    ) / MILLION
