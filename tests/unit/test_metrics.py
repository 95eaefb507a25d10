"""What can be scraped: every metric that is declared also moves, with labels from closed sets."""

import asyncio
import inspect
from pathlib import Path

import pytest

from api_models import (
    AccessRefusal,
    AttemptOutcome,
    CacheOutcome,
    CallerOutcome,
    CircuitState,
    CostTracked,
    Door,
    ErrorCode,
    EventDropReason,
    ProcessingEvent,
    ProviderName,
    Purchase,
    Usage,
)
from exceptions import CostLimitExceededError
from implementations.cache.local_cache import LocalCache
from implementations.cache_manager_impl import CacheManagerImpl
from implementations.event_publisher_impl import EventPublisherImpl
from implementations.events import request_events
from implementations.events.usage_window import UsageWindow
from metrics import SUCCESS, Metrics, total_of
from protocols import Attempt, CostRules
from tests.fake_purse import FakePurse
from tests.fake_redis import Replica
from tests.fakes import (
    KNOWN_MODEL,
    NOON,
    Calendar,
    Clock,
    alerts,
    budget,
    middle,
    new_metrics,
    query,
    reply,
    request,
    sample,
)
from tests.kafka_fakes import Room, miss

ANTHROPIC = ProviderName.ANTHROPIC
NEVER_MOVES = {"llm_provider_build"}
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"

Samples = dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]]


def samples(metrics: Metrics) -> Samples:
    return {
        family.name: {(one.name, tuple(sorted(one.labels.items()))): one.value for one in family.samples}
        for family in metrics.registry.collect()
    }


def end_comparison(
    metrics: Metrics,
    *,
    model: str | None = KNOWN_MODEL,
    provider: ProviderName | None = ANTHROPIC,
    error: ErrorCode | None = None,
    outcome: CacheOutcome | None = CacheOutcome.MISS,
) -> None:
    metrics.comparison_ended(provider=provider, model=model, error=error, cache_outcome=outcome, elapsed_s=1.5)


def purchase(metrics: Metrics, *, cost_usd: float | None, model: str = KNOWN_MODEL) -> None:
    metrics.purchased(
        provider=ANTHROPIC, model=model, usage=Usage(prompt=10, completion=5, cached=2), cost_usd=cost_usd
    )


def caller_purchase(caller: str, *, cost_usd: float | None) -> CostTracked:
    bought = Purchase(model=KNOWN_MODEL, usage=Usage(prompt=10, completion=5), cost_usd=cost_usd)
    attempt = Attempt(
        provider=ANTHROPIC, model=KNOWN_MODEL, outcome=AttemptOutcome.SUCCESS, duration_s=1.0, purchase=bought
    )
    asked = query(caller=caller)
    (told,) = request_events.purchases(asked, request(), [attempt], service_name="s", requested_at=NOON)
    return told


def drive_the_methods(metrics: Metrics) -> set[str]:
    """Call every public method; the names of those called."""
    metrics.http_request_ended(method="GET", endpoint="/healthz", status=200, elapsed_s=0.01)
    end_comparison(metrics, outcome=CacheOutcome.COALESCED)
    metrics.attempt_started(ANTHROPIC)
    metrics.attempt_started(ANTHROPIC)
    metrics.attempt_ended(provider=ANTHROPIC, model=KNOWN_MODEL, outcome=AttemptOutcome.SUCCESS, elapsed_s=1.0)
    purchase(metrics, cost_usd=0.25)
    purchase(metrics, cost_usd=None)
    metrics.circuit_changed(ANTHROPIC, CircuitState.OPEN)
    metrics.introduce_callers({"a-caller"})
    metrics.caller_purchased(caller_purchase("a-caller", cost_usd=0.25))
    metrics.exposition("")
    metrics.model_label("any")
    return {
        "http_request_ended",
        "comparison_ended",
        "attempt_started",
        "attempt_ended",
        "purchased",
        "circuit_changed",
        "introduce_callers",
        "caller_purchased",
        "exposition",
        "model_label",
    }


