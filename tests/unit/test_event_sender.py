"""The sender on a link that fails as Kafka does: nothing is lost uncounted, nothing overtakes, nobody is blocked."""

import asyncio
import gc
from unittest.mock import patch

from aiokafka.errors import (  # type: ignore[import-untyped]  # it has no py.typed
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    UnknownTopicOrPartitionError,
)

from api_models import CacheHit, CircuitState, CostAlerted, CostAlertType, DependencyStatus, ProcessingEvent
from implementations.events.connection import Backoff
from implementations.events.kafka_failures import LinkDown, TooLarge, TopicMissing, Unanswered
from implementations.events.lane import ACK_TIMEOUT_S
from implementations.events.message import TRUNCATED, Message
from implementations.events.outbox import KAFKA_AWAY
from implementations.events.request_events import started, unanswered
from tests.fakes import CORRELATION_ID, InstantSleep, Timeline, begun, query, settle
from tests.kafka_fakes import HALF_AN_HOUR_S, FakeLink, Harness, keys, miss, running

MISS = ProcessingEvent.LLM_CACHE_MISS
HIT = CacheHit(provider=None, correlation_id=CORRELATION_ID, cache_key="key")
ALERT = CostAlerted(
    alert_type=CostAlertType.DAILY_LIMIT, provider=None, current_cost=80.0, threshold=80.0, period="2026-11-23"
)


async def until_empty(harness: Harness) -> None:
    for _ in range(200):
        if not harness.queue.pending:
            return
        await settle()
    raise AssertionError("events are still pending")


async def test_events_are_delivered_in_order() -> None:
    async with running(Harness()) as harness:
        harness.publish(*(miss(number) for number in range(250)))
        await until_empty(harness)

    assert harness.link.delivered_keys() == keys(range(250))
    assert harness.counts()["delivered"] == 250.0
    assert harness.link.closed == 1


async def test_what_is_acknowledged_leaves_nobody_waiting() -> None:
    async with running(Harness(time=Timeline())) as harness:
        before = len(asyncio.all_tasks())
        harness.publish(*(miss(number) for number in range(250)))
        await until_empty(harness)
        await settle()
        assert len(asyncio.all_tasks()) == before


async def test_no_more_than_a_hundred_of_a_topic_are_in_flight() -> None:
    harness = Harness()
    harness.link.acknowledges = False
    async with running(harness):
        harness.publish(*(miss(number) for number in range(250)), HIT)
        await settle()
        assert [posted.event for posted in harness.link.posts].count(MISS) == 100
        assert len(harness.link.posts) == 101
        harness.link.acknowledge()
        await until_empty(harness)
    assert harness.link.posts[-1].key == keys([249])[0]


async def test_a_kafka_that_is_away_is_tried_again_after_waits_that_grow_until_it_is_back() -> None:
    away = LinkDown("NodeNotReadyError")
    harness = Harness(link=FakeLink(*[away] * 7, None, away, away))
    harness.link.batch_errors = [OutOfOrderSequenceNumber()]
    harness.publish(miss(1))
    async with running(harness):
        await until_empty(harness)

    waits = [nap for nap in harness.sleep.naps if nap in {2.0, 4.0, 8.0, 16.0, 30.0}]
    assert waits == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 2.0]
    assert harness.link.opened == 11


async def test_a_connection_that_is_being_opened_may_be_given_up_and_frees_the_place_of_a_probe() -> None:
    harness, opens = Harness(), asyncio.Event()
    harness.circuit.force(CircuitState.OPEN, reason="away", actor="the test", for_s=0.0)

    async def slowly() -> None:
        await opens.wait()

    with patch.object(harness.link, "open", slowly):
        opening = await begun(harness.connection.keep_open())
        is_probed = harness.circuit.refusal() is not None
        opening.cancel()
        await settle()
        opens.set()
    assert (is_probed, opening.cancelled(), harness.circuit.refusal()) == (True, True, None)


