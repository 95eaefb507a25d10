"""What a purchase cost, in US dollars; None if the price is unknown, never 0 instead.

In this order: the cost that the provider reported, the operator's own table, 0 for the mock and self-hosted models, the
dated and tiered tables of genai-prices, with surcharges.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, time
from functools import lru_cache

import structlog
from genai_prices import Usage as PricedUsage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import PriceCalculation, TieredPrices

from api_models import ProviderName, Purchase, Usage
from config import PriceOverride
from protocols import COST_DIGITS, RATED_TOKENS, Rates

SMALL_PROMPT = 1_000  # within the first tier of every price
RATE_DIGITS = 6
KEPT = 1024
REGIONAL_FACTOR = 1.1
FREE = frozenset({ProviderName.MOCK, ProviderName.INTERNAL})

_REGIONAL = re.compile(r"https://[a-z]+\.api\.openai\.com(?![\w.-])", re.IGNORECASE)
_EXEMPT = re.compile(r"o\d|gpt-(?:[34]|5(?:\.[0-3])?(?:-|$))")  # models from before March 2026

log = structlog.get_logger("costs")


class Prices:
    """overrides: the operator's rates, by "provider/model". now: the UTC wall clock, by which prices change.

    base_urls: at which the providers are asked.
    """

    def __init__(
        self,
        overrides: Mapping[str, PriceOverride],
        *,
        base_urls: Mapping[ProviderName, str | None],
        now: Callable[[], datetime],
    ) -> None:
        self._base_urls = base_urls
        self._overrides = {key: _rates(row) for key, row in overrides.items()}
        self._now = now
        # The library loads its tables at the first price; now nobody waits for that.
        _listed_rates(ProviderName.OPENAI, "gpt-4o", now().date(), SMALL_PROMPT)

    def cost_usd(self, provider: ProviderName, purchase: Purchase, *, asked: str) -> float | None:
        """The cost at current prices; None if the price or the token counts are unknown.

        asked: the requested model; the one that answered may have a longer, dated name.
        """
        if purchase.cost_usd is not None:
            return purchase.cost_usd
        given = self._overrides.get(f"{provider}/{purchase.model}") or self._overrides.get(f"{provider}/{asked}")
        if given is None and provider in FREE:
            return 0.0
        if purchase.usage.prompt == 0:
            return None
        if given is not None:
            return round(_at(given, purchase.usage), COST_DIGITS)
        for model in (purchase.model, asked):
            cost_usd = _kept_cost(provider, model, purchase.usage, self._now())
            if cost_usd is not None:
                factor = _surcharge(provider, self._base_urls.get(provider), model)
                return round(cost_usd * purchase.usage.price_factor * factor, COST_DIGITS)
        return None

    def rates(self, provider: ProviderName, model: str) -> Rates | None:
        """Current rates for prompts in the first tier, None if unknown."""
        given = self._overrides.get(f"{provider}/{model}")
        if given is not None:
            return given
        if provider in FREE:
            return Rates(input=0.0, cached_input=0.0, cache_write=0.0, output=0.0)
        return _charged_rates(provider, self._base_urls.get(provider), model, self._now().date())


def _kept_cost(provider: ProviderName, model: str, usage: Usage, at: datetime) -> float | None:
    """The cost by rates cached for the day: a calculation by the library takes as long as all other accounting."""
    starts = _tier_starts(provider, model, at.date())
    if starts is None:
        return None
    if usage.written_for_long:  # never requested by us, and not part of Rates
        return _listed_cost(provider, model, usage, at)
    size = max((start + 1 for start in starts if start < usage.prompt), default=SMALL_PROMPT)
    rates = _listed_rates(provider, model, at.date(), size)
    return None if rates is None else _at(rates, usage)


@lru_cache(maxsize=KEPT)
def _tier_starts(provider: ProviderName, model: str, day: date) -> tuple[int, ...] | None:
    """The prompt sizes at which a new price tier starts for the whole purchase; None if the model is not listed."""
    price = _listed(provider, model, PricedUsage(input_tokens=SMALL_PROMPT), datetime.combine(day, time(), UTC))
    if price is None:
        return None
    kinds = vars(price.model_price).values()
    return tuple({tier.start for kind in kinds if isinstance(kind, TieredPrices) for tier in kind.tiers})


@lru_cache(maxsize=KEPT)
def _listed_rates(provider: ProviderName, model: str, day: date, size: int) -> Rates | None:
    """The rates for prompts of size tokens, derived from the cost of each kind of token."""

    def rated(**counts: int) -> float | None:
        cost_usd = _listed_cost(provider, model, Usage(**counts), datetime.combine(day, time(), UTC))
        return None if cost_usd is None else cost_usd * RATED_TOKENS

    fresh = rated(prompt=size, completion=0)
    cached = rated(prompt=size, completion=0, cached=size)
    written = rated(prompt=size, completion=0, written=size)
    answered = rated(prompt=size, completion=size)
    if fresh is None or cached is None or written is None or answered is None:
        return None
    rates = (round(total / size, RATE_DIGITS) for total in (fresh, cached, written, answered - fresh))
    return Rates(**dict(zip(("input", "cached_input", "cache_write", "output"), rates, strict=True)))


def _listed_cost(provider: ProviderName, model: str, usage: Usage, at: datetime) -> float | None:
    counts = PricedUsage(
        input_tokens=usage.prompt,
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.written,
        cache_write_1h_tokens=usage.written_for_long,
        output_tokens=usage.completion,
    )
    price = _listed(provider, model, counts, at)
    return None if price is None else float(price.total_price)


def _listed(provider: ProviderName, model: str, counts: PricedUsage, at: datetime) -> PriceCalculation | None:
    """None also if the library fails: no verdict is lost for want of its price, and unknown prices are counted.

    Its `calc_price` would keep every name that is asked for, and callers may invent any number of them.
    """
    try:
        tables = get_snapshot()
        vendor = tables.find_provider(None, provider, None)
        found = vendor.find_model(model, all_providers=tables.providers)
        return None if found is None else found.calc_price(counts, vendor, genai_request_timestamp=at)
    except LookupError:
        return None
    except Exception:  # the boundary to a library
        log.exception("price_unreadable", provider=provider)
        return None


def _rates(row: PriceOverride) -> Rates:
    return Rates(
        input=row.input,
        cached_input=row.input if row.cached_input is None else row.cached_input,
        cache_write=row.input if row.cache_write is None else row.cache_write,
        output=row.output,
    )


@lru_cache(maxsize=KEPT)
def _charged_rates(provider: ProviderName, base_url: str | None, model: str, day: date) -> Rates | None:
    """The listed rates for small prompts, with the surcharge."""
    listed, factor = _listed_rates(provider, model, day, SMALL_PROMPT), _surcharge(provider, base_url, model)
    if listed is None:
        return None
    return Rates(**{kind: round(rate * factor, RATE_DIGITS) for kind, rate in asdict(listed).items()})


def _surcharge(provider: ProviderName, base_url: str | None, model: str) -> float:
    """How many times the list price the model costs: more where OpenAI is to work in one region only."""
    is_regional = provider is ProviderName.OPENAI and _REGIONAL.match(base_url or "") is not None
    return REGIONAL_FACTOR if is_regional and not _EXEMPT.match(model) else 1.0


def _at(rates: Rates, usage: Usage) -> float:
    fresh = usage.prompt - usage.cached - usage.written
    return (
        fresh * rates.input
        + usage.cached * rates.cached_input
        + usage.written * rates.cache_write
        + usage.completion * rates.output
    ) / RATED_TOKENS
