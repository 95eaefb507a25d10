"""What purchases cost, against figures worked out by hand from the vendors' price lists of November 2026."""

from collections.abc import Mapping
from dataclasses import astuple, replace
from datetime import UTC, datetime
from math import isnan
from typing import NoReturn

import pytest
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from api_models import UNKNOWN_USAGE, ProviderName, Purchase, Usage
from config import PriceOverride
from implementations.accounting.prices import Prices
from implementations.judging.catalogue import ModelCatalogue
from protocols import COST_DIGITS, Rates
from tests.fakes import NOON, Calendar

ANTHROPIC, OPENAI, GOOGLE = ProviderName.ANTHROPIC, ProviderName.OPENAI, ProviderName.GOOGLE
OPENROUTER, INTERNAL, MOCK = ProviderName.OPENROUTER, ProviderName.INTERNAL, ProviderName.MOCK
NEW_YEAR = datetime(2027, 1, 1, 12, tzinfo=UTC)
NEW_YEARS_EVE = datetime(2026, 12, 31, 12, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, 12, tzinfo=UTC)
SMALL = Usage(prompt=1000, completion=100)
FLASH = Usage(prompt=8000, completion=200 + 500, cached=4096, reasoning=500)


def cost(
    provider: ProviderName,
    model: str,
    usage: Usage,
    *,
    at: datetime = NOON,
    asked: str | None = None,
    told: float | None = None,
    overrides: Mapping[str, PriceOverride] | None = None,
) -> float | None:
    prices = Prices(overrides or {}, base_urls={}, now=Calendar(at))
    return prices.cost_usd(provider, Purchase(model=model, usage=usage, cost_usd=told), asked=asked or model)


def usd(microdollars: float) -> object:
    """Dollars for a million tokens times tokens are millionths of a dollar."""
    return pytest.approx(microdollars / 1e6, rel=1e-9)


