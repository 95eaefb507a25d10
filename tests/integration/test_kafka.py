"""Events on a real broker, read by a client of another make: whatever befalls Kafka or us, nothing goes astray.

What only a broker of our own can suffer (death, hang, a missing topic) is played on one; the mock cluster inside
confluent-kafka, which is used where neither Maven nor a given Kafka is, cannot be stopped and makes its own topics.
"""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from tests.integration.events_on_kafka import (
    COMPLETED,
    COST,
    FAILED,
    NOBODY,
    RUN,
    STARTED,
    TOPICS,
    USAGE,
    ask,
    balances,
    counts,
    is_empty,
    kafka_is,
    numbers,
    read,
    told,
    with_kafka,
)
from tests.integration.kafka_broker import PASSWORD, USER, Broker
from tests.integration.service_process import service, silent, wait_until

ONE_KEY = str(uuid4())  # the order is promised for one key


@pytest.fixture
def topics(kafka: Broker) -> Broker:
    """The broker with every topic."""
    kafka.create(*TOPICS)
    return kafka


@pytest.fixture
def mortal(topics: Broker) -> Iterator[Broker]:
    """A broker that the test may kill and freeze; it lives again afterwards."""
    if not topics.can_stop:
        pytest.skip(f"{topics.name} cannot be stopped; where Maven and Java are, this runs on Apache Kafka")
    yield topics
    topics.thaw()
    if not topics.answers():
        topics.start()


@pytest.mark.parametrize("collector", [None, f"http://{NOBODY}"], ids=["without a collector", "with one"])
def test_an_event_bears_the_trace_of_its_request(collector: str | None, topics: Broker, tmp_path: Path) -> None:
    trace, caller = uuid4().hex, "b7ad6b7169203331"
    given = f"00-{trace}-{caller}-01"
    settings = {"OTLP_ENDPOINT": collector} if collector else {}
    with service(tmp_path, with_kafka(topics.servers, **settings)) as running:
        mine = running.compare(headers={"traceparent": given}).json()
        assert mine["trace_id"] == trace
        wait_until(lambda: is_empty(running))
    key = mine["correlation_id"].encode()
    for topic in (STARTED, COMPLETED, COST):
        (message,) = (one for one in topics.read(topic, at_least=1) if one.key() == key)
        (told,) = orjson.loads(message.value() or b"")["metadata"].values()
        assert ("traceparent", told.encode()) in list(message.headers() or [])
        assert (told == given) == (collector is None)
        assert re.fullmatch(f"00-{trace}-[0-9a-f]{{16}}-01", told)


def test_every_request_is_told_in_order_under_its_key(topics: Broker, tmp_path: Path) -> None:
    same = str(uuid4())
    with service(tmp_path, with_kafka(topics.servers)) as running:
        for number in range(20):
            metadata = {"batch": f"{RUN}-order", "number": number}
            assert running.compare(correlation_id=same, replicate=number, metadata=metadata).status == 200
        wait_until(lambda: is_empty(running))
        assert balances(running)
        assert kafka_is(running, "healthy")
    for topic in (STARTED, COMPLETED, COST):
        messages = [one for one in topics.read(topic, at_least=20) if one.key() == same.encode()]
        assert list(numbers(told(messages, "order"))) == list(range(20))
        assert len({one.partition() for one in messages}) == 1
        event_type = topic.removeprefix("huleedu.")
        assert messages[0].headers() == [("event_type", event_type.encode()), ("correlation_id", same.encode())]
        envelope = orjson.loads(messages[0].value() or b"")
        assert envelope["event_type"] == event_type
        assert (envelope["source_service"], envelope["correlation_id"]) == ("llm-provider-service", same)


@pytest.mark.parametrize("servers", [NOBODY, "nowhere.invalid:9092", None], ids=["refused", "no such name", "silent"])
def test_a_service_whose_kafka_is_away_at_the_start_serves_and_says_so(servers: str | None, tmp_path: Path) -> None:
    with silent() as address, service(tmp_path, with_kafka(servers or address)) as running:
        ask(running, "away", 5)
        wait_until(lambda: kafka_is(running, "unhealthy"))
        health = running.ask("/healthz")
        assert (health.status, health.json()["status"]) == (200, "degraded")
        assert "events_buffering: events wait in this process (kafka_away)" in health.json()["warnings"]
        assert running.ask("/readyz").status == 200
        assert counts(running)["queue_depth"] == 20
        assert balances(running)


def test_what_kafka_could_not_take_until_the_end_is_counted_as_lost(tmp_path: Path) -> None:
    with service(tmp_path, with_kafka(NOBODY)) as running:
        ask(running, "lost", 5)
        running.terminate()
        assert running.exit_code() == 0
        (lost,) = [line for line in running.lines() if line["event"] == "events_lost_at_exit"]
        assert lost["count"] == 21  # and the last window of the usage


