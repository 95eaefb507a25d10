"""A judge that hangs for a while: it takes questions and never answers them. What that costs those who ask."""

import asyncio
import random

from api_models import ProviderName
from exceptions import ServiceError
from protocols import ComparisonResult, ProviderReply, ProviderRequest
from tests.fakes import FakeProvider, query, reply
from tests.orchestrator_harness import Harness
from tests.virtual_loop import LoopClock, in_virtual_time

ANTHROPIC = ProviderName.ANTHROPIC


class Hanging(FakeProvider):
    """Answers after three seconds, but hangs as long as it is told to."""

    hangs = False

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        self.requests.append(request)
        await asyncio.sleep(1000 if self.hangs else 3)
        return reply()


@in_virtual_time
async def test_the_timeouts_of_a_hang_that_is_over_do_not_open_the_circuit_of_the_only_judge() -> None:
    random.seed(1)  # for the jitter
    judge = Hanging()
    harness = Harness({ANTHROPIC: judge}, clock=LoopClock(), guarded=True)
    asked: list[asyncio.Task[ComparisonResult]] = []

    async def ask_for(seconds: int, *, at_once: int = 1) -> None:
        """One question a second, and some more with the first."""
        for second in range(seconds):
            for _ in range(1 if second else at_once):
                asked.append(asyncio.create_task(harness.compare(query(essay_a=f"number {len(asked)}"))))
            await asyncio.sleep(1)

    await ask_for(20)
    judge.hangs = True
    await ask_for(3, at_once=6)
    judge.hangs = False
    await ask_for(60)
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [one for one in outcomes if isinstance(one, ServiceError)] == []
    assert len(judge.requests) == len(asked) + 8, "each that the hang had caught was asked again"
