"""One to four replicas behind HAProxy on this machine: the sizing formulae, and restarts under load.

All replicas share one core, so that processor time proves nothing here. The provider takes half a second and a replica
has few slots: what bounds it is its slots, as in production, where a verdict takes seconds.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from bench.fleet import fleet_of
from bench.load import GRACE_S, Asked, Load
from bench.measuring import Spans, Subject, look_up, measured, provider_calls
from bench.pace import Open
from bench.processes import HOST
from bench.question import comparison
from bench.setups import MISS, Run
from bench.stage import Stage

DELAY_MS = 500
SLOTS = 8
MOST_REPLICAS = 4
SPANS = Spans(warm_s=3.0, counted_s=10.0)
RESTARTED, RATE, CONNECTIONS = 3, 50.0, 128
LONGEST_S = 90.0
FEW, MORE, THINKS_MS, RECEIVED_S = 100, 400, 10_000, 3.0


async def size(stage: Stage, count: int, spans: Spans) -> dict[str, Any]:
    """That many replicas with all slots taken and as many requests waiting: throughput, connections, memory."""
    settings = {"LLM_MAX_CONCURRENT_REQUESTS": str(SLOTS)}
    with fleet_of(stage, count, delay_ms=DELAY_MS, settings=settings) as fleet:
        provider = fleet.world.provider
        subject = Subject(name=f"{count} replicas", server=fleet.balancer, provider=provider, request=_new_questions())
        row = await measured(subject, Run(connections=2 * SLOTS * count), spans)
        if set(row.statuses) != {"200"}:
            raise SystemExit(f"{subject.name}: {row.statuses} instead of answers only.")
        return {
            "replicas": count,
            "computed_rps": count * SLOTS / (DELAY_MS / 1000),
            "found_rps": row.achieved_rps,
            "statuses": row.statuses,
            "p50_ms": row.latency_ms["p50"],
            "provider_connections": int(await look_up(provider, "/connections")) - 1,
            "redis_connections": fleet.redis_connections(),
            "rss_mib": fleet.rss_mib(),
        }


async def restarts(stage: Stage, *, told_before: bool) -> dict[str, Any]:
    """Replace one replica after the other while requests are due at a fixed rate. told_before: to the balancer."""
    settings = {"DRAIN_DELAY_S": "0" if told_before else "2"}
    with fleet_of(stage, RESTARTED, delay_ms=DELAY_MS, settings=settings) as fleet:
        asked = Asked(host=HOST, port=fleet.balancer.port, connections=CONNECTIONS, request=_new_questions())
        async with Load(asked, Open(rate=RATE, seconds=LONGEST_S + GRACE_S, seed=0)) as load:
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


async def under_way(stage: Stage) -> dict[str, Any]:
    """The memory of each of many questions in flight."""
    slots = str(FEW + MORE)
    question = _new_questions()
    with stage.world(delay_ms=THINKS_MS) as world:
        settings = {
            **world.settled(MISS.settings),
            "MAX_IN_FLIGHT_REQUESTS": slots,
            "LLM_MAX_CONCURRENT_REQUESTS": slots,
        }
        with stage.service(settings) as service:
            callers, looks = [], []
            for count in (FEW, MORE):
                callers += [await asyncio.open_connection(HOST, service.port) for _ in range(count)]
                for _, writer in callers[-count:]:
                    writer.write(question())
                await asyncio.sleep(RECEIVED_S)
                looks.append(service.rss_mib())
            asked = await provider_calls(world.provider)
            for _, writer in callers:
                writer.close()
    if asked != FEW + MORE:
        raise SystemExit(f"{FEW + MORE} questions were to wait for the provider, and {asked} did.")
    return {"questions": MORE, "question_bytes": len(question()), "kib_each": 1024 * (looks[1] - looks[0]) / MORE}


def _new_questions() -> Callable[[], bytes]:
    return comparison(headers={}, provider=MISS.provider, is_new=True)
