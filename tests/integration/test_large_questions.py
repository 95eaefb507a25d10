"""Many large questions at once, each of which keeps the event loop busy: a probe does not wait for all of them."""

import asyncio

import orjson

from tests.integration.dialects import QUESTION
from tests.integration.pointed_service import Service, Told, running
from tests.integration.service_process import COMPARISON

QUESTIONS = 8
ESSAY = "word after word " * 59_000  # two of them are nearly as large as a request may be


async def test_a_probe_that_comes_last_is_answered_before_the_first_large_question() -> None:
    async with running(USE_MOCK_LLM="true", MOCK_ERROR_RATE="0") as service:
        assert (await ask(service)).status == 200
        answered: list[str] = []
        async with asyncio.TaskGroup() as callers:
            asked = [callers.create_task(ask(service)) for _ in range(QUESTIONS)]
            for one in asked:
                one.add_done_callback(lambda _: answered.append("question"))
            probe = callers.create_task(service.reads("/livez"))
            probe.add_done_callback(lambda _: answered.append("probe"))
    assert [one.result().headers["x-cache"] for one in asked] == ["HIT"] * QUESTIONS
    assert probe.result().status == 200
    assert answered[0] == "probe"


async def ask(service: Service) -> Told:
    body = orjson.dumps({**QUESTION, "essay_a": ESSAY, "essay_b": f"{ESSAY} in the end"})
    return await Told.of(await service.client.post(COMPARISON, data=body))