def test_a_second_signal_waits_for_no_last_delivery(tmp_path: Path) -> None:
    with silent() as address, service(tmp_path, with_kafka(address)) as running:
        ask(running, "hurried", 5)
        running.terminate()
        wait_until(lambda: "Waiting for application shutdown" in running.written())
        running.terminate()
        assert running.exit_code(within_s=4.0) == 0  # and not 5, which the delivery may take
        assert "stopping_at_once" in running.written()


def test_without_room_the_costs_stay_and_the_health_says_what_happens(tmp_path: Path) -> None:
    with service(tmp_path, with_kafka(NOBODY, KAFKA_FALLBACK_QUEUE_SIZE="4")) as running:
        ask(running, "full", 4)
        metrics, warnings = running.ask("/metrics").text, running.ask("/healthz").json()["warnings"]
        assert counts(running)["queue_depth"] == 4
        assert balances(running)
    dropped = {
        topic: float(re.findall(rf'events_dropped_total{{reason="overflow",topic="{topic}"}} (\S+)', metrics)[0])
        for topic in TOPICS
    }
    assert (dropped[STARTED], dropped[COMPLETED], dropped[COST]) == (4.0, 4.0, 0.0)
    assert "events_dropping: events were dropped within the last minute, and counted" in warnings
    assert 'llm_provider_degraded_mode{mode="events_dropping"} 1.0' in metrics


def test_a_broker_that_dies_and_returns_gets_everything_once_and_in_order(perishable: Broker, tmp_path: Path) -> None:
    perishable.create(*TOPICS)
    with service(tmp_path, with_kafka(perishable.servers)) as running:
        ask(running, "death", 20, key=ONE_KEY)
        wait_until(lambda: is_empty(running))
        perishable.kill()
        ask(running, "death", 40, first=20, key=ONE_KEY)
        wait_until(lambda: kafka_is(running, "unhealthy"))
        assert balances(running)
        perishable.start()
        wait_until(lambda: is_empty(running), within_s=60.0)
        wait_until(lambda: kafka_is(running, "healthy"))
        assert balances(running)
    for topic in (STARTED, COMPLETED, COST):
        assert list(numbers(read(perishable, topic, "death", 60)).elements()) == list(range(60))


def test_a_broker_that_hangs_delays_nobody_and_gets_everything_once(mortal: Broker, tmp_path: Path) -> None:
    with service(tmp_path, with_kafka(mortal.servers)) as running:
        ask(running, "hang", 5, key=ONE_KEY)
        wait_until(lambda: is_empty(running))
        mortal.freeze()
        ask(running, "hang", 200, first=5, key=ONE_KEY)
        wait_until(lambda: kafka_is(running, "unhealthy"))
        assert balances(running)
        mortal.thaw()
        wait_until(lambda: is_empty(running), within_s=60.0)
    assert list(numbers(read(mortal, COMPLETED, "hang", 205)).elements()) == list(range(205))


def test_a_service_that_stops_while_its_broker_hangs_ends_in_time_and_counts_what_is_lost(
    mortal: Broker, tmp_path: Path
) -> None:
    with service(tmp_path, with_kafka(mortal.servers)) as running:
        ask(running, "end", 5)
        wait_until(lambda: is_empty(running))
        mortal.freeze()
        ask(running, "end", 50, first=5)
        running.terminate()
        assert running.exit_code() == 0
        (lost,) = [line for line in running.lines() if line["event"] == "events_lost_at_exit"]
        assert lost["count"] == 4 * 50 + 1  # and the last window of the usage
        assert "never retrieved" not in running.written()


def test_a_missing_topic_holds_up_no_other_and_is_served_when_it_comes(mortal: Broker, tmp_path: Path) -> None:
    mortal.delete(COMPLETED)
    with service(tmp_path, with_kafka(mortal.servers)) as running:
        ask(running, "topic", 3)
        assert len(read(mortal, COST, "topic", 3)) == 3
        wait_until(lambda: counts(running)["queue_depth"] == 3)
        assert kafka_is(running, "healthy")
        mortal.create(COMPLETED)
        wait_until(lambda: is_empty(running), within_s=60.0)
    assert numbers(read(mortal, COMPLETED, "topic", 3)) == Counter(range(3))


def test_an_event_that_is_too_large_is_dropped_and_the_next_one_arrives(mortal: Broker, tmp_path: Path) -> None:
    mortal.delete(STARTED)
    mortal.create(STARTED, settings={"max.message.bytes": "200"})
    with service(tmp_path, with_kafka(mortal.servers)) as running:
        ask(running, "large", 2)
        wait_until(lambda: is_empty(running))
        assert counts(running)["dropped_total"] == 2
        assert balances(running)
    assert len(read(mortal, COMPLETED, "large", 2)) == 2
    mortal.delete(STARTED)