async def test_a_sender_that_ends_while_events_are_under_way_frees_the_place_of_a_probe() -> None:
    harness = Harness(time=Timeline())
    harness.link.acknowledges = False
    harness.circuit.force(CircuitState.OPEN, reason="away", actor="the test", for_s=0.0)
    harness.publish(miss(1))
    async with running(harness):
        is_probed = harness.circuit.refusal() is not None
    assert (is_probed, len(harness.link.posts), harness.circuit.refusal()) == (True, 1, None)


async def test_a_sender_that_ends_while_events_hang_frees_the_place_of_a_later_probe() -> None:
    time = Timeline()
    harness = Harness(time=time)
    harness.link.acknowledges = False
    harness.circuit.force(CircuitState.OPEN, reason="away", actor="the test", for_s=0.0)
    harness.publish(miss(1))
    async with running(harness):
        await time.pass_until(time() + ACK_TIMEOUT_S)
        is_open = harness.circuit.state is CircuitState.OPEN
        harness.clock.advance(30.0)
        await time.pass_until(time() + ACK_TIMEOUT_S)
        is_probed = harness.circuit.refusal() is not None
    assert (is_open, is_probed, harness.circuit.refusal()) == (True, True, None)


async def test_a_topic_that_is_refused_frees_the_place_of_a_probe() -> None:
    harness = Harness(time=Timeline())
    harness.link.batch_errors = [UnknownTopicOrPartitionError()]
    harness.circuit.force(CircuitState.OPEN, reason="away", actor="the test", for_s=0.0)
    harness.publish(miss(1))
    async with running(harness):
        assert (len(harness.link.posts), harness.link.opened) == (1, 2)
        assert (harness.circuit.state, harness.circuit.refusal()) == (CircuitState.HALF_OPEN, None)


async def test_a_circuit_that_is_tried_closes_with_enough_deliveries() -> None:
    harness = Harness(time=Timeline())
    harness.circuit.force(CircuitState.OPEN, reason="away", actor="the test", for_s=0.0)
    harness.publish(miss(1))
    async with running(harness):
        assert (len(harness.link.posts), harness.circuit.state) == (1, CircuitState.HALF_OPEN)
        harness.publish(miss(2))
        await settle()
        assert (len(harness.link.posts), harness.circuit.state) == (2, CircuitState.CLOSED)


async def test_a_wait_is_drawn_from_its_upper_half() -> None:
    sleep = InstantSleep()
    for jitter in (min, max):
        backoff = Backoff(jitter, sleep)
        for _ in range(6):
            await backoff.wait()
    backoff.reset()
    await backoff.wait()
    assert sleep.naps == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 1.0]


async def test_a_kafka_that_stays_away_opens_the_circuit() -> None:
    async with running(Harness(link=FakeLink(*[LinkDown("NodeNotReadyError")] * 12))) as harness:
        await harness.let_pass(HALF_AN_HOUR_S)

    assert harness.transitions[:2] == [CircuitState.OPEN, CircuitState.HALF_OPEN]
    assert harness.outbox.health().kafka is DependencyStatus.HEALTHY


async def test_a_kafka_that_reports_one_failure_after_the_other_opens_the_circuit() -> None:
    harness = Harness()
    harness.link.batch_errors = [KafkaError()] * 12
    harness.publish(miss(1))
    async with running(harness):
        await harness.let_pass(HALF_AN_HOUR_S)

    assert harness.transitions[:2] == [CircuitState.OPEN, CircuitState.HALF_OPEN]
    assert harness.counts()["delivered"] == 1.0


async def test_a_producer_that_fails_for_all_topics_has_failed_once() -> None:
    harness = Harness()
    events = (miss(1), HIT, started(query()), unanswered(query(), "No.", 1.0, provider=None, cost_usd=0.0), ALERT)
    harness.link.batch_errors = [KafkaError()] * len(events)
    harness.publish(*events)
    async with running(harness):
        await until_empty(harness)

    assert (harness.link.opened, harness.transitions) == (2, [])


