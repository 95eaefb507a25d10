"""What operators are told over HTTP: the page, and the figures that it needs."""

from hashlib import sha256
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client

from api.operations_routes import PAGE
from api_models import ErrorCode
from exceptions import CostLimitExceededError
from protocols import LLMOrchestratorProtocol
from tests.in_place_of import NoVerdict, in_place_of
from tests.integration.contract import CANARY, compare, content, mocked, question, refusal, send, serving
from tests.integration.dialects import ANTHROPIC, OPENAI
from tests.integration.pointed_service import running
from tests.integration.stand_in import answer, standing_in

OPERATIONS = "/api/v1/operations"
CALLER_KEYS = f'{{"a-caller": ["{sha256(CANARY.encode()).hexdigest()}"]}}'


async def operations(client: Client) -> Any:
    response = await client.get(OPERATIONS)
    assert (response.status_code, response.content_type) == (200, "application/json")
    return await content(response)


async def test_a_fresh_service_tells_that_nothing_has_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch)) as client:
        told = await operations(client)
    assert told["started_at"].endswith("Z")
    assert 0 <= told["uptime_s"] < 60
    assert (told["mock_judges"], told["draining"]) == (True, False)
    assert (told["degraded_modes"], told["tasks_down"], told["recent_errors"]) == ([], [], [])
    assert told["traffic"] == {"answers": 0, "errors": 0, "errors_by_type": {}, "coalesced": 0, "callers_left": 0}
    assert told["latency"] == {"window_s": 60.0, "answers": 0, "median_ms": None, "p95_ms": None, "slowest_ms": None}
    assert told["saturation"]["service"] == {"in_flight": 0, "limit": 200, "waiting": 0}
    assert set(told["saturation"]["providers"]) == {"mock"}
    assert (told["events"]["kafka"], told["events"]["buffering"], told["events"]["dropped"]) == ("disabled", None, 0)


async def test_answers_and_events_are_counted_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch, MAX_IN_FLIGHT_REQUESTS="7", LLM_MAX_CONCURRENT_REQUESTS="3")) as client:
        timings = [(await compare(client)).headers["Server-Timing"] for _ in range(2)]
        told = await operations(client)
    slowest_ms = max(float(timing.partition("total;dur=")[2].partition(",")[0]) for timing in timings)
    assert (told["traffic"]["answers"], told["latency"]["answers"]) == (2, 2)
    assert 0 < told["latency"]["median_ms"] <= told["latency"]["p95_ms"] <= told["latency"]["slowest_ms"]
    assert told["latency"]["slowest_ms"] == pytest.approx(slowest_ms, abs=0.051)  # both are rounded
    assert told["saturation"]["service"]["limit"] == 7
    assert told["saturation"]["providers"]["mock"] == {"in_flight": 0, "limit": 3, "waiting": 0, "paused_s": 0.0}
    assert told["events"]["published"] == 7


async def test_an_error_is_told_without_anything_that_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch)) as client:
        overrides = {"provider_override": CANARY}
        response = await compare(client, essay_a=CANARY, llm_config_overrides=overrides)
        body = await refusal(response, 400, "VALIDATION_ERROR")
        told = await operations(client)
    (error,) = told["recent_errors"]
    assert error.pop("at").endswith("Z")
    assert error == {
        "error_type": "VALIDATION_ERROR",
        "status": 400,
        "error": "The request is not valid.",
        "provider": None,
        "correlation_id": body["correlation_id"],
    }
    assert told["traffic"]["errors_by_type"] == {"VALIDATION_ERROR": 1}
    assert CANARY not in str(told)


@pytest.mark.parametrize(("method", "path"), [("GET", "/wp-login.php"), ("POST", OPERATIONS)])
async def test_doors_that_do_not_exist_are_no_errors_of_ours(
    method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(mocked(monkeypatch)) as client:
        await send(client, method, path)
        assert (await operations(client))["traffic"]["errors"] == 0


@pytest.mark.parametrize(
    ("settings", "path", "times", "status"),
    [
        ({}, "/api/v1/admin/changes", 1, 401),
        ({}, "/api/v1/admin/changes", 6, 429),
        ({"ADMIN_ALLOWED_IPS": "192.0.2.1"}, "/api/v1/admin/changes", 1, 403),
        ({"AUTH_MODE": "api_key", "CALLER_API_KEYS": CALLER_KEYS}, "/api/v1/providers", 1, 401),
    ],
)
async def test_whoever_is_refused_at_a_door_pushes_no_error_out_of_sight(
    settings: dict[str, str], path: str, times: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(mocked(monkeypatch, ADMIN_API_KEY=f"{CANARY} of the administrator", **settings)) as client:
        for _ in range(times):
            response = await client.get(path, headers={"X-API-Key": "somebody else's"})
        told = await content(await client.get(OPERATIONS, headers={"X-API-Key": CANARY}))
    assert response.status_code == status
    assert (told["traffic"]["errors"], told["recent_errors"]) == (0, [])


async def test_a_failure_of_the_service_is_remembered_by_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    poor = in_place_of(LLMOrchestratorProtocol, NoVerdict(CostLimitExceededError("nothing is left")))
    async with serving(mocked(monkeypatch), poor) as client:
        await refusal(await compare(client), 402, "COST_LIMIT_EXCEEDED")
        told = await operations(client)
    assert told["traffic"]["errors_by_type"] == {ErrorCode.COST_LIMIT_EXCEEDED: 1}
    assert told["recent_errors"][0]["status"] == 402


async def test_money_is_told_with_its_limits() -> None:
    async with (
        standing_in(answer(OPENAI.good())) as provider,
        running(**OPENAI.variables(provider.url), COST_LIMIT_USD_PER_DAY="2") as service,
    ):
        assert (await service.judges(OPENAI)).status == 200
        money = (await service.reads(OPERATIONS)).json()["money"]
    assert money["scope"] == "replica"
    assert money["day"]["spent_usd"] == money["month"]["spent_usd"] == pytest.approx(OPENAI.good_usd, abs=1e-6)
    assert (money["day"]["limit_usd"], money["day"]["left_usd"]) == (2.0, pytest.approx(2 - OPENAI.good_usd, abs=1e-6))
    assert (money["month"]["limit_usd"], money["month"]["left_usd"]) == (None, None)
    assert money["day"]["period"].startswith(money["month"]["period"])


async def test_a_judge_that_pauses_says_for_how_long() -> None:
    async with (
        standing_in(ANTHROPIC.fails("throttled", retry_after="40")) as provider,
        running(**ANTHROPIC.variables(provider.url)) as service,
    ):
        await service.judges(ANTHROPIC, headers={"X-Request-Timeout-Ms": "5000"})
        places = (await service.reads(OPERATIONS)).json()["saturation"]["providers"]["anthropic"]
    assert 0 < places["paused_s"] <= 40


async def test_the_page_is_one_answer_with_its_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch)) as client:
        response = await client.get("/")
        again = await client.get("/", headers={"If-None-Match": response.headers["ETag"]})
        other = await client.get("/", headers={"If-None-Match": '"another"'})
    assert (response.status_code, response.content_type) == (200, "text/html; charset=utf-8")
    assert await response.get_data(as_text=False) == PAGE.text
    assert response.headers["Content-Security-Policy"] == PAGE.headers["Content-Security-Policy"]
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert (again.status_code, await again.get_data(as_text=True)) == (304, "")
    assert other.status_code == 200


async def test_the_page_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch)) as client:
        await refusal(await client.post("/", data=question()), 405, "INVALID_REQUEST")