@pytest.mark.parametrize(
    ("provider", "model", "usage", "microdollars"),
    [
        (ANTHROPIC, "claude-haiku-5-5", SMALL, 1000 * 0.10 + 100 * 0.50),
        (ANTHROPIC, "claude-haiku-5-5", Usage(prompt=9200, completion=400, cached=5000, written=3000),
         1200 * 0.10 + 5000 * 0.01 + 3000 * 0.125 + 400 * 0.50),
        (ANTHROPIC, "claude-haiku-5-5",
         Usage(prompt=9200, completion=400, cached=5000, written=3000, written_for_long=2000),
         1200 * 0.10 + 5000 * 0.01 + 1000 * 0.125 + 2000 * 0.20 + 400 * 0.50),
        (ANTHROPIC, "claude-haiku-5-5", Usage(prompt=100_000, completion=400), 100_000 * 0.10 + 400 * 0.50),
        (ANTHROPIC, "claude-haiku-5-5", Usage(prompt=100_001, completion=400), 5 * (100_001 * 0.10 + 400 * 0.50)),
        (ANTHROPIC, "claude-haiku-5-5", Usage(prompt=150_000, completion=1000, cached=100_000, written=20_000),
         5 * (30_000 * 0.10 + 100_000 * 0.01 + 20_000 * 0.125 + 1000 * 0.50)),
        (ANTHROPIC, "claude-sonnet-5-5", Usage(prompt=9000, completion=350, cached=6000, written=1000),
         2000 * 2 + 6000 * 0.10 + 1000 * 2.50 + 350 * 10),
        (ANTHROPIC, "claude-sonnet-5-5", Usage(prompt=500_000, completion=1000), 500_000 * 2 + 1000 * 10),
        (ANTHROPIC, "claude-opus-5-5", Usage(prompt=3000, completion=500, cached=2000),
         1000 * 4 + 2000 * 0.20 + 500 * 20),
        (ANTHROPIC, "claude-opus-5-5-20260922", SMALL, 1000 * 4 + 100 * 20),
        (ANTHROPIC, "claude-fable-5-2", Usage(prompt=3000, completion=10, cached=1000, written=1000),
         1000 * 8 + 1000 * 0.20 + 1000 * 10 + 10 * 40),
        (ANTHROPIC, "claude-fable-5-1", Usage(prompt=3000, completion=10, cached=1000, written=1000),
         1000 * 10 + 1000 * 0.25 + 1000 * 12.5 + 10 * 50),
        (ANTHROPIC, "claude-opus-5", Usage(prompt=3000, completion=100, cached=1000, written=1000),
         1000 * 5 + 1000 * 0.50 + 1000 * 6.25 + 100 * 25),
        (ANTHROPIC, "claude-sonnet-5", Usage(prompt=3000, completion=100, cached=1000, written=1000),
         1000 * 2 + 1000 * 0.20 + 1000 * 2.50 + 100 * 10),
        (ANTHROPIC, "claude-haiku-4-5", Usage(prompt=3000, completion=100, cached=1000, written=500),
         1500 * 1 + 1000 * 0.10 + 500 * 1.25 + 100 * 5),
        (OPENAI, "gpt-6-luna", Usage(prompt=8000, completion=600, cached=4096, written=2048, reasoning=400),
         1856 * 0.10 + 4096 * 0.01 + 2048 * 0.125 + 600 * 0.50),
        (OPENAI, "gpt-6-luna-2026-09-22", SMALL, 1000 * 0.10 + 100 * 0.50),
        (OPENAI, "gpt-6-luna", Usage(prompt=272_000, completion=1000), 272_000 * 0.10 + 1000 * 0.50),
        (OPENAI, "gpt-6-luna", Usage(prompt=272_001, completion=1000, cached=72_001),
         2 * (200_000 * 0.10 + 72_001 * 0.01) + 1.5 * 1000 * 0.50),
        (OPENAI, "gpt-6.1-terra", Usage(prompt=5000, completion=700, cached=2000, written=1000),
         2000 * 1 + 2000 * 0.05 + 1000 * 1.25 + 700 * 5),
        (OPENAI, "gpt-6.1-sol", Usage(prompt=5000, completion=700, cached=2000), 3000 * 2 + 2000 * 0.10 + 700 * 10),
        (OPENAI, "gpt-6-sol", Usage(prompt=5000, completion=700, cached=2000), 3000 * 2 + 2000 * 0.20 + 700 * 10),
        (OPENAI, "gpt-6-astra", Usage(prompt=3000, completion=100, cached=1000, written=1000),
         1000 * 10 + 1000 * 1 + 1000 * 12.5 + 100 * 50),
        (OPENAI, "gpt-5.6-luna", Usage(prompt=3000, completion=100, cached=1000, written=1000),
         1000 * 0.2 + 1000 * 0.02 + 1000 * 0.25 + 100 * 1.2),
        (OPENAI, "gpt-5.6-terra", Usage(prompt=3000, completion=100, cached=1000, written=1000),
         1000 * 2 + 1000 * 0.2 + 1000 * 2.5 + 100 * 12),
        (OPENAI, "gpt-5.6-sol", Usage(prompt=3000, completion=100, cached=1000, written=1000),
         1000 * 4 + 1000 * 0.4 + 1000 * 5 + 100 * 20),
        (OPENAI, "gpt-5.4-mini", Usage(prompt=2000, completion=100, cached=1024),
         976 * 0.75 + 1024 * 0.075 + 100 * 4.50),
        (GOOGLE, "gemini-3.8-flash", FLASH, 3904 * 0.75 + 4096 * 0.075 + 700 * 3.75),
        (GOOGLE, "gemini-3.7-flash", FLASH, 3904 * 0.75 + 4096 * 0.075 + 700 * 3.75),
        (GOOGLE, "gemini-3.6-flash", FLASH, 3904 * 0.75 + 4096 * 0.075 + 700 * 3.75),
        (GOOGLE, "gemini-3.5-flash-lite", Usage(prompt=6000, completion=300, cached=5000),
         1000 * 0.30 + 5000 * 0.03 + 300 * 2.50),
        (GOOGLE, "gemini-3.5-flash", FLASH, 3904 * 1.50 + 4096 * 0.15 + 700 * 9),
        (GOOGLE, "gemini-3.1-flash-lite", FLASH, 3904 * 0.25 + 4096 * 0.025 + 700 * 1.50),
        (GOOGLE, "gemini-4-argon", Usage(prompt=2000, completion=100, cached=1000),
         1000 * 2 + 1000 * 0.10 + 100 * 10),
        (GOOGLE, "gemini-3.1-pro-preview", Usage(prompt=200_000, completion=100), 200_000 * 2 + 100 * 12),
        (GOOGLE, "gemini-3.1-pro-preview", Usage(prompt=200_001, completion=100, cached=100_001),
         100_000 * 4 + 100_001 * 0.4 + 100 * 18),
        (OPENROUTER, "anthropic/claude-haiku-5.5", SMALL, 1000 * 0.10 + 100 * 0.50),
        (OPENROUTER, "anthropic/claude-sonnet-5.5", SMALL, 1000 * 2 + 100 * 10),
        (OPENROUTER, "openai/gpt-6-luna", SMALL, 1000 * 0.10 + 100 * 0.50),
        (OPENROUTER, "openai/gpt-6.1-terra", SMALL, 1000 * 1 + 100 * 5),
    ],
)  # fmt: skip
def test_a_purchase_costs_what_the_list_says(
    provider: ProviderName, model: str, usage: Usage, microdollars: float
) -> None:
    assert cost(provider, model, usage) == usd(microdollars)


