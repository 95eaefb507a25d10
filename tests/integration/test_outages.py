"""Two providers, one of which fails: who is not pinned gets a verdict from the other, and at what price."""

import asyncio

import orjson
import pytest

from api_models import JsonObject
from tests.integration.dialects import ANTHROPIC, OPENAI, OPENROUTER
from tests.integration.pointed_service import Service, Told, running
from tests.integration.stand_in import Act, StandIn, answer, cut_off, hanging, reset, standing_in

OPEN_WARNING = "provider_open: a provider is not asked at the moment (anthropic: circuit open)"
UNPINNED: dict[str, object] = {"provider_override": None}


async def outcome(first: Act, *others: Act, **settings: str) -> tuple[Told, StandIn, StandIn]:
    """Anthropic plays the script, OpenAI is well; nobody is named."""
    async with (
        standing_in(first, *others) as anthropic,
        standing_in(answer(OPENAI.good())) as openai,
        running(**ANTHROPIC.variables(anthropic.url), **OPENAI.variables(openai.url), **settings) as service,
    ):
        told = await service.judges(ANTHROPIC, overrides=UNPINNED)
    return told, anthropic, openai


def attempts(told: Told) -> list[tuple[str, str]]:
    return [(one["provider"], one["outcome"]) for one in told.json()["provenance"]["attempts"]]


async def logged(capsys: pytest.CaptureFixture[str], *script: Act) -> JsonObject:
    """The line about the request."""
    await outcome(*script, ENVIRONMENT="production")
    return finished_in(capsys)


def finished_in(capsys: pytest.CaptureFixture[str]) -> JsonObject:
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    (finished,) = (line for line in lines if line["event"] == "request_finished")
    return finished  # type: ignore[no-any-return]  # it is JSON


async def test_another_judge_answers_when_the_first_one_fails() -> None:
    told, anthropic, openai = await outcome(ANTHROPIC.fails("failed"))
    body: JsonObject = told.json()
    assert (told.status, body["provider"], body["provenance"]["fallback_used"]) == (200, "openai", True)
    assert attempts(told) == [("anthropic", "unavailable")] * 3 + [("openai", "success")]
    assert (len(anthropic.requests), len(openai.requests)) == (3, 1)


async def test_the_log_says_why_the_first_judge_did_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    told, _, _ = await outcome(ANTHROPIC.fails("key"), ENVIRONMENT="production")
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    (changed,) = (line for line in lines if line["event"] == "circuit_changed")
    (finished,) = (line for line in lines if line["event"] == "request_finished")
    assert (changed["provider"], changed["after"], changed["reason"]) == ("anthropic", "open", "authentication")
    assert (told.status, finished["provider"], finished["attempts"]) == (200, "openai", 2)
    assert [one.partition(" after ")[0] for one in finished["failed_attempts"]] == ["anthropic: authentication"]


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"Request_Id": "req_011CX-1.a"}, " (req_011CX-1.a)"),
        ({"X_Request_Id": "req_7"}, " (req_7)"),
        ({"Request_Id": 'req" injected'}, ""),
        ({"Request_Id": "r" * 65}, ""),
        ({}, ""),
    ],
)
async def test_the_log_names_a_failed_attempt_as_the_provider_does(
    capsys: pytest.CaptureFixture[str], headers: dict[str, str], named: str
) -> None:
    finished = await logged(capsys, ANTHROPIC.fails("key", **headers))
    assert [one.partition(" ms")[2] for one in finished["failed_attempts"]] == [named]


async def test_an_attempt_is_named_from_its_own_headers_on(capsys: pytest.CaptureFixture[str]) -> None:
    first = ANTHROPIC.fails("failed", Request_Id="req_1")
    script = first, reset(), cut_off(ANTHROPIC.good(), Request_Id="req_3")
    finished = await logged(capsys, *script)
    assert [one.partition(" ms")[2] for one in finished["failed_attempts"]] == [" (req_1)", "", " (req_3)"]


