"""What can be scraped: every metric that is declared also moves, with labels from closed sets."""

import pytest

from api_models import (
    AttemptOutcome,
    CacheOutcome,
    ErrorCode,
    ProcessingEvent,
    ProviderName,
    Usage,
    Winner,
)
from config import JudgingSettings
from metrics import SUCCESS, Metrics, total_of
from tests.fakes import (
    KNOWN_MODEL,
    caller_purchase,
    new_metrics,
    sample,
)

ANTHROPIC = ProviderName.ANTHROPIC
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"

Samples = dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]]


def samples(metrics: Metrics) -> Samples:
    return {
        family.name: {(one.name, tuple(sorted(one.labels.items()))): one.value for one in family.samples}
        for family in metrics.registry.collect()
    }


def answer(metrics: Metrics, *, model: str = KNOWN_MODEL, outcome: CacheOutcome = CacheOutcome.MISS) -> None:
    metrics.comparison_answered(
        provider=ANTHROPIC, model=model, winner=Winner.ESSAY_A, outcome=outcome, elapsed_s=1.5, queued_s=0.2
    )


def purchase(metrics: Metrics, *, cost_usd: float | None, model: str = KNOWN_MODEL) -> None:
    metrics.purchased(
        provider=ANTHROPIC, model=model, usage=Usage(prompt=10, completion=5, cached=2), cost_usd=cost_usd
    )


def test_every_declared_metric_bears_the_name_of_the_service_and_has_a_help_text() -> None:
    families = list(new_metrics().registry.collect())

    assert families
    assert all(family.name.startswith("llm_provider_") and family.documentation.endswith(".") for family in families)


def test_every_type_has_the_same_series_in_both_formats_and_behind_every_collector() -> None:
    assert {family.type for family in new_metrics().registry.collect()} == {"counter", "gauge", "histogram"}


def bounds(metrics: Metrics, name: str) -> list[float]:
    """The upper bounds of its buckets, without infinity."""
    family = next(found for found in metrics.registry.collect() if found.name == f"llm_provider_{name}")
    told = {float(one.labels["le"]) for one in family.samples if one.name.endswith("_bucket")}
    return sorted(told - {float("inf")})


def test_the_buckets_fit_what_they_measure_models_in_seconds_and_the_service_in_milliseconds() -> None:
    metrics = new_metrics()
    answer(metrics)
    metrics.attempt_duration.of(ANTHROPIC).observe(1.0)
    metrics.http_request_ended(method="GET", endpoint="/healthz", status=200, elapsed_s=0.001)
    for name in ("response_duration_seconds", "upstream_attempt_duration_seconds"):
        of_models = bounds(metrics, name)
        assert of_models[0] <= 0.1
        assert of_models[-1] > JudgingSettings().request_timeout_s
        assert sum(1 <= bound <= 60 for bound in of_models) >= 8
    assert sum(bound <= 0.025 for bound in bounds(metrics, "response_duration_seconds")) >= 5  # of cache hits
    of_gateway = bounds(metrics, "http_request_duration_seconds")
    assert of_gateway[0] < 0.001
    assert sum(bound <= 0.05 for bound in of_gateway) >= 6
    assert bounds(metrics, "queue_wait_seconds")[-1] > JudgingSettings().request_timeout_s


def test_the_build_info_tells_the_version() -> None:
    assert sample(new_metrics(), "llm_provider_build_info", version="1.2.3") == 1.0


def test_two_services_in_one_process_do_not_share_figures() -> None:
    one, another = new_metrics(), new_metrics()
    one.coalesced.inc()

    assert sample(another, "llm_provider_coalesced_requests_total") == 0.0


def test_series_whose_labels_are_known_beforehand_start_at_zero() -> None:
    metrics = new_metrics()

    assert {sample(metrics, "llm_provider_events_total", event_type=event) for event in ProcessingEvent} == {0.0}
    for name in ("llm_provider_concurrent_requests", "llm_provider_cost_unknown_total"):
        assert {sample(metrics, name, provider=provider) for provider in ProviderName} == {0.0}
    assert sample(metrics, "llm_provider_cache_tier_lookups_total", tier="redis", result="unavailable") == 0
    assert sample(metrics, "llm_provider_cache_tier_stores_total", tier="redis", result="oversized") == 0