@pytest.mark.parametrize(
    ("model", "at", "microdollars"),
    [
        ("gemini-3.8-flash", NEW_YEARS_EVE, 3904 * 0.75 + 4096 * 0.075 + 700 * 3.75),
        ("gemini-3.8-flash", NEW_YEAR, 3904 * 1.50 + 4096 * 0.15 + 700 * 7.50),
        ("gemini-4-argon", NOON, 3904 * 2 + 4096 * 0.10 + 700 * 10),
        ("gemini-4-argon", DECEMBER, 3904 * 4 + 4096 * 0.20 + 700 * 20),
    ],
)
def test_a_price_changes_on_its_day(model: str, at: datetime, microdollars: float) -> None:
    assert cost(GOOGLE, model, FLASH, at=at) == usd(microdollars)


def test_the_rates_of_a_model_change_on_the_same_day() -> None:
    calendar = Calendar(NEW_YEARS_EVE)
    prices = Prices({}, base_urls={}, now=calendar)
    before = prices.rates(GOOGLE, "gemini-3.8-flash")
    calendar.move(days=1)
    after = prices.rates(GOOGLE, "gemini-3.8-flash")
    assert before == Rates(input=0.75, cached_input=0.075, cache_write=before.cache_write if before else 0, output=3.75)
    assert after == Rates(input=1.50, cached_input=0.15, cache_write=after.cache_write if after else 0, output=7.50)


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        (ANTHROPIC, "claude-haiku-5-5", Rates(input=0.10, cached_input=0.01, cache_write=0.125, output=0.50)),
        (ANTHROPIC, "claude-sonnet-5-5", Rates(input=2, cached_input=0.10, cache_write=2.50, output=10)),
        (OPENAI, "gpt-6-luna", Rates(input=0.10, cached_input=0.01, cache_write=0.125, output=0.50)),
        (OPENAI, "gpt-6.1-terra", Rates(input=1, cached_input=0.05, cache_write=1.25, output=5)),
        (MOCK, "mock-judge-1", Rates(input=0, cached_input=0, cache_write=0, output=0)),
        (INTERNAL, "llama", Rates(input=0, cached_input=0, cache_write=0, output=0)),
        (OPENAI, "model-of-tomorrow", None),
    ],
)
def test_the_rates_are_those_of_the_first_tier(provider: ProviderName, model: str, expected: Rates | None) -> None:
    assert Prices({}, base_urls={}, now=Calendar()).rates(provider, model) == expected


@pytest.mark.parametrize("long", [0, 100])
def test_what_costs_more_than_the_list_says_does_so_for_every_token(long: int) -> None:
    listed = Usage(prompt=9200, completion=400, cached=5000, written=3000, written_for_long=long)
    usual = cost(ANTHROPIC, "claude-haiku-5-5", listed)
    assert usual is not None
    dearer = replace(listed, price_factor=1.1)
    assert cost(ANTHROPIC, "claude-haiku-5-5", dearer) == pytest.approx(usual * 1.1)
    own = {"anthropic/claude-haiku-5-5": PriceOverride(input=3, output=7)}
    assert cost(ANTHROPIC, "claude-haiku-5-5", dearer, overrides=own) == usd(9200 * 3 + 400 * 7)


REGIONAL = "https://eu.api.openai.com/v1"


@pytest.mark.parametrize(
    ("base_url", "model", "factor"),
    [
        (REGIONAL, "gpt-6-luna", 1.1),
        (REGIONAL, "gpt-6-luna-2026-09-22", 1.1),
        (REGIONAL, "gpt-5.4-mini", 1.1),
        (REGIONAL, "gpt-5", 1.0),
        (REGIONAL, "gpt-5-mini", 1.0),
        (REGIONAL, "gpt-4.1", 1.0),
        (REGIONAL, "o3", 1.0),
        ("https://US.api.openai.com", "gpt-6-luna", 1.1),
        ("https://api.openai.com/v1", "gpt-6-luna", 1.0),
        ("https://gateway.example/eu.api.openai.com/v1", "gpt-6-luna", 1.0),
        ("https://eu.api.openai.com.example/v1", "gpt-6-luna", 1.0),
    ],
)
def test_openai_charges_more_at_the_address_of_a_region(base_url: str, model: str, factor: float) -> None:
    usual, there = Prices({}, base_urls={}, now=Calendar()), Prices({}, base_urls={OPENAI: base_url}, now=Calendar())
    bought = Purchase(model=model, usage=SMALL, cost_usd=None)
    listed_usd = usual.cost_usd(OPENAI, bought, asked=model)
    listed, rates = usual.rates(OPENAI, model), there.rates(OPENAI, model)
    assert listed_usd is not None
    assert listed is not None
    assert rates is not None
    assert there.cost_usd(OPENAI, bought, asked=model) == round(listed_usd * factor, COST_DIGITS)
    assert astuple(rates) == pytest.approx([rate * factor for rate in astuple(listed)])


