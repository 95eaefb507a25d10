"""What one request costs, counted and not timed: calls of Python functions and tasks, the same on every machine.

To go on with a coroutine is no call. A bound is up to a tenth above what was counted when it was set. Who passes one
looks for work that need not be there; who has saved a good part lowers it. `python -m bench profile` shows where the
calls are made. What C does with whole texts takes few calls, so its passes are counted by name and exactly.
"""

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import pytest

from api import connection
from tests.fakes import settle
from tests.in_process import in_process, questions
from tests.integration.dialects import ANTHROPIC, GOOGLE, OPENAI, OPENROUTER, Dialect

pytestmark = pytest.mark.untraced

Ask = Callable[[bytes], Awaitable[int | None]]

WARM, COUNTED = 10, 5
PASSES = frozenset({"loads", "dumps", "validate_python", "openssl_sha256"})  # in C: few calls, each over whole texts
NO_VERDICT = b'{"choices":[{"message":{"content":"Both are fine."}}]}'
CUT_SHORT = b'{"choices":[{"message":{"content":"Both"},"finish_reason":"length"}]}'
GOOD = orjson.dumps(OPENAI.good())


@dataclass(slots=True)
class Cost:
    """begun: frames of calls of Python functions, kept so that none is taken for another. tasks: that were begun.

    passes: how often a function of PASSES was called.
    """

    begun: set[FrameType] = field(default_factory=set)
    passes: Counter[str] = field(default_factory=Counter)
    tasks: int = 0

    @property
    def calls(self) -> int:
        """How many."""
        return len(self.begun)

    @property
    def where(self) -> str:
        """By function, the most called first: what to compare with the same before a change."""
        called = Counter(f"{Path(one.f_code.co_filename).name}:{one.f_code.co_qualname}" for one in self.begun)
        return "\n".join(f"{times:3} {function}" for function, times in called.most_common())

    def called(self, frame: FrameType, event: str, argument: Any) -> None:
        """What sys.setprofile wants."""
        if event == "call":
            self.begun.add(frame)
        elif event == "c_call" and argument.__name__ in PASSES:
            self.passes[argument.__name__] += 1

    def begin(self, loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        """A task factory."""
        self.tasks += 1
        return asyncio.Task(work, loop=loop, **more)


async def cost_of(ask: Ask, body: bytes) -> Cost:
    """What one request costs; a profiler that was there before is put back."""
    cost, loop, before = Cost(), asyncio.get_running_loop(), sys.getprofile()
    loop.set_task_factory(cost.begin)
    sys.setprofile(cost.called)
    try:
        status = await ask(body)
    finally:
        sys.setprofile(before)
        loop.set_task_factory(None)
    assert status == 200
    return cost


async def least_cost(dialect: Dialect, *, is_new: bool) -> Cost:
    """Of several requests to a service that is warm: chance can only add."""
    body = questions(dialect, is_new=is_new)
    async with in_process(dialect) as ask:
        for _ in range(WARM):
            assert await ask(body()) == 200
        costs = [await cost_of(ask, body()) for _ in range(COUNTED)]
    return min(costs, key=lambda cost: cost.calls)


async def test_a_known_answer_costs_no_more_than_it_did() -> None:
    cost = await least_cost(OPENAI, is_new=False)
    assert cost.calls <= 540, cost.where
    assert cost.tasks == 0


@pytest.mark.parametrize(
    ("dialect", "calls"),
    [(ANTHROPIC, 965), (OPENAI, 965), (GOOGLE, 961), (OPENROUTER, 968)],
    ids=lambda value: getattr(value, "name", None),
)
async def test_a_verdict_costs_no_more_than_it_did(dialect: Dialect, calls: int) -> None:
    cost = await least_cost(dialect, is_new=True)
    assert cost.calls <= calls, cost.where
    assert cost.tasks <= 1


@pytest.mark.parametrize(
    ("is_new", "passes"),
    [
        # Written: metadata (for its size), fingerprint, response, log line. Hashed: two essays, fingerprint.
        (False, {"loads": 1, "validate_python": 1, "dumps": 4, "openssl_sha256": 3}),
        # Also written: the question to the provider, the entry in the cache.
        (True, {"loads": 1, "validate_python": 1, "dumps": 6, "openssl_sha256": 3}),
    ],
)
async def test_no_text_is_read_checked_written_or_hashed_twice(*, is_new: bool, passes: Mapping[str, int]) -> None:
    assert (await least_cost(OPENAI, is_new=is_new)).passes == passes


async def left_over(ask: Ask, body: Callable[[], bytes], *, status: int) -> float:
    """Objects of one request that only the garbage collector finds: cycles, and what hangs on them."""
    for _ in range(WARM):
        assert await ask(body()) == status
    await settle()
    gc.disable()
    gc.freeze()  # what was there before is not looked through, which takes a second
    try:
        for _ in range(COUNTED):
            await ask(body())
        await settle()
        return gc.collect() / COUNTED
    finally:
        gc.unfreeze()
        gc.enable()


@pytest.mark.parametrize(
    ("said", "answers", "status"),
    [
        (200, [GOOD], 200),
        (200, [CUT_SHORT, GOOD], 200),
        (200, [b"rubbish"], 502),
        (200, [NO_VERDICT], 502),
        (400, [b""], 422),
        (503, [b""], 503),
    ],
)
@pytest.mark.parametrize("delay_s", [0.0, 0.001])
async def test_nothing_of_a_question_waits_for_the_garbage_collector(
    said: int, answers: list[bytes], status: int, delay_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures hold frames and those the essays: as cycles they would fill the memory until it comes."""
    monkeypatch.setattr(connection, "WATCH_AFTER_S", delay_s / 2)  # slow answers are watched
    settings = {"CIRCUIT_BREAKER_ENABLED": "false"}
    async with in_process(OPENAI, status=said, answers=answers, delay_s=delay_s, **settings) as ask:
        assert await left_over(ask, questions(OPENAI, is_new=True), status=status) == 0


async def test_nothing_is_left_of_a_provider_that_cannot_be_reached() -> None:
    """Over a real transport, whose library raises from deep inside."""
    async with in_process(OPENAI, url="http://127.0.0.1:9", CIRCUIT_BREAKER_ENABLED="false") as ask:
        assert await left_over(ask, questions(OPENAI, is_new=True), status=503) == 0


async def test_nothing_is_left_of_two_providers_of_which_neither_can_be_reached() -> None:
    nowhere, named = "http://127.0.0.1:9", questions(OPENAI, is_new=True)

    def of_anybody() -> bytes:
        return orjson.dumps({**orjson.loads(named()), "llm_config_overrides": None})

    async with in_process(
        OPENAI, url=nowhere, CIRCUIT_BREAKER_ENABLED="false", ANTHROPIC_API_KEY="k", ANTHROPIC_BASE_URL=nowhere
    ) as ask:
        assert await left_over(ask, of_anybody, status=503) == 0


async def test_a_cycle_is_seen() -> None:
    class Mine:
        myself: "Mine"

    async def answered(_: bytes) -> int:
        mine = Mine()
        mine.myself = mine
        return 200

    assert await left_over(answered, bytes, status=200) >= 1


async def test_work_that_is_added_is_seen() -> None:
    def more() -> None:
        pass

    async def answered(_: bytes) -> int:
        await asyncio.create_task(asyncio.sleep(0))
        more()
        return 200

    async def answered_at_once(_: bytes) -> int:
        return 200

    assert (await cost_of(answered, b"")).calls > (await cost_of(answered_at_once, b"")).calls
    assert (await cost_of(answered, b"")).tasks == 1