async def test_a_topic_that_is_taken_again_is_tried_soon_when_it_is_refused_the_next_time() -> None:
    missing = UnknownTopicOrPartitionError()
    harness = Harness()
    harness.link.batch_errors = [*[missing] * 3, None, *[missing] * 2]
    async with running(harness):
        for number in (1, 2):
            harness.publish(miss(number))
            await until_empty(harness)

    assert [nap for nap in harness.sleep.naps if nap in {2.0, 4.0, 8.0, 16.0}] == [2.0, 4.0, 2.0]


async def test_what_hangs_is_waited_for_and_never_sent_twice() -> None:
    time = Timeline()
    harness = Harness(time=time)
    harness.link.acknowledges = False
    harness.publish(miss(1))
    async with running(harness):
        await time.pass_until(time() + 3 * ACK_TIMEOUT_S)
        assert harness.outbox.health().kafka is DependencyStatus.UNHEALTHY
        assert harness.queue.pending == 1
        harness.link.acknowledge()
        await until_empty(harness)
        assert harness.outbox.health().kafka is DependencyStatus.HEALTHY

    assert len(harness.link.posts) == 1


async def test_a_hang_of_minutes_gets_a_fresh_producer() -> None:
    harness = Harness()
    harness.link.acknowledges = False
    harness.publish(miss(1), miss(2))
    async with running(harness):
        for _ in range(100):
            if harness.link.closed:
                break
            await settle()
        harness.link.acknowledges = True
        await until_empty(harness)

    assert harness.link.delivered_keys()[-2:] == keys([1, 2])
    assert harness.link.opened > 1


async def test_a_topic_of_which_no_broker_tells_replaces_no_producer_that_holds_others() -> None:
    time = Timeline()
    harness = Harness(time=time)
    harness.link.refusals[HIT.event] = Unanswered("TimeoutError")
    harness.link.unacknowledged.add(MISS)
    harness.publish(miss(1), HIT)
    async with running(harness):
        await time.pass_until(1060.0)
        assert harness.outbox.health().kafka is DependencyStatus.UNHEALTHY
        harness.link.refusals.clear()
        harness.link.acknowledge()
        await time.pass_until(1090.0)
        assert harness.outbox.health().kafka is DependencyStatus.HEALTHY
    assert [posted.event for posted in harness.link.posts] == [MISS, HIT.event]
    assert harness.link.opened == 1


async def test_a_session_that_broke_while_the_circuit_was_open_is_not_sent_through() -> None:
    harness = Harness()
    harness.link.acknowledges = False
    async with running(harness):
        earlier = await harness.connection.session()
        harness.circuit.force(CircuitState.OPEN, reason="a test", actor="test")
        harness.publish(miss(1))
        await settle()
        earlier.broken.set()
        await settle()
        harness.circuit.reset()
        await settle()
        assert harness.link.opened == 2
        harness.link.acknowledge()
        await until_empty(harness)
    assert len(harness.link.posts) == 1


async def test_a_session_that_ends_before_anything_is_acknowledged_proves_nothing() -> None:
    harness = Harness()
    harness.link.acknowledges = False
    harness.publish(miss(1))
    async with running(harness):
        harness.connection.failed(None, "NodeNotReadyError")
        (await harness.connection.session()).over.set()
        await settle()
        assert not harness.connection.is_healthy
        harness.link.acknowledge()
        await until_empty(harness)


async def test_an_open_circuit_closes_at_once_when_what_hung_is_delivered() -> None:
    harness = Harness()
    harness.circuit.force(CircuitState.OPEN, reason="a test", actor="test")
    harness.connection.delivered(None)

    assert harness.circuit.state is CircuitState.CLOSED