def test_only_openai_has_addresses_of_regions() -> None:
    elsewhere = Prices({}, base_urls={ANTHROPIC: REGIONAL}, now=Calendar())
    assert elsewhere.rates(ANTHROPIC, "claude-haiku-5-5") == Prices({}, base_urls={}, now=Calendar()).rates(
        ANTHROPIC, "claude-haiku-5-5"
    )


@pytest.mark.parametrize("told", [0.0, 0.0011, 12.5])
def test_what_the_provider_told_comes_first(told: float) -> None:
    override = {"openrouter/anthropic/claude-haiku-5.5": PriceOverride(input=9, output=9)}
    for usage in (SMALL, UNKNOWN_USAGE):
        assert cost(OPENROUTER, "anthropic/claude-haiku-5.5", usage, told=told, overrides=override) == told


@pytest.mark.parametrize(
    ("row", "microdollars"),
    [
        (PriceOverride(input=3, output=7), 5000 * 3 + 700 * 7),
        (PriceOverride(input=3, output=7, cached_input=1), 3000 * 3 + 2000 * 1 + 700 * 7),
        (PriceOverride(input=3, output=7, cached_input=0, cache_write=4), 2000 * 3 + 1000 * 4 + 700 * 7),
        (PriceOverride(input=0, output=0), 0),
    ],
)
@pytest.mark.parametrize(("provider", "model"), [(OPENAI, "gpt-6-luna"), (OPENAI, "gpt-9"), (INTERNAL, "llama")])
def test_the_operators_own_price_comes_before_every_list(
    provider: ProviderName, model: str, row: PriceOverride, microdollars: float
) -> None:
    usage = Usage(prompt=5000, completion=700, cached=2000, written=1000)
    overrides = {f"{provider}/{model}": row}
    assert cost(provider, model, usage, overrides=overrides) == usd(microdollars)
    assert cost(provider, f"{model}-2026-11-01", usage, asked=model, overrides=overrides) == usd(microdollars)


def test_an_override_is_for_one_provider_and_the_model_that_answered_comes_first() -> None:
    row = {"openai/gpt-6-luna": PriceOverride(input=100, output=100)}
    assert cost(OPENROUTER, "gpt-6-luna", SMALL, overrides=row) != usd(1100 * 100)
    both = {**row, "openai/gpt-6-luna-2026-09-22": PriceOverride(input=1, output=1)}
    assert cost(OPENAI, "gpt-6-luna-2026-09-22", SMALL, asked="gpt-6-luna", overrides=both) == usd(1100)


def test_the_operators_rates_are_shown_as_such() -> None:
    prices = Prices({"openai/gpt-9": PriceOverride(input=3, output=7, cached_input=1)}, base_urls={}, now=Calendar())
    assert prices.rates(OPENAI, "gpt-9") == Rates(input=3, cached_input=1, cache_write=3, output=7)


def test_an_answer_costs_what_its_own_model_does_and_under_an_unknown_name_what_was_asked_for() -> None:
    assert cost(ANTHROPIC, "claude-haiku-5-5", SMALL, asked="claude-opus-5-5") == usd(1000 * 0.10 + 100 * 0.50)
    assert cost(ANTHROPIC, "judge-of-tomorrow", SMALL, asked="claude-opus-5-5") == usd(1000 * 4 + 100 * 20)


@pytest.mark.parametrize(
    ("provider", "model"),
    [(ANTHROPIC, "judge-of-tomorrow"), (OPENAI, ""), (GOOGLE, "gpt-6-luna"), (OPENROUTER, "nobody/nothing")],
)
def test_an_unknown_price_is_none_and_never_nothing(provider: ProviderName, model: str) -> None:
    assert cost(provider, model, SMALL) is None