async def drive_the_events(metrics: Metrics, spool_path: Path) -> None:
    """Delivered, dropped, restored, refused by the spool and lost; and a circuit that opens."""
    room = Room(metrics=metrics, max_messages=2, spool_path=spool_path)
    assert room.spool is not None
    publisher = EventPublisherImpl(
        enabled=True, outbox=room.outbox, usage=UsageWindow(now=room.calendar), metrics=metrics
    )
    for number in range(3):
        publisher.publish(miss(number))
    room.queue.delivered(room.queue.take(miss(0).event, 1))
    room.clock.advance(5.0)
    room.queue.expire(3600.0, lambda _: EventDropReason.EXPIRED)
    room.connection.delivered(None)
    room.circuit.force(CircuitState.OPEN, reason="a test", actor="test")
    room.queue.restore(room.spool.kept())
    room.spool.close()
    publisher.publish(miss(4))
    lossy = Room(metrics=metrics, max_messages=1)
    lossy.publish(miss(5), miss(6))
    lossy.queue.close()
    lossy.publish(miss(7))


async def drive_the_neighbours(metrics: Metrics, spool_path: Path) -> None:
    """Let those who hold a metric of their own move it."""
    local = LocalCache(size_bytes=10_000, max_entries=10, clock=Clock(), on_evict=metrics.cache_evictions.inc)
    for number in range(11):
        local.put(f"{number}", b"payload", ttl_s=60.0)
    await drive_the_budget(metrics)
    await drive_the_shared_cache(metrics, local)
    await drive_the_events(metrics, spool_path)
    metrics.client_disconnects.inc()
    metrics.background_task_up.of("work").set(1)
    for moved in (metrics.throttle_paused, metrics.retry_budget, metrics.queued):
        moved.of(ANTHROPIC).set(1)
    metrics.in_flight.set(1)
    metrics.caller_requests.of("a-caller", CallerOutcome.SUCCESS).inc()
    metrics.access_refusals.of(Door.CALLER, AccessRefusal.NO_KEY).inc()
    metrics.caller_key_reloads.of("taken").inc()
    metrics.stale_connections.inc()
    metrics.admission_queue.set(1)


async def drive_the_budget(metrics: Metrics) -> None:
    """A limit that is too low, and a Redis that is away."""
    purse = FakePurse()
    purse.away = True
    strict = budget(CostRules(limit_usd_per_day=0.01), metrics=metrics, shared=purse.of("one"))
    with pytest.raises(CostLimitExceededError):
        await strict.reserve(request())
    await alerts(strict, CostRules(limit_usd_per_day=0.01), metrics=metrics, now=Calendar())[0].look()


async def drive_the_shared_cache(metrics: Metrics, local: LocalCache) -> None:
    """Let it be empty, hit, corrupt, broken, and leave one write under way."""
    replica = Replica(metrics=metrics)
    cache = CacheManagerImpl(
        local=local,
        shared=replica.entries,
        generation=replica.generation,
        local_ttl_s=60.0,
        near_ttl_s=2.0,
        metrics=metrics,
        jitter=middle,
    )
    await cache.get("key")
    cache.put("key", reply(), ttl_s=60.0)
    await replica.written()
    await cache.get("key")
    replica.server.values[replica.server.key_of("key")] = b"garbage"
    await replica.entries.get("key")
    replica.server.broken = ConnectionRefusedError()
    await replica.probed(3)
    replica.behind.start(asyncio.sleep(0))


async def test_every_declared_metric_moves(tmp_path: Path) -> None:
    metrics = new_metrics()
    before = samples(metrics)
    public = {name for name, _ in inspect.getmembers(Metrics, inspect.isfunction) if not name.startswith("_")}
    assert drive_the_methods(metrics) == public
    await drive_the_neighbours(metrics, tmp_path / "spool")
    after = samples(metrics)

    assert set(before) == set(after)
    assert {name for name in after if after[name] == before[name]} == NEVER_MOVES


def test_every_declared_metric_bears_the_name_of_the_service_and_has_a_help_text() -> None:
    families = list(new_metrics().registry.collect())

    assert families
    assert all(family.name.startswith("llm_provider_") and family.documentation.endswith(".") for family in families)


def test_the_build_info_tells_the_version() -> None:
    assert sample(new_metrics(), "llm_provider_build_info", version="1.2.3") == 1.0