def test_an_event_that_one_topic_finds_too_large_loses_its_metadata(mortal: Broker, tmp_path: Path) -> None:
    mortal.delete(FAILED, STARTED)
    mortal.create(FAILED)
    mortal.create(STARTED, settings={"max.message.bytes": "2000"})
    with service(tmp_path, with_kafka(mortal.servers)) as running:
        ask(running, "narrow", 2)
        big = running.compare(metadata={"batch": f"{RUN}-narrow", "number": 2, "note": "x" * 4000}, replicate=2)
        ask(running, "narrow", 2, first=3)
        wait_until(lambda: is_empty(running))
        assert big.status == 200
        assert counts(running)["dropped_total"] == 0
    envelopes = [orjson.loads(one.value() or b"") for one in mortal.read(STARTED, at_least=5)]
    assert [one["data"]["metadata"] for one in envelopes if one["correlation_id"] == big.json()["correlation_id"]] == [
        {"truncated": True}
    ]
    assert numbers(told(mortal.read(STARTED, at_least=5), "narrow")) == Counter([0, 1, 3, 4])
    mortal.delete(STARTED)


def test_with_a_spool_a_kill_loses_nothing_that_a_caller_was_answered(topics: Broker, tmp_path: Path) -> None:
    spool = {"EVENT_SPOOL_PATH": str(tmp_path / "spool.db")}
    with service(tmp_path, with_kafka(NOBODY, **spool)) as running:
        ask(running, "spool", 30)
        running.process.kill()
    with service(tmp_path, with_kafka(topics.servers, **spool)) as running:
        wait_until(lambda: counts(running)["delivered_total"] >= 120)
        assert counts(running)["restored_total"] == 120
        assert balances(running)
    for topic in (STARTED, COMPLETED, COST):
        assert numbers(read(topics, topic, "spool", 30)) == Counter(range(30))


def test_what_is_pending_at_the_end_is_flushed_and_with_it_the_last_window(topics: Broker, tmp_path: Path) -> None:
    with service(tmp_path, with_kafka(topics.servers)) as running:
        ask(running, "flush", 10)
        running.terminate()
        assert running.exit_code() == 0
        assert not [line for line in running.lines() if line["event"] == "events_lost_at_exit"]
    assert numbers(read(topics, COMPLETED, "flush", 10)) == Counter(range(10))
    windows = [orjson.loads(one.value() or b"")["data"] for one in topics.read(USAGE, at_least=1)]
    assert 10 in [window["total_requests"] for window in windows]


def test_a_kafka_that_refuses_us_is_named_and_costs_nobody_an_answer(topics: Broker, tmp_path: Path) -> None:
    if topics.theirs is None:
        pytest.skip(f"{topics.name} refuses nobody; where Maven and Java are, this runs on Apache Kafka")
    stranger = PASSWORD[::-1]
    variables = with_kafka(
        topics.secured["SASL_SSL"],
        KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        KAFKA_SSL_CA_PATH=str(topics.theirs.trusted),
        KAFKA_SASL_USERNAME=USER,
        KAFKA_SASL_PASSWORD=stranger,
        EVENT_MAX_AGE_S="2",
        LOG_LEVEL="DEBUG",
    )
    with service(tmp_path, variables) as running:
        ask(running, "refused", 3)
        warning = "events_buffering: events wait in this process (auth)"
        wait_until(lambda: warning in running.ask("/healthz").json()["warnings"])
        wait_until(lambda: counts(running)["dropped_total"] == 12)
        metrics = running.ask("/metrics").text
        assert f'events_dropped_total{{reason="auth",topic="{COST}"}} 3.0' in metrics
        assert stranger not in running.written() + metrics + running.ask("/healthz").text


def test_a_request_that_outlives_the_grace_is_completed_once_all_the_same(topics: Broker, tmp_path: Path) -> None:
    variables = with_kafka(topics.servers, MOCK_LATENCY_MS="60000", DRAIN_GRACE_S="0.2")
    key, metadata = str(uuid4()), {"batch": f"{RUN}-grace", "number": 1}
    with service(tmp_path, variables) as running, ThreadPoolExecutor(1) as caller:
        answer = caller.submit(running.compare, correlation_id=key, metadata=metadata)
        wait_until(lambda: running.in_flight() == 1)
        running.terminate()
        assert answer.result(timeout=30).status == 503
        assert running.exit_code() == 0
    (completed,) = read(topics, COMPLETED, "grace", 1)
    assert len(read(topics, STARTED, "grace", 1)) == 1
    assert completed["data"]["success"] is False
    assert "stop" in completed["data"]["error_message"]
