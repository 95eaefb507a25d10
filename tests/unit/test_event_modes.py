"""The two degraded modes of the events: what they say, when they begin and end, and that each change is told once."""

from uuid import UUID

import pytest
from aiokafka.errors import (  # type: ignore[import-untyped]  # it has no py.typed
    InvalidTimestampError,
    TopicAuthorizationFailedError,
)
from structlog.testing import capture_logs

from api_models import CacheHit, DependencyStatus, ProcessingEvent
from implementations.events.kafka_failures import Forbidden, LinkDown, LinkFailure, TopicMissing
from implementations.events.lane import ACK_TIMEOUT_S
from protocols import EventHealth
from tests.fakes import Timeline, sample, settle
from tests.kafka_fakes import HALF_AN_HOUR_S, FakeLink, Harness, miss, running

MISS = ProcessingEvent.LLM_CACHE_MISS
HEALTHY, UNHEALTHY = DependencyStatus.HEALTHY, DependencyStatus.UNHEALTHY


def gauges(harness: Harness) -> tuple[float | None, float | None]:
    return (
        sample(harness.metrics, "llm_provider_degraded_mode", mode="events_buffering"),
        sample(harness.metrics, "llm_provider_degraded_mode", mode="events_dropping"),
    )


def with_a_topic_that_hangs(time: Timeline) -> Harness:
    """An event of one topic waits, and is not acknowledged."""
    harness = Harness(time=time)
    harness.link.unacknowledged.add(MISS)
    harness.publish(miss(1))
    return harness


def kafka_up(harness: Harness) -> float | None:
    return sample(harness.metrics, "llm_provider_kafka_up")


async def test_events_that_wait_for_kafka_are_a_mode_that_ends_with_their_delivery() -> None:
    harness = Harness()
    assert harness.outbox.health() == EventHealth(kafka=UNHEALTHY)
    harness.publish(miss(1))
    assert harness.outbox.health() == EventHealth(kafka=UNHEALTHY, buffering="kafka_away")
    assert (gauges(harness), kafka_up(harness)) == ((1.0, 0.0), 0.0)
    async with running(harness):
        assert harness.outbox.health() == EventHealth(kafka=HEALTHY)
        assert (gauges(harness), kafka_up(harness)) == ((0.0, 0.0), 1.0)


async def test_a_kafka_that_refuses_us_is_named_as_the_cause_also_of_what_expires() -> None:
    harness = Harness(link=FakeLink(*[Forbidden("SaslAuthenticationFailed")] * 1000), max_age_s=600.0)
    harness.publish(miss(1))
    async with running(harness):
        assert harness.outbox.health() == EventHealth(kafka=UNHEALTHY, buffering="auth")
        await harness.let_pass(HALF_AN_HOUR_S)
    assert harness.dropped(MISS, "auth") == 1.0


async def test_what_expires_after_a_kafka_that_refused_us_takes_us_again_has_another_cause() -> None:
    harness = Harness(link=FakeLink(Forbidden("SaslAuthenticationFailed")), max_age_s=600.0)
    harness.link.acknowledges = False
    async with running(harness):
        harness.publish(miss(1))
        await harness.let_pass(HALF_AN_HOUR_S)
        assert harness.dropped(MISS, "expired") == 1.0


@pytest.mark.parametrize(
    ("refusal", "cause"),
    [(TopicMissing("InvalidTopicError"), "unknown_topic"), (Forbidden("SaslAuthenticationFailed"), "auth")],
)
async def test_one_topic_that_waits_is_a_mode_although_kafka_is_well_until_its_events_expire(
    refusal: LinkFailure, cause: str
) -> None:
    harness = Harness(max_age_s=600.0)
    harness.link.refusals[MISS] = refusal
    harness.publish(miss(1))
    async with running(harness):
        assert harness.outbox.health() == EventHealth(kafka=HEALTHY, buffering=cause)
        await harness.let_pass(HALF_AN_HOUR_S)
        assert harness.dropped(MISS, cause) == 1.0
        assert harness.outbox.health().buffering is None


async def test_a_topic_that_is_not_acknowledged_while_others_are_is_a_mode_and_no_failure_of_kafka() -> None:
    time = Timeline()
    harness = with_a_topic_that_hangs(time)
    with capture_logs() as lines:
        async with running(harness):
            for moment_s in range(1001, 1041):
                harness.publish(CacheHit(provider=None, correlation_id=UUID(int=moment_s), cache_key=""))
                await time.pass_until(moment_s)
            assert harness.outbox.health() == EventHealth(kafka=HEALTHY, buffering="kafka_away")
            assert harness.counts()["delivered"] == 40.0
            harness.link.acknowledge()
            await settle()
            assert harness.outbox.health() == EventHealth(kafka=HEALTHY)
    told = [(line["event"], line.get("topic")) for line in lines if line["event"].endswith(("_no_events", "_entered"))]
    assert told == [("topic_takes_no_events", MISS.topic), ("degraded_mode_entered", None)]


