"""One to four replicas behind HAProxy on this machine: the sizing formulae, and restarts under load.

All replicas share one core, so that processor time proves nothing here. The provider takes half a second and a replica
has few places: what bounds it is its places, as in production, where a verdict takes seconds.
"""

import argparse
import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from bench.fleet import Fleet, fleet_of
from bench.load import GRACE_S, Asked, Load
from bench.machine import cores
from bench.measuring import Spans, Subject, measured, provider_tells
from bench.pace import Open
from bench.processes import HOST
from bench.question import comparison
from bench.rows import Report
from bench.setups import MISS, Run
from bench.stage import Stage

DELAY_MS = 500
PLACES = 8
MOST_REPLICAS = 4
RESTARTED, RATE, CONNECTIONS = 3, 50.0, 128
LONGEST_S = 90.0


async def size(stage: Stage, count: int, spans: Spans) -> dict[str, Any]:
    """So many replicas with all of their places taken, and as many waiting: what they answer, hold and take."""
    settings = {"MAX_IN_FLIGHT_REQUESTS": str(PLACES), "LLM_MAX_CONCURRENT_REQUESTS": str(PLACES)}
    with fleet_of(stage, count, delay_ms=DELAY_MS, settings=settings) as fleet:
        provider = fleet.world.provider
        subject = Subject(name=f"{count} replicas", server=fleet.balancer, provider=provider, request=_new_questions())
        row = await measured(subject, Run(connections=2 * PLACES * count), spans)
        return {
            "replicas": count,
            "computed_rps": count * PLACES / (DELAY_MS / 1000),
            "found_rps": row.achieved_rps,
            "statuses": row.statuses,
            "p50_ms": row.latency_ms["p50"],
            "provider_connections": int(await provider_tells(provider, "/connections")) - 1,
            "redis_connections": fleet.redis_connections(),
            "rss_mib": fleet.rss_mib(),
        }


async def restarts(stage: Stage, *, told_before: bool) -> dict[str, Any]:
    """Replace one replica after the other while requests are due at a fixed rate. told_before: to the balancer."""
    settings = {"DRAIN_DELAY_S": "0" if told_before else "2"}
    with fleet_of(stage, RESTARTED, delay_ms=DELAY_MS, settings=settings) as fleet:
        asked = Asked(host=HOST, port=fleet.balancer.port, connections=CONNECTIONS, request=_new_questions())
        async with Load(asked, Open(rate=RATE, seconds=LONGEST_S + GRACE_S)) as load:
            samples = load.watch(LONGEST_S)
            codes = [await asyncio.to_thread(fleet.restart, one, told_before=told_before) for one in fleet.replicas]
            load.end()
            await load.settle()
        return {
            "told_before": told_before,
            "seconds": samples.elapsed_s,
            "requests": samples.due,
            "statuses": {str(status): count for status, count in sorted(samples.statuses.items())},
            "lost": samples.lost,
            "exit_codes": codes,
        }


def _new_questions() -> Callable[[], bytes]:
    return comparison(headers={}, provider=MISS.provider, is_new=True)


def main() -> None:
    """Measure and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each size is watched")
    wishes = parser.parse_args()
    console = Console()
    server_core, other_core = cores()
    os.sched_setaffinity(0, {other_core})
    spans = Spans(warm_s=3.0, watched_s=wishes.seconds)
    with tempfile.TemporaryDirectory() as directory, console.status("") as status:
        stage = Stage(
            server_core=server_core, other_core=other_core, directory=Path(directory), tell=status.console.print
        )
        sizes = []
        for count in range(1, MOST_REPLICAS + 1):
            status.update(f"{count} replicas")
            sizes.append(uvloop.run(size(stage, count, spans)))
        status.update("restarts under load")
        told, untold = (uvloop.run(restarts(stage, told_before=told)) for told in (True, False))
    report = Report.of("make bench-scaling", sizes=sizes, restarts=[told, untold])
    report.write("scaling")
    console.print(report.more)


if __name__ == "__main__":
    main()
