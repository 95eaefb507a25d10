"""What waits for Kafka: bounded, given up from the least important on, and never uncounted."""

import tracemalloc
from collections import Counter
from dataclasses import replace
from itertools import chain
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from api_models import (
    MAX_METADATA_BYTES,
    CacheHit,
    CostAlerted,
    CostAlertType,
    EventData,
    EventDropReason,
    ProcessingEvent,
    ProviderName,
)
from implementations.events import request_events
from implementations.events.event_queue import DROP_ORDER, LOG_INTERVAL_S
from implementations.events.message import TRUNCATED, message_of
from implementations.events.usage_window import UsageWindow
from metrics import count_of
from tests.fakes import CORRELATION_ID, NOON, Calendar, caller_purchase, query
from tests.kafka_fakes import SERVICE, Harness, keys, message, miss

pytestmark = pytest.mark.untraced

MISS = ProcessingEvent.LLM_CACHE_MISS
ALERT = CostAlerted(
    alert_type=CostAlertType.DAILY_LIMIT, provider=None, current_cost=80.0, threshold=80.0, period="2026-11-23"
)
STARTED = request_events.started(query())
COMPLETED = request_events.unanswered(query(), "No.", 1.0, provider=None, cost_usd=0.0)
HIT = CacheHit(provider=None, correlation_id=CORRELATION_ID, cache_key="key")


def test_every_kind_of_event_has_its_place_in_the_order_of_dropping() -> None:
    assert Counter(chain(*DROP_ORDER)) == Counter(ProcessingEvent), "DROP_ORDER in events/event_queue.py"


def test_the_name_of_an_event_is_its_topic_without_the_prefix_of_the_platform() -> None:
    topics = {event.topic for event in ProcessingEvent}

    assert len(topics) == len(ProcessingEvent)
    assert all(event.topic == f"huleedu.{event.event_type}" for event in ProcessingEvent)
    assert ProcessingEvent.LLM_PROVIDER_FAILURE.topic == "huleedu.llm_provider.failure.v1"
    assert ProcessingEvent.LLM_CACHE_HIT.topic == "huleedu.llm_provider.cache_hit.v1"


def test_an_event_that_waits_takes_hardly_more_memory_than_its_text() -> None:
    waiting = [message(miss(number)) for number in range(1000)]
    tracemalloc.start()
    try:
        length = sum(len(one.encoded()) for one in waiting)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert used < 1.1 * length


def test_every_dropped_event_is_told_in_a_line_every_ten_seconds_and_one_at_the_end() -> None:
    harness = Harness(max_messages=2)
    with capture_logs() as lines:
        harness.publish(*(miss(number) for number in range(6)))
        harness.clock.advance(LOG_INTERVAL_S)
        harness.queue.expire(60.0, lambda _: EventDropReason.EXPIRED)
        harness.clock.advance(60.1)
        harness.queue.expire(60.0, lambda _: EventDropReason.EXPIRED)
        harness.publish(*(miss(number) for number in range(6)))
        harness.queue.close()

    assert [(line["event"], line["count"], line.get("last_reason")) for line in lines] == [
        ("events_dropped", 1, "overflow"),
        ("events_dropped", 3, "overflow"),
        ("events_dropped", 2, "expired"),
        ("events_dropped", 4, "overflow"),
        ("events_lost_at_exit", 2, None),
    ]


def test_the_age_of_the_oldest_event_is_that_of_the_moment() -> None:
    harness = Harness()
    ages = []
    for number in (1, 2):
        harness.publish(miss(number))
        harness.clock.advance(number)
        ages.append(count_of(harness.metrics.events_oldest))
    harness.queue.delivered(harness.queue.take(MISS, 2))

    assert (*ages, count_of(harness.metrics.events_oldest)) == (1.0, 3.0, 0.0)


