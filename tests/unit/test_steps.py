"""Requests that come together take each step together."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from types import CodeType, FrameType

import pytest

from api.connection import Connection
from api.request_reading import read_comparison
from api.response_rendering import rendered
from api.strict_json import parsed
from implementations.llm_orchestrator_impl import LLMOrchestratorImpl
from tests.in_process import in_process, questions
from tests.integration.dialects import OPENAI

pytestmark = pytest.mark.untraced

TOGETHER = 3
STEPS: tuple[Callable[..., object], ...] = (
    read_comparison,
    parsed,
    LLMOrchestratorImpl.compare,
    rendered,
    Connection._send_response,  # noqa: SLF001  the step has no other name
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


@pytest.mark.parametrize("is_new", [False, True], ids=["known", "bought"])
async def test_who_comes_together_takes_each_step_together(*, is_new: bool) -> None:
    body = questions(OPENAI, is_new=is_new)
    async with in_process(OPENAI) as ask:
        await ask(body())
        with steps_taken() as taken:
            await asyncio.gather(*(ask(body()) for _ in range(TOGETHER)))

    assert [(step, len(list(times))) for step, times in groupby(taken)] == [(step.__name__, TOGETHER) for step in STEPS]