@pytest.mark.parametrize("usage", [UNKNOWN_USAGE, Usage(prompt=0, completion=500)])
@pytest.mark.parametrize(("provider", "model"), [(ANTHROPIC, "claude-haiku-5-5"), (OPENAI, "gpt-9")])
def test_without_counts_the_cost_is_unknown(provider: ProviderName, model: str, usage: Usage) -> None:
    assert cost(provider, model, usage) is None
    assert cost(provider, model, usage, overrides={f"{provider}/{model}": PriceOverride(input=3, output=7)}) is None


@pytest.mark.parametrize("usage", [SMALL, UNKNOWN_USAGE, Usage(prompt=900_000, completion=1)])
@pytest.mark.parametrize("provider", [MOCK, INTERNAL])
def test_what_runs_on_our_own_machines_is_free(provider: ProviderName, usage: Usage) -> None:
    assert cost(provider, "whatever", usage) == 0.0


def test_a_price_table_that_fails_leaves_the_price_unknown_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is known to no other test: rates are kept for the day."""

    def broken(*_: object, **__: object) -> NoReturn:
        raise ValueError("a text that may quote anything")

    monkeypatch.setattr("implementations.accounting.prices.get_snapshot", broken)
    with capture_logs() as lines:
        assert cost(OPENAI, "gpt-of-a-broken-table", SMALL) is None
        assert Prices({}, base_urls={}, now=Calendar(NOON)).rates(OPENAI, "gpt-of-a-broken-table") is None
    assert {(line["event"], line["provider"], line["exc_info"]) for line in lines} == {
        ("price_unreadable", "openai", True)
    }
    assert "quote" not in str(lines)


def test_the_price_table_keeps_no_name_that_a_caller_invents() -> None:
    def kept() -> int:
        return sum(len(kept) for kept in vars(get_snapshot()).values() if isinstance(kept, dict | set))

    cost(OPENAI, "gpt-of-nobody", SMALL)
    before = kept()
    for number in range(3):
        assert cost(OPENAI, f"gpt-of-nobody-{number}", SMALL) is None
        assert Prices({}, base_urls={}, now=Calendar(NOON)).rates(ANTHROPIC, f"claude-of-nobody-{number}") is None
    assert kept() == before


def test_no_cost_is_less_than_nothing_or_not_a_number() -> None:
    for prompt in (1, 10, 1000, 300_000):
        for cached in {0, prompt // 2, prompt}:
            for written in {0, prompt - cached}:
                usage = Usage(prompt=prompt, completion=1, cached=cached, written=written)
                for provider, model in (
                    (ANTHROPIC, "claude-haiku-5-5"),
                    (OPENAI, "gpt-6-luna"),
                    (GOOGLE, "gemini-3.8-flash"),
                ):
                    found = cost(provider, model, usage)
                    assert found is not None
                    assert not isnan(found)
                    assert found > 0


MODELS = [(name, model) for name in ProviderName for model in ModelCatalogue.load(None).models(name)]
UNPRICED = {(OPENAI, "gpt-6.2-sol"), (OPENAI, "gpt-6.2-astra"), (GOOGLE, "gemini-4-carbon")}  # not yet in genai-prices


def test_the_price_of_every_model_that_we_ship_is_known_or_known_to_be_unknown() -> None:
    prices = Prices({}, base_urls={}, now=Calendar(NOON))
    assert {which for which in MODELS if prices.rates(*which) is None} == UNPRICED


LISTED = [which for which in MODELS if which not in UNPRICED and which[0] is not OPENROUTER]
OF_THREE_TIERS = (OPENROUTER, "qwen/qwen3-coder-flash")


@example(which=OF_THREE_TIERS, prompt=32_001, completion=100, shares=(0.0, 0.0))
@example(which=OF_THREE_TIERS, prompt=128_001, completion=100, shares=(0.0, 0.0))
@given(
    which=st.sampled_from(LISTED),
    prompt=st.one_of(
        st.integers(1, 3_000_000), st.sampled_from([100_000, 100_001, 200_000, 200_001, 272_000, 272_001])
    ),
    completion=st.integers(0, 100_000),
    shares=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
)
def test_by_the_rates_that_are_kept_a_purchase_costs_what_a_calculation_says(
    which: tuple[ProviderName, str], prompt: int, completion: int, shares: tuple[float, float]
) -> None:
    provider, model = which
    usage = Usage(prompt=prompt, completion=completion, cached=int(prompt * shares[0]), written=int(prompt * shares[1]))
    counts = PricedUsage(
        input_tokens=usage.prompt,
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.written,
        output_tokens=usage.completion,
    )
    listed = calc_price(counts, model, provider_id=provider, genai_request_timestamp=NOON)
    assert cost(provider, model, usage) == float(listed.total_price)
