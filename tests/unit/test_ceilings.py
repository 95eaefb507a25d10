"""What is put aside for a call: no less than the call can cost, worked out by hand from the vendors' price lists."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from genai_prices.data import providers
from genai_prices.types import TieredPrices
from hypothesis import given
from hypothesis import strategies as st

from api_models import ProviderName, Purchase, UnknownPrice, Usage
from config import PriceOverride
from exceptions import CostLimitExceededError
from implementations.accounting.ceilings import ENVELOPE_TOKENS, USUAL_TOKENS, Ceilings
from implementations.accounting.money import micro_usd
from implementations.accounting.prices import Prices
from protocols import CostRules, ProviderRequest
from tests.fakes import Calendar, cost_rules, prompt, request

ANTHROPIC, OPENAI, GOOGLE = ProviderName.ANTHROPIC, ProviderName.OPENAI, ProviderName.GOOGLE
OPENROUTER = ProviderName.OPENROUTER
OWN = {
    "openai/gpt-9": PriceOverride(input=3, output=7),
    "openai/gpt-10": PriceOverride(input=3, output=7, cache_write=1),
    "openai/gpt-11": PriceOverride(input=3, output=7, cached_input=5),
}


def asking(provider: ProviderName, model: str, *, size_bytes: int, max_tokens: int = 400) -> ProviderRequest:
    """A request whose prompt has this size."""
    short = prompt()
    padding = "x" * (size_bytes - short.size_bytes)
    sized = replace(short, task=short.task + padding)
    digits = sized.size_bytes - size_bytes  # of the length that goes before the text
    sized = replace(short, task=short.task + padding[digits:])
    assert sized.size_bytes == size_bytes
    return request(provider=provider, model=model, prompt=sized, max_tokens=max_tokens)


def ceiling(
    asked: ProviderRequest, *, rules: CostRules | None = None, overrides: Mapping[str, PriceOverride] | None = None
) -> int:
    prices = Prices(overrides or {}, base_urls={}, now=Calendar())
    return Ceilings(prices=prices, rules=lambda: rules or cost_rules()).of(asked)


@pytest.mark.parametrize(
    ("provider", "model", "size_bytes", "microdollars"),
    [
        (ANTHROPIC, "claude-haiku-5-5", 4_000, 5_000 * 0.125 + 400 * 0.50),
        (ANTHROPIC, "claude-haiku-5-5", 99_000, 100_000 * 0.125 + 400 * 0.50),
        (ANTHROPIC, "claude-haiku-5-5", 99_001, 5 * (100_001 * 0.125 + 400 * 0.50)),
        (OPENAI, "gpt-6-luna", 271_000, 272_000 * 0.125 + 400 * 0.50),
        (OPENAI, "gpt-6-luna", 271_001, 2 * 272_001 * 0.125 + 1.5 * 400 * 0.50),
        (GOOGLE, "gemini-3.1-pro-preview", 199_000, 200_000 * 2 + 400 * 12),
        (GOOGLE, "gemini-3.1-pro-preview", 199_001, 200_001 * 4 + 400 * 18),
        (OPENROUTER, "qwen/qwen3.7-flash", 31_000, 32_000 * 0.038 + 400 * 0.13),
        (OPENROUTER, "qwen/qwen3.7-flash", 31_001, 32_001 * 0.125 + 400 * 0.40),
        (OPENROUTER, "google/gemini-3.1-pro-preview", 249_000, 250_000 * 4 + 400 * 18),  # written ones are cheap
        (OPENAI, "gpt-9", 4_000, 5_000 * 3 + 400 * 7),
        (OPENAI, "gpt-9", 150_000, 151_000 * 3 + 400 * 7),
        (OPENAI, "gpt-10", 4_000, 5_000 * 3 + 400 * 7),
        (OPENAI, "gpt-11", 4_000, 5_000 * 5 + 400 * 7),
        (OPENAI, "gpt-11", 150_000, 151_000 * 5 + 400 * 7),
        (ProviderName.INTERNAL, "llama", 150_000, 0),
    ],
)
def test_the_ceiling_is_a_token_for_each_byte_and_the_envelope_at_the_dearest_rate_of_its_tier(
    provider: ProviderName, model: str, size_bytes: int, microdollars: float
) -> None:
    found = ceiling(asking(provider, model, size_bytes=size_bytes), overrides=OWN)
    assert microdollars <= found <= microdollars + 1.001


@given(
    which=st.sampled_from([(ANTHROPIC, "claude-haiku-5-5"), (OPENAI, "gpt-6-luna"), (GOOGLE, "gemini-3.8-flash")]),
    size_bytes=st.one_of(st.integers(1_000, 400_000), st.sampled_from([98_999, 99_000, 99_001, 271_000, 271_001])),
    completion=st.integers(0, 400),
    shares=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
)
def test_no_call_costs_more_than_was_put_aside_for_it(
    which: tuple[ProviderName, str], size_bytes: int, completion: int, shares: tuple[float, float]
) -> None:
    asked = asking(*which, size_bytes=size_bytes)
    tokens = size_bytes + ENVELOPE_TOKENS
    cached, written = (int(tokens * share) for share in shares)
    usage = Usage(prompt=tokens, completion=completion, cached=cached, written=written)
    bought = Purchase(model=asked.model, usage=usage, cost_usd=None)
    cost_usd = Prices({}, base_urls={}, now=Calendar()).cost_usd(asked.provider, bought, asked=asked.model)
    assert cost_usd is not None
    assert ceiling(asked) >= micro_usd(cost_usd) > 0


def test_no_listed_price_has_a_tier_that_starts_below_the_usual_size() -> None:
    starts = [
        tier.start
        for provider in providers
        if provider.id in set(ProviderName)
        for model in provider.models
        for price in (model.prices if isinstance(model.prices, list) else [model])
        for kind in vars(price.prices).values()
        if isinstance(kind, TieredPrices)
        for tier in kind.tiers
    ]
    assert min(starts) >= USUAL_TOKENS


def test_an_unknown_price_is_put_aside_as_the_operator_says_or_refused() -> None:
    unknown = asking(ANTHROPIC, "judge-of-tomorrow", size_bytes=4_000)
    assert ceiling(unknown, rules=cost_rules(unknown_ceiling_usd=0.25)) == 250_000
    with pytest.raises(CostLimitExceededError) as refused:
        ceiling(unknown, rules=cost_rules(unknown_price=UnknownPrice.REFUSE))
    assert refused.value.provider is ANTHROPIC
