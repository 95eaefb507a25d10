"""Events without Kafka: counted by type, or not at all."""

import pytest

from api_models import CacheHit, CacheMiss, DependencyStatus, EventData, ProcessingEvent
from implementations.event_publisher_impl import EventPublisherImpl
from implementations.events.request_events import started
from metrics import Metrics
from tests.fakes import CORRELATION_ID, new_metrics, query, sample

HIT = CacheHit(provider=None, correlation_id=CORRELATION_ID, cache_key="key")
MISS = CacheMiss(provider=None, correlation_id=CORRELATION_ID, cache_key="key")


def counts(metrics: Metrics) -> dict[ProcessingEvent, float | None]:
    return {event: sample(metrics, "llm_provider_events_total", event_type=event) for event in ProcessingEvent}


def publish(*events: EventData, enabled: bool) -> dict[ProcessingEvent, float | None]:
    metrics = new_metrics()
    publisher = EventPublisherImpl(enabled=enabled, metrics=metrics)
    for event in events:
        publisher.publish(event)
    return counts(metrics)


def test_events_are_counted_by_their_type() -> None:
    nothing = dict.fromkeys(ProcessingEvent, 0.0)
    expected = {
        ProcessingEvent.LLM_CACHE_HIT: 2.0,
        ProcessingEvent.LLM_CACHE_MISS: 1.0,
        ProcessingEvent.LLM_REQUEST_STARTED: 1.0,
    }

    assert publish(HIT, MISS, HIT, started(query()), enabled=True) == nothing | expected


def test_a_publisher_that_is_switched_off_publishes_nothing() -> None:
    assert publish(HIT, MISS, started(query()), enabled=False) == dict.fromkeys(ProcessingEvent, 0.0)


@pytest.mark.parametrize("enabled", [False, True])
def test_without_kafka_its_health_is_disabled(*, enabled: bool) -> None:
    assert EventPublisherImpl(enabled=enabled, metrics=new_metrics()).health() is DependencyStatus.DISABLED