async def test_the_log_says_what_a_failed_comparison_cost(capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        standing_in(answer(ANTHROPIC.says("no verdict"))) as anthropic,
        running(**ANTHROPIC.variables(anthropic.url), ENVIRONMENT="production") as service,
    ):
        (await service.judges(ANTHROPIC)).refusal(502, "INVALID_RESPONSE")
    finished = finished_in(capsys)
    assert (finished["attempts"], finished["cost_usd"]) == (2, pytest.approx(2 * ANTHROPIC.good_usd))


async def test_a_refusal_goes_to_another_judge_and_is_paid_for() -> None:
    told, anthropic, _ = await outcome(answer(ANTHROPIC.refusal))
    assert attempts(told) == [("anthropic", "refused"), ("openai", "success")]
    assert told.json()["cost_estimate"] > OPENAI.good_usd
    assert len(anthropic.requests) == 1


async def test_a_caller_s_mistake_is_not_taken_to_another_judge() -> None:
    told, _, openai = await outcome(ANTHROPIC.fails("invalid"))
    assert told.status == 422
    assert openai.requests == []


async def test_a_hanging_judge_gets_half_of_the_time_and_the_next_one_answers() -> None:
    told, anthropic, _ = await outcome(hanging(), LLM_REQUEST_TIMEOUT="1", LLM_ATTEMPT_TIMEOUT="0.3")
    assert (told.status, told.json()["provider"]) == (200, "openai")
    assert anthropic.requests  # once, or again in what was left: the pauses between are drawn, and virtual


async def test_an_open_circuit_costs_nothing_and_a_pinned_caller_is_told_when_to_come_again() -> None:
    async with (
        standing_in(ANTHROPIC.fails("failed")) as anthropic,
        standing_in(answer(OPENAI.good())) as openai,
        running(**ANTHROPIC.variables(anthropic.url), **OPENAI.variables(openai.url)) as service,
    ):
        for _ in range(2):
            assert (await service.judges(ANTHROPIC, overrides=UNPINNED)).status == 200
        called = len(anthropic.requests)
        told = await service.judges(ANTHROPIC, overrides=UNPINNED)
        assert attempts(told) == [("openai", "success")]
        body = (await service.judges(ANTHROPIC)).refusal(503, "CIRCUIT_BREAKER_OPEN")
        assert 0 < body["retry_after"] <= 30
        health = (await service.reads("/healthz")).json()
        (shown,) = [
            one
            for one in (await service.reads("/api/v1/providers")).json()["providers"]
            if not one["available"] and one["configured"]
        ]
    assert called == len(anthropic.requests) == 5
    assert (health["status"], health["warnings"]) == ("healthy", [OPEN_WARNING])
    assert (shown["name"], shown["circuit_breaker_state"], shown["reason"]) == ("anthropic", "open", "circuit open")


async def test_when_every_circuit_is_open_the_service_is_degraded_and_still_ready() -> None:
    async with (
        standing_in(ANTHROPIC.fails("failed")) as anthropic,
        standing_in(OPENAI.fails("failed")) as openai,
        running(**ANTHROPIC.variables(anthropic.url), **OPENAI.variables(openai.url)) as service,
    ):
        for _ in range(2):
            await service.judges(ANTHROPIC, overrides=UNPINNED)
        (await service.judges(ANTHROPIC, overrides=UNPINNED)).refusal(503, "CIRCUIT_BREAKER_OPEN")
        health, ready = await service.reads("/healthz"), await service.reads("/readyz")
    assert (health.status, health.json()["status"], ready.status) == (200, "degraded", 200)


async def test_a_hundred_different_questions_at_once_are_all_answered() -> None:
    async with (
        standing_in(answer(OPENROUTER.good())) as provider,
        running(**OPENROUTER.variables(provider.url)) as service,
    ):
        told = await asyncio.gather(*(ask(service, number) for number in range(100)))
    assert {one.status for one in told} == {200}
    assert len(provider.requests) == 100


async def ask(service: Service, number: int) -> Told:
    return await service.judges(OPENROUTER, essay_b=f"Phones are good, says number {number}.")