async def test_a_topic_that_flows_again_is_no_mode_although_more_of_its_events_wait() -> None:
    time = Timeline()
    harness = with_a_topic_that_hangs(time)
    harness.publish(*(miss(number) for number in range(2, 102)))
    async with running(harness):
        await time.pass_until(time() + ACK_TIMEOUT_S)
        assert harness.outbox.health() == EventHealth(kafka=UNHEALTHY, buffering="kafka_away")
        harness.link.acknowledge()
        harness.link.unacknowledged.add(MISS)
        await settle()
        assert harness.queue.pending == 1
        assert harness.outbox.health() == EventHealth(kafka=HEALTHY)


async def test_a_topic_that_is_not_acknowledged_is_named_once_also_if_kafka_was_silent_at_first() -> None:
    time = Timeline()
    harness = with_a_topic_that_hangs(time)
    with capture_logs() as lines:
        async with running(harness):
            for moment_s in range(1015, 1060):
                await time.pass_until(moment_s)
                harness.publish(CacheHit(provider=None, correlation_id=UUID(int=moment_s), cache_key=""))
            assert harness.outbox.health() == EventHealth(kafka=HEALTHY, buffering="kafka_away")
    told = [line["topic"] for line in lines if line["event"] == "topic_takes_no_events"]
    assert told == [MISS.topic]


async def test_a_topic_that_kafka_refuses_for_another_reason_is_a_mode_until_it_is_taken() -> None:
    time = Timeline()
    harness = Harness(time=time)
    harness.link.batch_errors = [InvalidTimestampError()]
    harness.publish(miss(1))
    async with running(harness):
        harness.publish(CacheHit(provider=None, correlation_id=UUID(int=2), cache_key=""))
        await settle()
        assert harness.outbox.health() == EventHealth(kafka=HEALTHY, buffering="kafka_away")
        await time.pass_until(1001.0)
        assert harness.outbox.health() == EventHealth(kafka=HEALTHY)


def test_events_that_were_given_up_are_a_mode_for_a_minute() -> None:
    harness = Harness(max_messages=1)
    harness.publish(miss(1), miss(2))
    assert (harness.outbox.health().dropping, gauges(harness)) == (True, (1.0, 1.0))
    harness.clock.advance(60.0)
    assert (harness.outbox.health().dropping, gauges(harness)) == (False, (1.0, 0.0))


async def test_each_reason_why_kafka_takes_nothing_is_told_once() -> None:
    failures = [LinkDown("NodeNotReadyError")] * 4 + [Forbidden("SaslAuthenticationFailed")] * 3
    harness = Harness(link=FakeLink(*failures))
    harness.publish(miss(1))
    with capture_logs() as lines:
        async with running(harness):
            await harness.let_pass(HALF_AN_HOUR_S)
    told = [(line["event"], line.get("reason")) for line in lines if line["event"].startswith("kafka_")]
    assert told == [
        ("kafka_takes_no_events", "NodeNotReadyError"),
        ("kafka_takes_no_events", "SaslAuthenticationFailed"),
        ("kafka_takes_events", None),
    ]


async def test_the_topic_that_waits_is_named_once() -> None:
    harness = Harness(max_age_s=600.0)
    harness.link.refusals[MISS] = TopicMissing("InvalidTopicError")
    harness.publish(miss(1), miss(2))
    with capture_logs() as lines:
        async with running(harness):
            await harness.let_pass(HALF_AN_HOUR_S)
    (line,) = (line for line in lines if line["event"] == "topic_takes_no_events")
    assert (line["topic"], line["waits_for"], line["reason"]) == (MISS.topic, "unknown_topic", "InvalidTopicError")


async def test_a_topic_that_is_closed_to_us_is_named_once_and_no_failure_of_kafka() -> None:
    harness = Harness()
    harness.link.batch_errors = [TopicAuthorizationFailedError()] * 3
    harness.publish(miss(1))
    with capture_logs() as lines:
        async with running(harness):
            await harness.let_pass(HALF_AN_HOUR_S)
    assert harness.counts()["delivered"] == 1.0
    told = [(line["event"], line.get("topic")) for line in lines if line["event"].endswith(("_events", "_no_events"))]
    assert told == [("kafka_takes_events", None), ("topic_takes_no_events", MISS.topic)]


async def test_entering_and_leaving_a_mode_is_told_once() -> None:
    harness = Harness(link=FakeLink(*[LinkDown("NodeNotReadyError")] * 7), max_messages=1)
    harness.publish(miss(1), miss(2))
    with capture_logs() as lines:
        async with running(harness):
            await harness.let_pass(HALF_AN_HOUR_S)
    told = [(line["event"], line["mode"]) for line in lines if "mode" in line]
    assert told == [
        ("degraded_mode_entered", "events_buffering"),
        ("degraded_mode_entered", "events_dropping"),
        ("degraded_mode_left", "events_dropping"),  # after a minute
        ("degraded_mode_left", "events_buffering"),  # at the eighth try, after two
    ]
