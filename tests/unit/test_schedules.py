"""Callers, providers and time as a seed draws them: whatever happens in which order, nothing is lost or mixed up.

A seed that fails is a schedule that can happen, and is told with the failure: make a test of it that says what happens.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from random import Random
from uuid import UUID

import pytest

from api_models import CostTracked, ProviderName, RequestCompleted, RequestStarted, Winner
from exceptions import (
    ContentRefusedError,
    InvalidReplyError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RequestRejectedError,
    ServiceError,
)
from implementations.resilience.bulkhead import Bulkhead
from protocols import CacheUse, ProviderReply, ProviderRequest, Verdict
from tests.fakes import FakeProvider, query, reply
from tests.orchestrator_harness import Harness
from tests.virtual_loop import LoopClock, VirtualLoop

FREE: tuple[Callable[[], ProviderError], ...] = (
    lambda: ProviderUnavailableError("down"),
    lambda: RateLimitedError("slow down", retry_after_s=3.0),
    lambda: RequestRejectedError("no"),
)
CHARGED = InvalidReplyError, ContentRefusedError
ESSAYS = "one", "two", "three"
PROVIDERS = ProviderName.ANTHROPIC, ProviderName.OPENAI, ProviderName.GOOGLE
CALLERS, SLOTS, SEEDS = 12, 6, 40
cache_use = ContextVar[CacheUse]("cache_use")  # of the caller for whom an upstream is asked


class Upstream(FakeProvider):
    """bills: of all upstreams, when each charged call ended, by its price; no two sets of prices have the same sum.

    happens: called with what this one does.
    """

    def __init__(
        self, name: ProviderName, draw: Random, bills: dict[float, float], happens: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._happens = happens
        self._name = name
        self._draw = draw
        self._bills = bills
        self.served: list[str] = []  # the questions to which it gave a verdict that serves others

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        for _ in range(self._draw.randrange(4)):
            await asyncio.sleep(0)
        await asyncio.sleep(self._draw.choice((0.0, 0.01, 1.0, 3.0, 8.0, 28.0)))
        if self._draw.random() < 0.1:
            failure = self._draw.choice(FREE)()
            self._happens(f"{self._name} fails for free: {failure.outcome}")
            raise failure
        price = 2.0 ** len(self._bills)
        self._bills[price] = asyncio.get_running_loop().time()
        self._happens(f"{self._name} is paid {price} for {request.prompt.essays}")
        verdict = Verdict(winner=Winner.ESSAY_A, justification=str(request.prompt.essays), confidence=4.0)
        bought = reply(provider=self._name, cost_usd=price, verdict=verdict)
        if self._draw.random() < 0.5:
            raise self._draw.choice(CHARGED)("useless", purchase=bought.purchase)
        if cache_use.get() is CacheUse.NORMAL:
            self.served.append(verdict.justification)
        return bought


class World:
    """Some callers with few questions, in a service that has little room.

    told: of each answer the correlation id, what it said that it cost, and when it came. happened: the schedule.
    """

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.bills: dict[float, float] = {}
        self.told: list[tuple[UUID, float | None, float]] = []
        self.happened: list[str] = []
        self.judges = {name: Upstream(name, self.draw, self.bills, self.happens) for name in PROVIDERS}
        self.harness = Harness(self.judges, clock=LoopClock(), guarded=True)
        self.harness.capacity = Bulkhead(limit=SLOTS, queue_limit=SLOTS)
        self.harness.rebuild()

    def happens(self, what: str) -> None:
        self.happened.append(f"{self.harness.clock():7.2f} s  {what}")

    async def run(self) -> None:
        try:
            await asyncio.gather(*map(self.caller, range(CALLERS)))
            await asyncio.sleep(60)  # until the flights that were left have ended
            self.check()
        except BaseException as failure:
            failure.add_note("\n".join(self.happened))
            raise

    async def caller(self, number: int) -> None:
        draw = self.draw
        await asyncio.sleep(draw.choice((0.0, 0.0, 0.01, 1.0, 20.0)))
        essay_a, essay_b = draw.sample(ESSAYS[: draw.choice((2, 2, 3))], 2)
        asked = query(
            essay_a=essay_a,
            essay_b=essay_b,
            correlation_id=UUID(int=number),
            timeout_s=draw.choice((None, 2.0, 12.0, 12.0)),
            cache_use=draw.choice((CacheUse.NORMAL, CacheUse.NORMAL, CacheUse.REFRESH, CacheUse.BYPASS)),
        )
        cache_use.set(asked.cache_use)
        self.happens(f"{number} asks {essay_a}, {essay_b}; {asked.cache_use}, waits {asked.timeout_s} s")
        answering = asyncio.create_task(self.harness.compare(asked))
        await asyncio.wait([answering], timeout=draw.choice((None, None, None, 0.01, 7.0)))
        if not answering.done():
            self.happens(f"{number} leaves")
            answering.cancel()
        with suppress(ServiceError, asyncio.CancelledError):
            result = await answering
            assert result.reply.verdict.justification == str((essay_a, essay_b))
            assert result.timings.total_s <= (asked.timeout_s or 55.0)
            self.happens(f"{number} is told that it cost {result.cost_usd}; {result.cache_outcome}")
            self.told.append((asked.correlation_id, result.cost_usd, self.harness.clock()))

    def check(self) -> None:
        """Every purchase was told once, what callers were told of it is true, and nothing is held any more.

        No upstream was paid twice for a verdict that all could share.
        """
        events, guards = self.harness.events, self.harness.guards
        purchases = events.of(CostTracked)
        assert sorted(one.cost_estimate_usd or 0.0 for one in purchases) == sorted(self.bills)
        for asker, cost_usd, at_s in self.told:
            known = {one.cost_estimate_usd or 0.0 for one in purchases if one.correlation_id == asker}
            before, by_then = ({one for one in known if self.bills[one] < until} for until in (at_s, at_s + 1e-9))
            assert sum(before) <= (cost_usd or 0.0) <= sum(by_then)
        started, completed = events.of(RequestStarted), events.of(RequestCompleted)
        assert Counter(one.correlation_id for one in started) == Counter(one.correlation_id for one in completed)
        assert not self.harness.flights.tasks
        assert (self.harness.capacity.inside, self.harness.capacity.waiting) == (0, 0)
        for name, judge in self.judges.items():
            assert sorted(judge.served) == sorted(set(judge.served))
            assert (guards[name].bulkhead.inside, self.harness.accounting.activity(name).in_flight) == (0, 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_in_which_order_nothing_is_lost_or_mixed_up(seed: int) -> None:
    random.seed(seed)  # for the jitter
    unheard: list[object] = []
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: unheard.append(context))
        runner.run(World(seed).run())
    assert unheard == []
