"""Requests that come together take each step together, and nothing is lost where one gives way to the others."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from types import CodeType, FrameType, SimpleNamespace

import orjson
import pytest

from api import connection, request_reading, request_scope
from api.connection import Connection
from api.request_reading import read_comparison
from api.strict_json import parse_object
from api_models import CostTracked, EventData, RequestCompleted, RequestStarted
from implementations.event_publisher_impl import EventPublisherImpl
from implementations.llm_orchestrator_impl import LLMOrchestratorImpl
from metrics import CALLER_LEFT
from protocols import ComparisonQuery, ComparisonResult
from tests.fakes import Clock, settle
from tests.in_process import in_process, questions
from tests.integration.dialects import OPENAI

pytestmark = pytest.mark.untraced

TOGETHER = 3
TURNS = range(20)  # more than any request takes here
STEPS: tuple[Callable[..., object], ...] = (
    read_comparison,
    parse_object,
    LLMOrchestratorImpl.compare,
    LLMOrchestratorImpl._answered,  # noqa: SLF001  the steps have no other names
    Connection._send_response,  # noqa: SLF001
)


@contextmanager
def steps_taken() -> Iterator[list[str]]:
    """The names of the steps in the order in which they are begun; a profiler that was there before is put back."""
    names: dict[CodeType, str] = {step.__code__: step.__name__ for step in STEPS}
    taken: list[str] = []
    begun: set[FrameType] = set()  # to go on with a coroutine is no step

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in names and frame not in begun:
            begun.add(frame)
            taken.append(names[frame.f_code])

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield taken
    finally:
        sys.setprofile(before)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[EventData]:
    """The events of the service."""
    events: list[EventData] = []
    monkeypatch.setattr(EventPublisherImpl, "publish", lambda _, event: events.append(event))
    return events


@pytest.mark.parametrize("is_new", [False, True], ids=["known", "bought"])
async def test_who_comes_together_takes_each_step_together(*, is_new: bool) -> None:
    body = questions(OPENAI, is_new=is_new)
    async with in_process(OPENAI) as ask:
        await ask(body())
        with steps_taken() as taken:
            await asyncio.gather(*(ask(body()) for _ in range(TOGETHER)))

    assert [(step, len(list(times))) for step, times in groupby(taken)] == [(step.__name__, TOGETHER) for step in STEPS]


async def test_waiting_for_the_others_is_part_of_a_requests_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told_s = Clock(), list[float]()
    compare = LLMOrchestratorImpl.compare

    def parsed_in_a_second(body: bytes) -> dict[str, object]:
        clock.advance(1.0)
        return parse_object(body)

    async def compared(orchestrator: LLMOrchestratorImpl, query: ComparisonQuery) -> ComparisonResult:
        told_s.append(query.reading_s)
        return await compare(orchestrator, query)

    for module in (request_scope, request_reading):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr(request_reading, "parse_object", parsed_in_a_second)
    monkeypatch.setattr(LLMOrchestratorImpl, "compare", compared)
    async with in_process(OPENAI) as ask:
        await asyncio.gather(*(ask(questions(OPENAI, is_new=True)()) for _ in range(TOGETHER)))

    assert told_s == [float(TOGETHER)] * TOGETHER


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("is_new", [False, True], ids=["known", "bought"])
async def test_who_leaves_at_any_moment_is_told_of_as_having_left_or_been_answered(
    turns: int,
    told: list[EventData],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_new: bool,
) -> None:
    monkeypatch.setattr(connection, "WATCH_AFTER_S", 0.0)
    body = questions(OPENAI, is_new=is_new)
    async with in_process(OPENAI) as ask:
        await ask(body())
        await settle()
        told.clear()
        capsys.readouterr()

        status = await ask(body(), leaves_after=turns)
        await settle()

    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    (finished,) = (line for line in lines if line["event"] == "request_finished")
    started = [event for event in told if isinstance(event, RequestStarted)]
    completed = [event for event in told if isinstance(event, RequestCompleted)]
    bought = [event for event in told if isinstance(event, CostTracked)]
    assert len(started) == len(completed) <= 1
    assert len(bought) <= is_new
    if finished["status"] == CALLER_LEFT:
        assert status is None
        assert not any(event.success for event in completed)
    else:
        assert finished["status"] == status == 200
        assert [event.success for event in completed] == [True]
        assert "model" in finished


async def test_the_line_of_each_request_tells_its_own_attempts_although_all_share_one_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    body = questions(OPENAI, is_new=False)()
    async with in_process(OPENAI, status=503, answers=[b""], delay_s=0.01) as ask:
        assert await asyncio.gather(*(ask(body) for _ in range(TOGETHER))) == [503] * TOGETHER
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [line.get("attempts", 0) for line in lines if line["event"] == "request_finished"]
    assert told == [3, 0, 0]
