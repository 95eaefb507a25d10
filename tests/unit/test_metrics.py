"""Every declared metric moves, and no label is open."""

from collections.abc import Iterator

from api_models import AttemptOutcome, CacheOutcome, ErrorCode, ProcessingEvent, ProviderName
from metrics import Metrics

ALWAYS = {"llm_provider_build"}


def metrics() -> Metrics:
    return Metrics(version="1", known_models=("known",))


def values(of: Metrics) -> Iterator[tuple[str, float]]:
    for family in of.registry.collect():
        yield family.name, sum(sample.value for sample in family.samples)


def drive(all_of_them: Metrics) -> None:
    provider = ProviderName.OPENAI
    all_of_them.http_request_ended(method="GET", endpoint="/livez", status=200, elapsed_s=0.1)
    all_of_them.comparison_ended(
        provider=provider, model="known", error=None, cache_outcome=CacheOutcome.COALESCED, elapsed_s=0.1
    )
    all_of_them.comparison_ended(provider=None, model=None, error=ErrorCode.TIMEOUT, cache_outcome=None, elapsed_s=0.1)
    all_of_them.attempt_started(provider)
    all_of_them.attempt_started(provider)
    all_of_them.attempt_ended(provider=provider, model="known", outcome=AttemptOutcome.SUCCESS, elapsed_s=0.1)
    for cost_usd in (None, 0.1):
        all_of_them.purchased(
            provider=provider, model="unheard of", prompt=1, completion=1, cached=1, cost_usd=cost_usd
        )
    for counter in (all_of_them.cache_hits, all_of_them.cache_misses, all_of_them.client_disconnects):
        counter.inc()
    all_of_them.cache_entries.set(1)
    all_of_them.cache_bytes.set(1)
    all_of_them.events.of(ProcessingEvent.LLM_CACHE_HIT).inc()


def test_every_declared_metric_moves() -> None:
    moved = metrics()
    before = dict(values(moved))
    drive(moved)
    still = {name for name, value in values(moved) if value == before[name]}
    assert still == ALWAYS


def test_a_model_that_nobody_knows_is_called_other() -> None:
    driven = metrics()
    drive(driven)
    text = driven.exposition("")[0].decode()
    assert "unheard of" not in text
    assert 'model="other"' in text


def test_the_accept_header_chooses_the_format() -> None:
    plain, plain_type = metrics().exposition("")
    opened, open_type = metrics().exposition("application/openmetrics-text; version=1.0.0")
    assert plain_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text")
    assert opened.endswith(b"# EOF\n")
    assert b"# EOF" not in plain
