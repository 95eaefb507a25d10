"""Kafka dies in the middle of many comparisons and returns a minute later: everything arrives, once and in order."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.outages.callers import Asked, Callers
from bench.outages.delivery import HEADINGS, delivered
from bench.outages.figures import hold, quantile, show
from tests.integration.events_on_kafka import TOPICS, counts, with_kafka
from tests.integration.kafka_broker import Broker
from tests.integration.service_process import ServiceProcess, service

CALLERS = 32
QUEUE_SIZE = 50_000
DRAIN_S = 300.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Monotonic seconds: when the broker died, when it answered again and when nothing waited any more."""

    died_s: float
    returned_s: float
    drained_s: float
    most_waiting: int


def outage(directory: Path, broker: Broker, *, comparisons: int, away_s: float, hangs: bool) -> None:
    """Ask at a pace at which half of the comparisons fall into the outage. hangs: SIGSTOP, else SIGKILL."""
    broker.create(*TOPICS)
    callers = Callers(CALLERS)
    with service(directory, with_kafka(broker.servers, KAFKA_FALLBACK_QUEUE_SIZE=str(QUEUE_SIZE))) as running:
        moments = asyncio.run(_play(running, broker, callers, comparisons, away_s, hangs=hangs))
        dropped = counts(running)["dropped_total"]
    _tell(callers.asked, moments, dropped)
    deliveries = delivered(broker, callers.answered)
    show("What an independent consumer read", HEADINGS, [one.cells() for one in deliveries])
    hold("every comparison was answered", kept=len(callers.answered) == comparisons)
    hold("no event was dropped", kept=dropped == 0)
    hold("every started, completed and cost event arrived", kept=not any(one.missing for one in deliveries))
    hold("none arrived twice", kept=not any(one.doubled for one in deliveries))
    hold("the order under each key is that of the asking", kept=not any(one.overtaken for one in deliveries))


async def _play(
    running: ServiceProcess, broker: Broker, callers: Callers, comparisons: int, away_s: float, *, hangs: bool
) -> Moments:
    rate = comparisons / 2 / away_s
    asking = asyncio.create_task(callers.ask(running.port, range(comparisons), rate=rate))
    await asyncio.sleep(away_s / 2)
    died_s = time.monotonic()
    await asyncio.to_thread(broker.freeze if hangs else broker.kill)
    await asyncio.sleep(away_s)
    most_waiting = await asyncio.to_thread(_waiting, running)
    await asyncio.to_thread(broker.thaw if hangs else broker.start)
    returned_s = time.monotonic()
    await asking
    for _ in range(round(DRAIN_S / POLL_S)):
        if not await asyncio.to_thread(_waiting, running):
            break
        await asyncio.sleep(POLL_S)
    return Moments(died_s=died_s, returned_s=returned_s, drained_s=time.monotonic(), most_waiting=most_waiting)


def _waiting(running: ServiceProcess) -> int:
    return int(counts(running)["queue_depth"])


def _tell(asked: Sequence[Asked], moments: Moments, dropped: float) -> None:
    phases = {
        "before": [one for one in asked if one.at_s < moments.died_s],
        "away": [one for one in asked if moments.died_s <= one.at_s < moments.returned_s],
        "after": [one for one in asked if one.at_s >= moments.returned_s],
    }
    show(
        "Comparisons, ms",
        ("Kafka", "asked", "p50", "p99", "max"),
        [
            (
                name,
                f"{len(part):,}",
                *(f"{1000 * quantile([one.elapsed_s for one in part], share):.1f}" for share in (0.5, 0.99, 1)),
            )
            for name, part in phases.items()
        ],
    )
    show(
        "Events",
        ("", ""),
        [
            ("Kafka away, s", f"{moments.returned_s - moments.died_s:.1f}"),
            ("waiting when it returned", f"{moments.most_waiting:,}"),
            ("until nothing waited, s", f"{moments.drained_s - moments.returned_s:.1f}"),
            ("dropped", f"{dropped:.0f}"),
        ],
    )
