"""Events without Kafka: counted by type, or not at all."""

import pytest
from structlog.testing import capture_logs

from api_models import CacheHit, CacheMiss, EventData, ProcessingEvent
from implementations.event_publisher_impl import EventPublisherImpl
from implementations.events.outbox import NoOutbox, Outbox
from implementations.events.request_events import started
from implementations.events.usage_window import UsageWindow
from metrics import Metrics
from tests.fakes import CORRELATION_ID, Calendar, new_metrics, query, sample

HIT = CacheHit(provider=None, correlation_id=CORRELATION_ID, cache_key="key")
MISS = CacheMiss(provider=None, correlation_id=CORRELATION_ID, cache_key="key")


def counts(metrics: Metrics) -> dict[ProcessingEvent, float | None]:
    return {event: sample(metrics, "llm_provider_events_total", event_type=event) for event in ProcessingEvent}


def publisher_of(metrics: Metrics, *, enabled: bool = True, outbox: Outbox | None = None) -> EventPublisherImpl:
    usage = UsageWindow(now=Calendar())
    return EventPublisherImpl(enabled=enabled, outbox=outbox or NoOutbox(), usage=usage, metrics=metrics)


def publish(*events: EventData, enabled: bool) -> dict[ProcessingEvent, float | None]:
    metrics = new_metrics()
    publisher = publisher_of(metrics, enabled=enabled)
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


class Broken(NoOutbox):
    """Fails for every event."""

    def put(self, event: EventData) -> None:
        raise RuntimeError("a defect")


def test_a_defect_behind_it_never_reaches_whoever_publishes_and_is_counted_and_told() -> None:
    metrics = new_metrics()
    with capture_logs() as lines:
        publisher_of(metrics, outbox=Broken()).publish(HIT)
    labels = {"topic": HIT.event.topic, "reason": "defect"}

    assert sample(metrics, "llm_provider_events_total", event_type=HIT.event) == 1.0
    assert sample(metrics, "llm_provider_events_dropped_total", **labels) == 1.0
    assert lines == [
        {"event": "event_defect", "event_type": HIT.event.event_type, "exc_info": True, "log_level": "error"}
    ]


@pytest.mark.parametrize(("enabled", "windows"), [(True, 1.0), (False, 0.0)])
async def test_the_usage_is_published_like_any_other_event(*, enabled: bool, windows: float) -> None:
    metrics = new_metrics()
    await publisher_of(metrics, enabled=enabled).publish_usage()

    assert sample(metrics, "llm_provider_events_total", event_type="llm_provider.usage.analytics") == windows