async def test_a_missing_topic_waits_and_the_others_flow() -> None:
    harness = Harness()
    harness.link.refusals[MISS] = TopicMissing("InvalidTopicError")
    harness.publish(miss(1), HIT, miss(2))
    async with running(harness):
        assert [posted.event for posted in harness.link.posts] == [HIT.event]
        assert harness.outbox.health().kafka is DependencyStatus.HEALTHY
        del harness.link.refusals[MISS]
        await until_empty(harness)
        assert harness.link.opened == 1

    assert harness.link.delivered_keys()[1:] == keys([1, 2])


class Narrow(FakeLink):
    """Takes no message above its limit."""

    limit = 500

    async def post(self, message: Message) -> asyncio.Future[None]:
        if len(message.encoded()) > self.limit:
            raise TooLarge("RecordTooLargeError")
        return await super().post(message)


def hit(**changes: object) -> CacheHit:
    return CacheHit(**{"provider": None, "correlation_id": CORRELATION_ID, "cache_key": "key", **changes})  # type: ignore[arg-type]  # the changes fit


async def test_an_event_that_is_too_large_loses_its_metadata_and_one_that_still_is_goes() -> None:
    harness = Harness(link=Narrow())
    harness.publish(hit(metadata={"note": "x" * 600}), hit(cache_key="x" * 600), HIT)
    async with running(harness):
        await until_empty(harness)

    assert harness.dropped(HIT.event, "too_large") == 1.0
    assert [posted.is_truncated for posted in harness.link.posts] == [True, False]
    assert b'"truncated":true' in harness.link.posts[0].encoded()
    assert TRUNCATED == {"truncated": True}


async def test_a_topic_that_finds_a_batch_too_large_gets_one_message_at_a_time_before_anything_is_cut() -> None:
    harness = Harness()
    harness.link.batch_errors = [MessageSizeTooLargeError(), MessageSizeTooLargeError()]
    harness.publish(miss(1), miss(2), miss(3))
    async with running(harness):
        await until_empty(harness)
        assert harness.link.opened == 2
        assert not any(posted.is_truncated for posted in harness.link.posts)
        assert harness.counts()["delivered"] == 3.0

        harness.link.acknowledges = False
        harness.publish(miss(4), miss(5))
        await settle()
        assert harness.link.delivered_keys()[-1:] == keys([4])
        harness.link.acknowledge()
        await until_empty(harness)


async def test_a_batch_of_one_topic_and_one_of_another_that_are_too_large_at_once_cost_no_event_its_metadata() -> None:
    harness = Harness()
    harness.link.batch_errors = [MessageSizeTooLargeError()] * 4
    harness.publish(miss(1), miss(2), HIT, HIT)
    async with running(harness):
        await until_empty(harness)

    assert not any(posted.is_truncated for posted in harness.link.posts)
    assert harness.counts()["delivered"] == 4.0


async def test_a_message_that_the_broker_finds_too_large_alone_is_cut_and_then_dropped() -> None:
    harness = Harness()
    harness.link.batch_errors = [MessageSizeTooLargeError()] * 2
    harness.publish(miss(1))
    async with running(harness):
        await until_empty(harness)

    assert [posted.is_truncated for posted in harness.link.posts] == [True, True]  # one and the same
    assert harness.link.opened == 3
    assert harness.dropped(MISS, "too_large") == 1.0


async def test_a_producer_that_reports_a_failure_is_replaced_and_nothing_overtakes() -> None:
    harness = Harness()
    harness.link.batch_errors = [None, OutOfOrderSequenceNumber(), KafkaError()]
    harness.publish(miss(1), miss(2), miss(3), miss(4))
    async with running(harness):
        await until_empty(harness)

    assert harness.link.delivered_keys() == keys([1, 2, 3, 4, 2, 3])
    assert harness.counts()["delivered"] == 4.0