def test_two_services_in_one_process_do_not_share_figures() -> None:
    one, another = new_metrics(), new_metrics()
    one.client_disconnects.inc()

    assert sample(another, "llm_provider_client_disconnects_total") == 0.0


def test_series_whose_labels_are_known_beforehand_start_at_zero() -> None:
    metrics = new_metrics()

    assert {sample(metrics, "llm_provider_events_total", event_type=event) for event in ProcessingEvent} == {0.0}
    for name in ("llm_provider_concurrent_requests", "llm_provider_cost_unknown_total"):
        assert {sample(metrics, name, provider=provider) for provider in ProviderName} == {0.0}


def test_the_series_of_a_caller_start_at_zero_when_it_is_introduced() -> None:
    metrics = new_metrics()
    metrics.introduce_callers({"one", "two"})
    counted = {name: samples(metrics)[name] for name in samples(metrics) if name.startswith("llm_provider_caller_")}

    for name in ("llm_provider_caller_requests", "llm_provider_caller_tokens_used", "llm_provider_caller_cost_dollars"):
        assert {dict(labels)["caller"] for _, labels in counted[name]} == {"one", "two"}
        assert set(counted[name].values()) == {0.0}


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
    end_comparison(metrics, model=invented)
    metrics.attempt_started(ANTHROPIC)
    metrics.attempt_ended(provider=ANTHROPIC, model=invented, outcome=AttemptOutcome.TIMEOUT, elapsed_s=1.0)
    purchase(metrics, cost_usd=0.25, model=invented)
    labels = [dict(labels) for family in samples(metrics).values() for _, labels in family]

    assert {one["model"] for one in labels if "model" in one} == {"other"}
    assert metrics.model_label(invented) == "other"
    assert metrics.model_label(KNOWN_MODEL) == KNOWN_MODEL


def test_a_comparison_that_reached_nobody_is_counted_under_none() -> None:
    metrics = new_metrics()
    end_comparison(metrics, provider=None, model=None, error=ErrorCode.SERVICE_UNAVAILABLE, outcome=None)
    labels = {"provider": "none", "model": "none", "request_type": "comparison", "status": "service_unavailable"}

    assert sample(metrics, "llm_provider_requests_total", **labels) == 1.0


def test_only_comparisons_with_a_verdict_are_timed() -> None:
    metrics = new_metrics()
    end_comparison(metrics, error=ErrorCode.TIMEOUT)
    assert samples(metrics)["llm_provider_response_duration_seconds"] == {}
    end_comparison(metrics)
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
    end_comparison(metrics, outcome=outcome)
    labels = {"provider": ANTHROPIC, "model": KNOWN_MODEL, "cached": cached}

    assert sample(metrics, "llm_provider_response_duration_seconds_count", **labels) == 1.0
    assert sample(metrics, "llm_provider_coalesced_requests_total") == coalesced


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "text/html,application/xhtml+xml"])
def test_the_exposition_is_plain_text_unless_something_else_is_asked_for(accept: str) -> None:
    text, content_type = new_metrics().exposition(accept)

    assert content_type.startswith("text/plain")
    assert b"llm_provider_client_disconnects_total 0.0\n" in text
    assert b"# EOF" not in text


def test_the_exposition_is_open_metrics_when_the_scraper_asks_for_it() -> None:
    text, content_type = new_metrics().exposition(OPEN_METRICS)

    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_a_total_adds_up_the_children_that_bear_every_given_value() -> None:
    metrics = new_metrics()
    end_comparison(metrics)
    end_comparison(metrics, model=None)
    end_comparison(metrics, error=ErrorCode.TIMEOUT)
    assert total_of(metrics.requests) == 3.0
    assert total_of(metrics.requests, SUCCESS) == 2.0
    assert total_of(metrics.requests, SUCCESS, KNOWN_MODEL) == 1.0
    assert total_of(metrics.requests, "nobody") == 0.0


def test_no_series_tells_when_it_was_created() -> None:
    metrics = new_metrics()
    drive_the_methods(metrics)

    assert all(b"_created" not in metrics.exposition(accept)[0] for accept in ("", OPEN_METRICS))
