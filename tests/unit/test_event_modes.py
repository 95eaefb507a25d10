"""The two degraded modes of the events: what they say, when they begin and end, and that each change is told once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from api_models import DependencyStatus, ProcessingEvent
from implementations.events.kafka_link import Forbidden, LinkDown, LinkFailure, TopicMissing
from protocols import EventHealth
from tests.fakes import sample, settle
from tests.kafka_fakes import FakeLink, Room, miss

MISS = ProcessingEvent.LLM_CACHE_MISS
HEALTHY, UNHEALTHY = DependencyStatus.HEALTHY, DependencyStatus.UNHEALTHY


@asynccontextmanager
async def running(room: Room) -> AsyncIterator[None]:
    sender = asyncio.create_task(room.outbox.run())
    await settle()
    yield
    sender.cancel()
    await asyncio.wait([sender])


def gauges(room: Room) -> tuple[float | None, float | None]:
    return (
        sample(room.metrics, "llm_provider_degraded_mode", mode="events_buffering"),
        sample(room.metrics, "llm_provider_degraded_mode", mode="events_dropping"),
    )


async def test_events_that_wait_for_kafka_are_a_mode_that_ends_with_their_delivery() -> None:
    room = Room()
    assert room.outbox.health() == EventHealth(kafka=UNHEALTHY)
    room.publish(miss(1))
    assert room.outbox.health() == EventHealth(kafka=UNHEALTHY, buffering="kafka_away")
    assert gauges(room) == (1.0, 0.0)
    async with running(room):
        assert room.outbox.health() == EventHealth(kafka=HEALTHY)
        assert gauges(room) == (0.0, 0.0)


async def test_a_kafka_that_refuses_us_is_named_as_the_cause() -> None:
    room = Room(link=FakeLink(*[Forbidden()] * 1000), max_age_s=1e9)
    room.publish(miss(1))
    async with running(room):
        assert room.outbox.health() == EventHealth(kafka=UNHEALTHY, buffering="auth")


@pytest.mark.parametrize(("refusal", "cause"), [(TopicMissing(), "unknown_topic"), (Forbidden(), "auth")])
async def test_one_topic_that_waits_is_a_mode_although_kafka_is_well(refusal: LinkFailure, cause: str) -> None:
    room = Room(max_age_s=600.0)
    room.link.refusals[MISS] = refusal
    room.publish(miss(1))
    async with running(room):
        assert room.outbox.health() == EventHealth(kafka=HEALTHY, buffering=cause)
        for _ in range(100):
            await settle()
        assert room.dropped(MISS, cause) == 1.0
        assert room.outbox.health().buffering is None


def test_events_that_were_given_up_are_a_mode_for_a_minute() -> None:
    room = Room(max_messages=1)
    room.publish(miss(1), miss(2))
    assert (room.outbox.health().dropping, gauges(room)) == (True, (1.0, 1.0))
    room.clock.advance(60.0)
    assert (room.outbox.health().dropping, gauges(room)) == (False, (1.0, 0.0))


async def test_entering_and_leaving_a_mode_is_told_once() -> None:
    room = Room(link=FakeLink(*[LinkDown()] * 7), max_messages=1)
    room.publish(miss(1), miss(2))
    with capture_logs() as lines:
        async with running(room):
            for _ in range(100):
                await settle()
    told = [(line["event"], line["mode"]) for line in lines if "mode" in line]
    assert told == [
        ("degraded_mode_entered", "events_buffering"),
        ("degraded_mode_entered", "events_dropping"),
        ("degraded_mode_left", "events_dropping"),  # after a minute
        ("degraded_mode_left", "events_buffering"),  # at the eighth try, after two
    ]