def test_the_series_of_a_caller_start_at_zero_when_it_is_introduced() -> None:
    metrics = new_metrics()
    metrics.introduce_callers({"one", "two"})
    counted = {name: samples(metrics)[name] for name in samples(metrics) if name.startswith("llm_provider_caller_")}

    for name in ("llm_provider_caller_requests", "llm_provider_caller_tokens_used", "llm_provider_caller_cost_dollars"):
        assert {dict(labels)["caller"] for _, labels in counted[name]} == {"one", "two"}
        assert set(counted[name].values()) == {0.0}


def test_the_series_of_a_default_model_start_at_zero_or_rates_would_miss_the_first_answers_and_purchases() -> None:
    metrics = new_metrics()
    metrics.introduce_models((), defaults={ANTHROPIC: KNOWN_MODEL})
    labels = {"provider": ANTHROPIC, "model": KNOWN_MODEL}
    bought = Usage(prompt=5, completion=4, cached=3, written=2, reasoning=1)
    before = {name: set(found) for name, found in samples(metrics).items()}
    for outcome in CacheOutcome:
        answer(metrics, outcome=outcome)
    metrics.purchased(provider=ANTHROPIC, model=KNOWN_MODEL, usage=bought, cost_usd=0.25)
    attempts = "llm_provider_upstream_attempts_total"
    tokens = {
        dict(found)["token_type"]: count for (_, found), count in samples(metrics)["llm_provider_tokens_used"].items()
    }

    assert {name: set(found) for name, found in samples(metrics).items()} == before
    assert {sample(metrics, attempts, **labels, outcome=outcome) for outcome in AttemptOutcome} == {0.0}
    assert tokens == {"prompt": 5.0, "completion": 4.0, "cached_prompt": 3.0, "cache_write": 2.0, "reasoning": 1.0}


def test_the_verdicts_that_were_bought_show_which_essay_a_judge_prefers() -> None:
    metrics = new_metrics()
    metrics.introduce_models((), defaults={ANTHROPIC: KNOWN_MODEL})
    for outcome in CacheOutcome:
        answer(metrics, outcome=outcome)
    labels = {"provider": ANTHROPIC, "model": KNOWN_MODEL}
    preferred = {winner: sample(metrics, "llm_provider_verdicts_total", **labels, winner=winner) for winner in Winner}

    assert preferred == {Winner.ESSAY_A: 2.0, Winner.ESSAY_B: 0.0}


def test_the_series_of_each_failure_start_at_zero_or_its_rate_would_miss_the_first() -> None:
    metrics = new_metrics()
    before = set(samples(metrics)["llm_provider_requests"])
    for error in ErrorCode:
        for provider in (None, *ProviderName):
            metrics.comparison_failed(provider=provider, error=error, queued_s=0.0)

    assert set(samples(metrics)["llm_provider_requests"]) == before


@pytest.mark.parametrize(("cost_usd", "dollars"), [(0.25, 0.25), (None, 0.0)])
def test_a_purchase_is_booked_on_whom_it_was_made_for(cost_usd: float | None, dollars: float) -> None:
    metrics = new_metrics()
    metrics.introduce_callers({"one", "two"})
    metrics.caller_purchased(caller_purchase("one", cost_usd=cost_usd))

    assert sample(metrics, "llm_provider_caller_cost_dollars_total", caller="one") == dollars
    tokens = {
        tuple(dict(labels).values()): count
        for (_, labels), count in samples(metrics)["llm_provider_caller_tokens_used"].items()
    }
    assert tokens == {
        ("one", "prompt"): 10.0,
        ("one", "completion"): 5.0,
        ("two", "prompt"): 0.0,
        ("two", "completion"): 0.0,
    }


