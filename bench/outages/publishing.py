"""How long `publish` takes while the broker hangs: it must not wait for it. Measured inside the process.

On the wall clock and as time of the processor: what lies between is the machine's other work.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from unittest.mock import patch
from uuid import uuid4

from api_models import DependencyStatus, EventData
from bench.outages.figures import hold, quantile, show
from config import Settings
from di import create_container
from implementations.events import request_events
from implementations.events.outbox import Outbox
from protocols import ComparisonQuery, LLMEventPublisherProtocol
from tests.integration.events_on_kafka import TOPICS, with_kafka
from tests.integration.kafka_broker import Broker
from tests.integration.service_process import wait_until

EVENTS = 20_000
PROMISED_US = 100.0
CONNECTING_S = 15.0
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


Times = tuple[list[float], list[float]]


def publishing(directory: Path, broker: Broker) -> None:
    """The queue of 10,000 messages is full after half of the events, so that giving up is measured, too."""
    broker.create(*TOPICS)
    settings = {"well": {}, "hung": {}, "hung, with a spool": {"EVENT_SPOOL_PATH": str(directory / "spool.db")}}
    found: dict[str, Times] = {}
    for state, changes in settings.items():
        with patch.dict(os.environ, with_kafka(broker.servers, **changes)):
            found[state] = asyncio.run(_measured(broker, hangs=state != "well"))
    show(
        f"publish, µs, of {EVENTS:,} events",
        ("Kafka", *(f"{name} {clock}" for clock in ("wall", "cpu") for name in SHARES)),
        [
            (state, *(f"{quantile(one, share):.0f}" for one in times for share in SHARES.values()))
            for state, times in found.items()
        ],
    )
    p99_us = quantile(found["hung"][0], SHARES["p99"])
    hold(f"p99 of publish is below {PROMISED_US:.0f} µs while the broker hangs", kept=p99_us < PROMISED_US)


async def _measured(broker: Broker, *, hangs: bool) -> Times:
    container = create_container(Settings.from_environment())
    publisher, outbox = await container.get(LLMEventPublisherProtocol), await container.get(Outbox)
    tasks = [asyncio.ensure_future(work()) for work in outbox.tasks().values()]
    is_well = lambda: publisher.health().kafka is DependencyStatus.HEALTHY  # noqa: E731  asked by a thread
    await asyncio.to_thread(wait_until, is_well, within_s=CONNECTING_S)
    try:
        if hangs:
            broker.freeze()
        return await _timed(publisher)
    finally:
        broker.thaw()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await container.close()


async def _timed(publisher: LLMEventPublisherProtocol) -> Times:
    """In microseconds; the sender gets its turn after each request's events."""
    wall, processor = EVENTS * [0.0], EVENTS * [0.0]
    for number in range(0, EVENTS, 2):
        for place, event in enumerate(_events(), start=number):
            began_ns, began_cpu_ns = perf_counter_ns(), thread_time_ns()
            publisher.publish(event)
            processor[place] = (thread_time_ns() - began_cpu_ns) / 1000
            wall[place] = (perf_counter_ns() - began_ns) / 1000
        await asyncio.sleep(0)
    return wall, processor


def _events() -> Sequence[EventData]:
    query = ComparisonQuery(
        user_prompt="t", essay_a="a", essay_b="b", correlation_id=uuid4(), metadata={"batch": "b-17"}
    )
    return request_events.started(query), request_events.unanswered(query, "No.", 1.0, provider=None, cost_usd=0.0)