async def test_a_link_that_takes_nothing_is_replaced() -> None:
    time = Timeline()
    harness = Harness(time=time)
    harness.link.refusals[MISS] = LinkDown("NodeNotReadyError")
    harness.publish(miss(1))
    async with running(harness):
        assert harness.outbox.health().buffering == KAFKA_AWAY
        harness.link.refusals.clear()
        await time.pass_until(time() + 1.0)

    assert (harness.link.opened, harness.counts()["delivered"]) == (2, 1.0)


async def test_a_link_that_goes_on_taking_nothing_is_held_back_by_the_back_off_of_its_topic_alone() -> None:
    harness = Harness()
    harness.link.refusals[MISS] = LinkDown("NodeNotReadyError")
    harness.publish(miss(1))
    async with running(harness):
        await harness.let_pass(HALF_AN_HOUR_S)
        assert harness.link.opened > 10
        assert harness.transitions == []
        assert harness.sleep.naps.count(30.0) > 1


async def test_an_event_without_a_form_in_json_is_dropped_and_stops_no_other() -> None:
    harness = Harness()
    harness.publish(miss(1))
    broken = hit(cache_key=object())
    harness.publish(broken, HIT)
    async with running(harness):
        await until_empty(harness)

    assert harness.dropped(HIT.event, "defect") == 1.0
    assert harness.counts()["delivered"] == 2.0


class Cancelling(FakeLink):
    """What a message is waited for with is cancelled by somebody else."""

    async def post(self, message: Message) -> asyncio.Future[None]:
        raise asyncio.CancelledError


async def test_a_topic_whose_wait_is_cancelled_ends_the_sender_so_that_it_is_started_again() -> None:
    harness = Harness(link=Cancelling())
    harness.publish(miss(1))
    sender = await begun(harness.outbox.run())
    assert sender.done()
    assert isinstance(sender.exception(), ExceptionGroup)
    assert harness.counts()["pending"] == 1.0


async def test_stopping_gives_back_what_is_under_way_and_counts_it_as_lost() -> None:
    unheard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    harness = Harness()
    harness.link.acknowledges = False
    harness.publish(miss(1), miss(2))
    async with running(harness):
        assert harness.queue.pending == 2
    harness.outbox.close()
    harness.link.waiting.clear()
    gc.collect()  # what nobody has looked at is told by then

    assert unheard == []
    assert harness.counts()["lost"] == 2.0
    assert harness.counts()["pending"] == 0.0


async def test_flushing_ends_when_all_is_acknowledged_or_after_five_seconds() -> None:
    harness = Harness()
    await harness.outbox.flush()
    assert harness.sleep.naps == []
    harness.publish(miss(1))
    before_s = harness.clock.now_s
    await harness.outbox.flush()
    assert 5.0 <= harness.clock.now_s - before_s < 5.1


async def test_flushing_tries_a_kafka_at_once_that_was_away() -> None:
    time = Timeline()
    away = LinkDown("NodeNotReadyError")
    harness = Harness(link=FakeLink(away, away), time=time)
    harness.circuit.force(CircuitState.OPEN, reason="away", actor="the test", for_s=0.0)
    harness.publish(miss(1))
    async with running(harness):
        assert (harness.link.opened, harness.circuit.state) == (1, CircuitState.OPEN)
        flushing = await begun(harness.outbox.flush())
        assert harness.link.opened == 2
        await time.pass_until(time() + 1.1)  # the wait after a first failure
        assert flushing.done()
    assert harness.counts()["delivered"] == 1.0


async def test_flushing_tries_a_topic_at_once_that_was_missing() -> None:
    time = Timeline()
    harness = Harness(time=time)
    harness.link.refusals[MISS] = TopicMissing("UnknownTopicOrPartitionError")
    harness.publish(miss(1))
    async with running(harness):
        harness.link.refusals.clear()
        flushing = await begun(harness.outbox.flush())
        await time.pass_until(time() + 0.1)
        assert flushing.done()
    assert harness.counts()["delivered"] == 1.0