def test_a_model_that_is_not_known_is_other_everywhere() -> None:
    metrics = new_metrics()
    invented = "a-model-that-a-caller-made-up"
    answer(metrics, model=invented)
    metrics.attempt_ended(provider=ANTHROPIC, model=invented, outcome=AttemptOutcome.TIMEOUT, elapsed_s=1.0)
    purchase(metrics, cost_usd=0.25, model=invented)
    labels = [dict(labels) for family in samples(metrics).values() for _, labels in family]

    assert {one["model"] for one in labels if "model" in one} - {"none"} == {"other"}
    assert metrics.model_label(invented) == "other"
    assert metrics.model_label(KNOWN_MODEL) == KNOWN_MODEL
    metrics.introduce_models({invented}, defaults={})
    assert metrics.model_label(invented) == invented


def test_a_comparison_that_reached_nobody_is_counted_under_none() -> None:
    metrics = new_metrics()
    metrics.comparison_failed(provider=None, error=ErrorCode.SERVICE_UNAVAILABLE, queued_s=0.2)
    labels = {"provider": "none", "model": "none", "request_type": "comparison", "status": "service_unavailable"}

    assert sample(metrics, "llm_provider_requests_total", **labels) == 1.0


def test_only_comparisons_with_a_verdict_are_timed() -> None:
    metrics = new_metrics()
    metrics.comparison_failed(provider=ANTHROPIC, error=ErrorCode.TIMEOUT, queued_s=0.2)
    assert samples(metrics)["llm_provider_response_duration_seconds"] == {}
    answer(metrics)
    labels = {"provider": ANTHROPIC, "model": KNOWN_MODEL, "cached": "false"}

    assert sample(metrics, "llm_provider_response_duration_seconds_sum", **labels) == 1.5


@pytest.mark.parametrize(
    ("outcome", "cached", "coalesced"),
    [
        (CacheOutcome.HIT, "true", 0.0),
        (CacheOutcome.MISS, "false", 0.0),
        (CacheOutcome.BYPASS, "false", 0.0),
        (CacheOutcome.COALESCED, "false", 1.0),
    ],
)
def test_known_and_shared_answers_are_told_apart(outcome: CacheOutcome, cached: str, coalesced: float) -> None:
    metrics = new_metrics()
    answer(metrics, outcome=outcome)
    labels = {"provider": ANTHROPIC, "model": KNOWN_MODEL, "cached": cached}

    assert sample(metrics, "llm_provider_response_duration_seconds_count", **labels) == 1.0
    assert sample(metrics, "llm_provider_coalesced_requests_total") == coalesced


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/plain", "text/html,application/xhtml+xml", "text/plain;version=x", 'text/plain;version="1.0.0"'],
)
def test_the_exposition_is_plain_text_unless_something_else_is_asked_for(accept: str) -> None:
    text, content_type = new_metrics().exposition(accept)

    assert content_type.startswith("text/plain")
    assert b"llm_provider_coalesced_requests_total 0.0\n" in text
    assert b"# EOF" not in text


@pytest.mark.parametrize(
    "parameters", ["", ";version=1.0.0;escaping=allow-utf-8;q=0.5,*/*", ";version=x", ";version=2.<b>"]
)
def test_the_exposition_is_open_metrics_when_the_scraper_asks_for_it_in_whatever_version(parameters: str) -> None:
    text, content_type = new_metrics().exposition(f"text/html;q=0.1, application/openmetrics-text{parameters}")

    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert text.endswith(b"# EOF\n")


def test_a_total_adds_up_the_children_that_bear_every_given_value() -> None:
    metrics = new_metrics()
    answer(metrics)
    answer(metrics, model="another-model")
    metrics.comparison_failed(provider=ANTHROPIC, error=ErrorCode.TIMEOUT, queued_s=0.2)
    assert total_of(metrics.requests) == 3.0
    assert total_of(metrics.requests, SUCCESS) == 2.0
    assert total_of(metrics.requests, SUCCESS, KNOWN_MODEL) == 1.0
    assert total_of(metrics.requests, "nobody") == 0.0


def test_no_series_tells_when_it_was_created() -> None:
    metrics = new_metrics()
    answer(metrics)
    purchase(metrics, cost_usd=0.25)

    assert all(b"_created" not in metrics.exposition(accept)[0] for accept in ("", OPEN_METRICS))
