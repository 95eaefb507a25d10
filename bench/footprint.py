"""Time to the first answer, and memory: when idle, over many requests, and over a long run of faults."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from bench.load import Asked, Load
from bench.pace import Closed
from bench.processes import HOST, answers
from bench.question import comparison
from bench.setups import MISS, Setup, judged_by
from bench.stage import Stage
from tests.integration.dialects import ANTHROPIC, GOOGLE, OPENAI, OPENROUTER

STARTS = 5
CONNECTIONS = 32
IDLE_S, LOOK_S = 3.0, 1.0

FAULTS = Setup(
    name="faults",
    settings=judged_by(
        ANTHROPIC, OPENAI, GOOGLE, OPENROUTER, below="/faulty", LLM_ATTEMPT_TIMEOUT="1", CIRCUIT_BREAKER_ENABLED="false"
    ),
    provider=None,
)

Progress = Callable[[float], None]


def starts(stage: Stage) -> dict[str, Any]:
    """Seconds from the start of the process to its first verdict, and MiB some seconds later."""
    question = comparison(headers={}, provider=MISS.provider, is_new=True)
    found: dict[str, list[float]] = {"start_s": [], "idle_mib": []}
    with stage.world() as world:
        for _ in range(STARTS):
            with stage.server(MISS, world) as server:
                ready_s = time.monotonic()
                if not answers(server.port, question()):
                    raise SystemExit("the first question was not answered")
                found["start_s"].append(server.start_s + time.monotonic() - ready_s)
                time.sleep(IDLE_S)
                found["idle_mib"].append(server.rss_mib())
    return found


async def over_requests(stage: Stage, requests: int, progress: Progress) -> dict[str, Any]:
    """Memory over that many judged misses. progress: takes the share that is done, 0 to 1."""
    return await _soaked(stage, MISS, lambda answered, _: answered / requests, progress)


async def over_faults(stage: Stage, seconds: float, progress: Progress) -> dict[str, Any]:
    """Memory while four providers fail in every way, each answer drawn anew. progress: takes the share that is done."""
    return await _soaked(stage, FAULTS, lambda _, elapsed_s: elapsed_s / seconds, progress)


async def _soaked(
    stage: Stage, setup: Setup, share_done: Callable[[int, float], float], progress: Progress
) -> dict[str, Any]:
    with stage.world() as world, stage.server(setup, world) as server:
        asked = Asked(
            host=HOST,
            port=server.port,
            connections=CONNECTIONS,
            request=comparison(headers={}, provider=setup.provider, is_new=True),
        )
        async with Load(asked, Closed()) as load:
            samples, points = load.watch(math.inf), []
            while (share := share_done(samples.answered, time.monotonic() - samples.begin_s)) < 1:
                progress(share)
                await asyncio.sleep(LOOK_S)
                points.append((samples.answered, round(server.rss_mib(), 2)))
            load.end()
            await load.settle()
    return {
        "seconds": samples.elapsed_s,
        "answered": samples.answered,
        "statuses": {str(status): count for status, count in sorted(samples.statuses.items())},
        "points": points,
    }