def test_what_is_under_way_has_an_age_until_it_is_delivered() -> None:
    harness = Harness()
    harness.publish(miss(1), miss(2))
    harness.clock.advance(1.0)
    harness.publish(STARTED)
    first, second = harness.queue.take(MISS, 2)
    ages = [count_of(harness.metrics.events_oldest)]
    harness.queue.delivered([first])
    harness.queue.give_back(MISS, [second])
    ages.append(count_of(harness.metrics.events_oldest))
    harness.queue.drop(harness.queue.take(MISS, 1), EventDropReason.DEFECT)

    assert (*ages, count_of(harness.metrics.events_oldest)) == (1.0, 1.0, 0.0)


def test_without_room_the_oldest_of_the_lowest_class_goes() -> None:
    harness = Harness(max_messages=3)
    harness.publish(miss(1), STARTED, ALERT, miss(2))
    harness.publish(COMPLETED)

    assert harness.dropped(MISS, "overflow") == 2.0
    harness.publish(COMPLETED)
    assert harness.dropped(STARTED.event, "overflow") == 1.0
    harness.publish(miss(3))
    assert harness.dropped(MISS, "overflow") == 3.0
    assert harness.balances()
    assert harness.queue.pending == 3


def test_what_is_given_up_is_one_line_in_ten_seconds_with_the_sum() -> None:
    harness = Harness(max_messages=1)
    with capture_logs() as lines:
        for number in range(12):
            harness.publish(miss(number))
            harness.clock.advance(1.0)
    told = [(line["event"], line["count"]) for line in lines]
    assert told == [("events_dropped", 1), ("events_dropped", 10)]


def test_within_a_class_the_oldest_goes_whatever_its_kind() -> None:
    harness = Harness(max_messages=2)
    for event in (HIT, miss(1), HIT):
        harness.publish(event)
        harness.clock.advance(1.0)

    assert (harness.dropped(HIT.event, "overflow"), harness.dropped(MISS, "overflow")) == (1.0, 0.0)


def test_the_bytes_are_bounded_too() -> None:
    harness = Harness(max_bytes=10_000)
    big = CacheHit(provider=None, correlation_id=CORRELATION_ID, cache_key="k", metadata={"note": "x" * 4000})
    harness.publish(big, big, big)

    assert harness.queue.pending == 1
    harness.publish(replace(STARTED, user_id="x" * 20_000))
    assert harness.queue.pending == 0
    assert harness.balances()


def test_what_is_under_way_is_not_given_up() -> None:
    harness = Harness(max_messages=2)
    harness.publish(miss(1), miss(2))
    taken = harness.queue.take(MISS, 10)
    harness.publish(ALERT)

    assert harness.dropped(ALERT.event, "overflow") == 1.0
    harness.queue.give_back(MISS, taken)
    assert [one.key for one in harness.queue.take(MISS, 10)] == keys([1, 2])


def test_what_waits_for_too_long_goes_with_its_reason() -> None:
    harness = Harness(max_age_s=60.0)
    harness.publish(miss(1))
    harness.clock.advance(30.0)
    harness.publish(miss(2), STARTED)
    harness.clock.advance(31.0)
    harness.queue.expire(60.0, lambda _: EventDropReason.UNKNOWN_TOPIC)

    assert harness.dropped(MISS, "unknown_topic") == 1.0
    assert harness.queue.pending == 2
    assert harness.balances()


@given(st.lists(st.tuples(st.sampled_from("ptdgxe"), st.integers(0, 3)), max_size=60))
def test_nothing_leaves_uncounted_whatever_happens(steps: list[tuple[str, int]]) -> None:
    harness = Harness(max_messages=4)
    events: tuple[EventData, ...] = (miss(1), STARTED, COMPLETED, ALERT)
    under_way = []
    for step, number in steps:
        kind = events[number].event
        if step == "p":
            harness.publish(events[number])
        elif step == "t":
            under_way += [harness.queue.take(kind, number)]
        elif step == "x":
            harness.clock.advance(20.0)
        elif step == "e":
            harness.queue.expire(60.0, lambda _: EventDropReason.EXPIRED)
        elif under_way and (chunk := under_way.pop()):
            if step == "d":
                harness.queue.delivered(chunk)
            else:
                harness.queue.give_back(chunk[0].event, chunk)
        assert harness.balances()
        assert harness.queue.pending <= 4
    harness.queue.close()
    assert harness.balances()


