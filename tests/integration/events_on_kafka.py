"""What the tests of the events share: a service that tells Kafka, its own counts, and what another client read."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson
from confluent_kafka import Message

from api_models import ProcessingEvent
from tests.integration.kafka_broker import Broker
from tests.integration.service_process import ServiceProcess, mocked, wait_until

STARTED = ProcessingEvent.LLM_REQUEST_STARTED.topic
COMPLETED = ProcessingEvent.LLM_REQUEST_COMPLETED.topic
COST = ProcessingEvent.LLM_COST_TRACKING.topic
FAILED = ProcessingEvent.LLM_PROVIDER_FAILURE.topic
USAGE = ProcessingEvent.LLM_USAGE_ANALYTICS.topic
TOPICS = tuple(event.topic for event in ProcessingEvent)
SAMPLE = re.compile(r"^(llm_provider_events\w*?)(?:\{.*\})? (\S+)$", re.MULTILINE)
RUN = uuid4().hex  # a broker that was given may know earlier runs
NOBODY = "127.0.0.1:9"


def with_kafka(servers: str, **settings: str) -> dict[str, str]:
    return mocked(KAFKA_BOOTSTRAP_SERVERS=servers, ENVIRONMENT="production", **settings)


def counts(running: ServiceProcess) -> Mapping[str, float]:
    """The event metrics, each summed over its labels."""
    found: defaultdict[str, float] = defaultdict(float)
    for name, value in SAMPLE.findall(running.ask("/metrics").text):
        found[name.removeprefix("llm_provider_events_").removeprefix("llm_provider_")] += float(value)
    return found


def balances(running: ServiceProcess) -> bool:
    known = counts(running)
    came = known["total"] + known["restored_total"]
    return came == known["delivered_total"] + known["dropped_total"] + known["queue_depth"]


def kafka_is(running: ServiceProcess, status: str) -> bool:
    return bool(running.ask("/healthz").json()["dependencies"]["kafka"] == status)


def is_empty(running: ServiceProcess) -> bool:
    return counts(running)["queue_depth"] == 0


def ask(running: ServiceProcess, batch: str, count: int, *, first: int = 0, key: str | None = None) -> None:
    """Different questions, all under one correlation id when there is a key."""
    same: dict[str, Any] = {} if key is None else {"correlation_id": key}
    for number in range(first, first + count):
        metadata = {"batch": f"{RUN}-{batch}", "number": number}
        assert running.compare(replicate=number, metadata=metadata, **same).status == 200


def told(messages: list[Message], batch: str) -> list[dict[str, Any]]:
    """The envelopes of one batch."""
    envelopes = [orjson.loads(message.value() or b"") for message in messages]
    return [one for one in envelopes if one["data"]["metadata"].get("batch") == f"{RUN}-{batch}"]


def numbers(envelopes: list[dict[str, Any]]) -> Counter[object]:
    return Counter(one["data"]["metadata"]["number"] for one in envelopes)


def read(kafka: Broker, topic: str, batch: str, count: int) -> list[dict[str, Any]]:
    """Wait until the whole batch is there."""
    found: list[dict[str, Any]] = []

    def complete() -> bool:
        found[:] = told(kafka.read(topic, at_least=1), batch)
        return len(found) >= count

    wait_until(complete)
    return found
