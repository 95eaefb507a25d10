"""With a spool, a kill -9 of the service in the middle loses no event of what a caller was answered."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from bench.outages.callers import Callers
from bench.outages.delivery import HEADINGS, delivered
from bench.outages.figures import hold, show
from tests.integration.events_on_kafka import TOPICS, counts, is_empty, with_kafka
from tests.integration.kafka_broker import Broker
from tests.integration.service_process import service, wait_until

CALLERS = 32
RATE = 150.0
DRAIN_S = 300.0


def killed(directory: Path, broker: Broker, *, comparisons: int) -> None:
    """Kafka dies after a quarter, the service is killed at the half; then both return."""
    broker.create(*TOPICS)
    callers = Callers(CALLERS)
    variables = with_kafka(
        broker.servers, EVENT_SPOOL_PATH=str(directory / "spool.db"), KAFKA_FALLBACK_QUEUE_SIZE="50000"
    )
    with service(directory, variables) as running:
        asyncio.run(_until_both_died(callers, running.port, comparisons, broker.kill, running.process.kill))
    answered = callers.answered
    broker.start()
    with service(directory, variables) as running:
        restored = int(counts(running)["restored_total"])
        wait_until(lambda: is_empty(running), within_s=DRAIN_S)
        dropped = counts(running)["dropped_total"]
    deliveries = delivered(broker, answered)
    show("What an independent consumer read", HEADINGS, [one.cells() for one in deliveries])
    show(
        "Events",
        ("", ""),
        [("not answered for the kill", f"{comparisons - len(answered):,}"), ("found in the spool", f"{restored:,}")],
    )
    hold(
        "the service died in the middle, with events that waited", kept=0 < len(answered) < comparisons and restored > 0
    )
    hold("no event was dropped", kept=dropped == 0)
    hold("every event of what was answered arrived", kept=not any(one.missing for one in deliveries))
    hold("the order under each key is that of the asking", kept=not any(one.overtaken for one in deliveries))


async def _until_both_died(
    callers: Callers, port: int, comparisons: int, kill_broker: Callable[[], None], kill_service: Callable[[], None]
) -> None:
    asking = asyncio.create_task(callers.ask(port, range(comparisons), rate=RATE))
    for kill in (kill_broker, kill_service):
        await asyncio.sleep(comparisons / RATE / 4)
        await asyncio.to_thread(kill)
    await asking