def test_the_envelope_is_that_of_the_platform() -> None:
    tracked = message_of(STARTED, service_name=SERVICE, traceparent="00-ab-cd-01", now=NOON, now_s=0.0)
    told = orjson.loads(tracked.encoded())
    UUID(told.pop("event_id"))
    data = told.pop("data")

    assert told == {
        "event_type": "llm_provider.request_started.v1",
        "event_timestamp": "2026-11-23T12:00:00Z",
        "source_service": SERVICE,
        "schema_version": 1,
        "correlation_id": str(CORRELATION_ID),
        "data_schema_uri": None,
        "metadata": {"traceparent": "00-ab-cd-01"},
    }
    assert data == {
        "provider": None,
        "correlation_id": str(CORRELATION_ID),
        "metadata": {"batch": "b-1"},
        "request_type": "comparison",
        "user_id": "teacher-7",
        "caller": "anonymous",
    }
    assert dict(tracked.headers()) == {
        "event_type": b"llm_provider.request_started.v1",
        "correlation_id": str(CORRELATION_ID).encode(),
        "traceparent": b"00-ab-cd-01",
    }


def test_there_is_no_trace_header_without_a_trace() -> None:
    assert "traceparent" not in dict(message(STARTED).headers())


def test_the_bytes_of_an_event_are_made_once_and_all_that_is_kept_of_it() -> None:
    one = message(STARTED)

    assert one.encoded() is one.encoded()
    assert one.envelope is None


@pytest.mark.parametrize(
    ("event", "key"),
    [
        (STARTED, str(CORRELATION_ID)),
        (UsageWindow(now=Calendar()).turn(), SERVICE),
        (ALERT, SERVICE),
        (
            CostAlerted(
                alert_type=CostAlertType.RATE_SPIKE,
                provider=ProviderName.OPENAI,
                current_cost=2.0,
                threshold=1.0,
                period="2026-11-23T12",
            ),
            "openai",
        ),
    ],
)
def test_the_key_keeps_together_what_must_stay_in_order(event: EventData, key: str) -> None:
    assert message(event).key == key.encode()


def test_the_largest_event_about_a_request_takes_less_than_24_kib() -> None:
    metadata, user_id = {"note": "x" * (MAX_METADATA_BYTES - len('{"note":""}'))}, "\x01" * 1000
    largest = replace(caller_purchase("c" * 64, cost_usd=0.1), model="m" * 128, user_id=user_id, metadata=metadata)
    traced = message_of(largest, service_name=SERVICE, traceparent="0" * 55, now=NOON, now_s=0.0)

    assert len(orjson.dumps(metadata)) == MAX_METADATA_BYTES
    assert len(traced.encoded()) < 24 * 1024


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\u0e01", "\U0001f600", "\x01"])
def test_the_size_of_an_event_is_estimated_in_bytes_and_not_too_low(letter: str) -> None:
    one = message(replace(STARTED, user_id=letter * 1000))
    assert len(one.encoded()) < one.size_bytes < len(one.encoded()) + 1024


def test_an_event_that_is_cut_loses_its_metadata_and_nothing_else() -> None:
    one, whole = message(STARTED), message(STARTED)
    whole_told = orjson.loads(whole.encoded())
    before = orjson.loads(one.encoded())
    one.truncate()
    after = orjson.loads(one.encoded())

    assert after["data"].pop("metadata") == TRUNCATED
    before["data"].pop("metadata")
    assert after == before
    assert whole_told["data"]["metadata"] == {"batch": "b-1"}
