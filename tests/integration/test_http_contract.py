"""What other systems see of the service over HTTP: every field of an answer, every header, every failure of ours."""

import json
import re
import time
from collections.abc import Awaitable
from dataclasses import fields
from typing import Any
from uuid import UUID, uuid4

import pytest
from quart import Response
from quart.typing import TestClientProtocol as Client
from werkzeug.datastructures import Headers

from api_models import ComparisonRequest, LLMConfigOverrides, ProviderName
from config import MIB
from exceptions import ServiceOverloadedError
from implementations.resilience.memory_limit import MemoryLimit
from protocols import ComparisonQuery, ComparisonResult, LLMOrchestratorProtocol, MemoryProtocol
from tests.in_place_of import NoVerdict, in_place_of
from tests.instant_time import InstantTime
from tests.integration.contract import (
    CANARY,
    JSON,
    compare,
    content,
    mocked,
    nested,
    question,
    raw,
    refusal,
    send,
    serving,
    settings_from,
)
from tests.integration.service_process import COMPARISON

# --- Good answers -----------------------------------------------------------------------------------------------------


async def test_a_verdict_has_every_field(client: Client) -> None:
    response = await compare(client)
    body = await content(response)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert set(body) == {
        "winner", "justification", "confidence", "provider", "model", "response_time_ms", "cached", "token_usage",
        "cost_estimate", "correlation_id", "trace_id", "metadata", "provenance",
    }  # fmt: skip
    assert body["winner"] in {"Essay A", "Essay B"}
    assert isinstance(body["justification"], str)
    assert body["justification"]
    assert isinstance(body["confidence"], float)
    assert 1 <= body["confidence"] <= 5
    assert body["provider"] == "mock"
    assert isinstance(body["response_time_ms"], int)
    assert body["cached"] is False
    assert body["cost_estimate"] == 0
    assert body["correlation_id"] == response.headers["X-Correlation-ID"]
    assert body["trace_id"] is None
    assert body["metadata"] == {}
    usage = body["token_usage"]
    assert set(usage) == {"prompt_tokens", "completion_tokens", "total_tokens", "cached_prompt_tokens"}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    provenance = body["provenance"]
    assert re.fullmatch(r"[0-9a-f]{64}", provenance.pop("prompt_sha256"))
    attempts = provenance.pop("attempts")
    assert provenance == {
        "prompt_version": "4", "replicate": 0, "requested_provider": None, "fallback_used": False,
        "coalesced": False, "dropped_parameters": [],
    }  # fmt: skip
    assert [set(attempt) for attempt in attempts] == [{"provider", "model", "outcome", "duration_ms"}]
    assert attempts[0]["outcome"] == "success"
    assert isinstance(attempts[0]["duration_ms"], int)


async def test_of_duplicate_keys_the_last_wins(client: Client) -> None:
    response = await client.post(COMPARISON, data=raw(replicate="-1")[:-1] + b', "replicate": 3}', headers=JSON)
    assert (await content(response))["provenance"]["replicate"] == 3


async def test_unknown_fields_are_ignored_and_nulls_are_not_given(client: Client) -> None:
    nothing = dict.fromkeys(
        ["provider_override", "model_override", "temperature_override", "system_prompt_override",
         "max_tokens_override", "reasoning_effort_override", "allow_fallback", CANARY]
    )  # fmt: skip
    first = await compare(client, unknown=[CANARY], llm_config_overrides=nothing, correlation_id=None, user_id=None)
    second = await compare(client, llm_config_overrides=None)
    assert first.status_code == 200
    assert second.headers["X-Cache"] == "HIT"


class Asked(NoVerdict):
    """Takes down what was asked."""

    def __init__(self) -> None:
        super().__init__(ServiceOverloadedError("only looked", shed=None))
        self.queries: list[ComparisonQuery] = []

    async def compare(self, query: ComparisonQuery) -> ComparisonResult:
        """Note, and refuse."""
        self.queries.append(query)
        return await super().compare(query)


async def test_every_field_of_a_request_reaches_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = {
        "provider_override": "google",
        "model_override": "a-model",
        "temperature_override": 0.5,
        "system_prompt_override": "Judge.",
        "max_tokens_override": 777,
        "reasoning_effort_override": "low",
        "allow_fallback": True,
    }
    plain: dict[str, Any] = {
        "user_prompt": "A task.",
        "essay_a": "One.",
        "essay_b": "Other.",
        "correlation_id": str(uuid4()),
        "user_id": "teacher-7",
        "metadata": {"batch": "b-17"},
        "replicate": 7,
    }
    assert overrides.keys() == LLMConfigOverrides.model_fields.keys(), "give a value to each"
    assert plain.keys() == ComparisonRequest.model_fields.keys() - {"llm_config_overrides"}, "give a value to each"
    asked = Asked()
    async with serving(mocked(monkeypatch), in_place_of(LLMOrchestratorProtocol, asked)) as client:
        await compare(client, llm_config_overrides=overrides, **plain)
    (query,) = asked.queries
    held = {str(getattr(query, field.name)) for field in fields(query)}
    unread = [name for name, value in {**plain, **overrides}.items() if str(value) not in held]
    assert unread == [], "api/request_reading.py makes the query"


async def test_the_bounds_themselves_are_accepted(client: Client) -> None:
    for temperature in (0, 2, 0.5):
        overrides = {"temperature_override": temperature, "max_tokens_override": 1, "reasoning_effort_override": "none"}
        assert (await compare(client, llm_config_overrides=overrides)).status_code == 200
    metadata = {"m": "x" * (16 * 1024 - len('{"m":""}'))}
    assert (await compare(client, metadata=metadata)).status_code == 200
    assert (await client.post(COMPARISON, data=raw(metadata=nested(63)), headers=JSON)).status_code == 200


async def test_the_two_zeros_are_one_temperature(client: Client) -> None:
    outcomes = []
    for zero in ("0", "-0.0", "0.0", "-0", "1e-400"):
        body = raw(llm_config_overrides=f'{{"temperature_override": {zero}}}')
        response = await client.post(COMPARISON, data=body, headers=JSON)
        outcomes.append(response.headers["X-Cache"])
    assert outcomes == ["MISS", *["HIT"] * 4]


async def test_the_body_s_correlation_id_comes_before_the_header_s(client: Client) -> None:
    mine, other = str(uuid4()), str(uuid4())
    by_body = await compare(client, {"X-Correlation-ID": other}, correlation_id=mine)
    by_header = await compare(client, {"X-Correlation-ID": other})
    fresh = [await compare(client), await compare(client, {"X-Correlation-ID": CANARY})]
    for response, wanted in ((by_body, mine), (by_header, other)):
        assert response.headers["X-Correlation-ID"] == wanted
        assert (await content(response))["correlation_id"] == wanted
    ids = {(await content(response))["correlation_id"] for response in fresh}
    assert len({UUID(text) for text in ids}) == 2
    assert ids == {response.headers["X-Correlation-ID"] for response in fresh}


@pytest.mark.parametrize(
    ("spelling", "is_read"),
    [
        ("0f8fad5b-d9cb-469f-a165-70867728950e", True),
        ("0F8FAD5B-D9CB-469F-A165-70867728950E", True),
        ("0f8fad5bd9cb469fa16570867728950e", True),
        ("urn:uuid:0f8fad5b-d9cb-469f-a165-70867728950e", True),
        ("{0f8fad5b-d9cb-469f-a165-70867728950e}", True),
        ("uuid:0f8fad5b-d9cb-469f-a165-70867728950e", False),
        ("0f8fad5bd9cb-469f-a165-70867728950e", False),
        ("0f8fad5b-d-9cb-469f-a165-70867728950e", False),
        ("{0f8fad5b-d9cb-469f-a165-70867728950e", False),
        ("{0f8fad5bd9cb469fa16570867728950e}", False),
        ("0f8fad5bd9cb469fa1657086772895_e", False),
        ("0f8fad5b-d9cb-469f-a165-70867728950", False),
    ],
)
async def test_header_and_body_take_the_same_spellings_of_a_correlation_id(
    client: Client, spelling: str, *, is_read: bool
) -> None:
    meant = "0f8fad5b-d9cb-469f-a165-70867728950e"
    in_body, in_header = (
        await compare(client, correlation_id=spelling),
        await compare(client, {"X-Correlation-ID": spelling}),
    )
    assert (in_body.status_code, in_header.status_code) == (200 if is_read else 400, 200)
    for response in (in_body, in_header):
        assert (response.headers["X-Correlation-ID"] == meant) is is_read


async def test_a_refusal_carries_the_caller_s_correlation_id(client: Client) -> None:
    mine, other = str(uuid4()), str(uuid4())
    by_body = await compare(client, {"X-Correlation-ID": other}, correlation_id=mine, essay_a="")
    by_header = await compare(client, {"X-Correlation-ID": other}, correlation_id=CANARY)
    lost = await client.get("/nowhere", headers={"X-Correlation-ID": other})
    assert (await refusal(by_body, 400, "VALIDATION_ERROR"))["correlation_id"] == mine
    assert (await refusal(by_header, 400, "VALIDATION_ERROR"))["correlation_id"] == other
    assert (await refusal(lost, 404, "RESOURCE_NOT_FOUND"))["correlation_id"] == other


async def test_metadata_comes_back_verbatim(client: Client) -> None:
    written = (
        '{"z":1,"a":{"x":[1.5,1.0,true,null,"é😀\\u0001"],"":""},"n":18446744073709551615,'
        '"m":-9223372036854775808,"f":1e300,"essay_a":"<b>"}'
    )
    body = await content(await client.post(COMPARISON, data=raw(metadata=written), headers=JSON))
    assert json.dumps(body["metadata"]) == json.dumps(json.loads(written))


async def test_the_second_time_the_answer_is_known(client: Client) -> None:
    first, second = await compare(client), await compare(client, metadata={"other": 1}, user_id="u")
    bought, known = await content(first), await content(second)
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
    assert "Age" not in first.headers
    assert int(second.headers["Age"]) >= 0
    assert known["cached"] is True
    assert repr(known["cost_estimate"]) == "0.0"  # dollars, for readers who tell numbers apart
    assert known["provenance"]["attempts"] == []
    for name in ("winner", "justification", "confidence", "model", "token_usage"):
        assert known[name] == bought[name]


async def test_a_replicate_is_another_question(client: Client) -> None:
    first, second = await compare(client), await compare(client, replicate=1)
    assert second.headers["X-Cache"] == "MISS"
    one, other = (await content(first))["provenance"], (await content(second))["provenance"]
    assert other["replicate"] == 1
    assert one["prompt_sha256"] == other["prompt_sha256"]


async def test_no_cache_asks_anew_and_stores(client: Client) -> None:
    anew = {"Cache-Control": "no-cache"}
    answers = [await compare(client, anew), await compare(client, anew), await compare(client)]
    assert [answer.headers["X-Cache"] for answer in answers] == ["BYPASS", "BYPASS", "HIT"]


async def test_no_store_neither_reads_nor_writes(client: Client) -> None:
    aside = {"Cache-Control": "no-store"}
    answers = [await compare(client, aside), await compare(client), await compare(client, aside)]
    assert [answer.headers["X-Cache"] for answer in answers] == ["BYPASS", "MISS", "BYPASS"]
    assert len((await content(answers[2]))["provenance"]["attempts"]) == 1


async def test_only_if_cached_never_buys(client: Client) -> None:
    wish = {"Cache-Control": "only-if-cached"}
    await refusal(await compare(client, wish), 504, "RESOURCE_NOT_FOUND")
    await compare(client)
    known = await compare(client, wish)
    assert known.status_code == 200
    assert known.headers["X-Cache"] == "HIT"


@pytest.mark.parametrize("other", ["no-cache", "no-store"])
async def test_only_if_cached_finds_nothing_where_nothing_may_be_read_and_buys_nothing(
    client: Client, other: str
) -> None:
    await compare(client)
    for wish in (f"{other}, only-if-cached", f"only-if-cached, {other}"):
        await refusal(await compare(client, {"Cache-Control": wish}), 504, "RESOURCE_NOT_FOUND")
    assert (await content(await client.get("/api/v1/providers")))["total_requests_today"] == 1


async def test_directives_may_stand_in_several_lines(client: Client) -> None:
    def asked(*lines: str) -> Awaitable[Response]:
        headers = Headers([("Content-Type", "application/json"), *(("Cache-Control", line) for line in lines)])
        return client.post(COMPARISON, data=question(), headers=headers)

    await refusal(await asked("max-age=0", "Only-If-Cached"), 504, "RESOURCE_NOT_FOUND")
    answers = [await asked("max-age=0", "no-store"), await asked("no-cache", "max-age=0"), await asked("max-age=0", "")]
    assert [answer.headers["X-Cache"] for answer in answers] == ["BYPASS", "BYPASS", "HIT"]


async def test_server_timing_tells_where_the_time_went(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch, MOCK_LATENCY_MS="1500"), InstantTime()) as client:
        response = await compare(client)
        body = await content(response)
    told = re.findall(r"(\w+);dur=([0-9.]+)", response.headers["Server-Timing"])
    stages = {name: float(value) for name, value in told}
    assert list(stages) == ["total", "cache", "queue", "upstream"]
    assert stages["total"] >= stages["upstream"] == body["provenance"]["attempts"][0]["duration_ms"] == 1500
    assert abs(body["response_time_ms"] - stages["total"]) <= 0.501  # both are rounded


async def test_a_caller_s_time_limit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch, MOCK_LATENCY_MS="20000")) as client:
        began_s = time.monotonic()
        await refusal(await compare(client, {"X-Request-Timeout-Ms": "100"}), 504, "TIMEOUT")
        assert time.monotonic() - began_s < 15


@pytest.mark.parametrize("value", ["9999999999", str(2**63 - 1), " 60000 ", "0060000"])
async def test_a_time_limit_beyond_ours_is_accepted(client: Client, value: str) -> None:
    assert (await compare(client, {"X-Request-Timeout-Ms": value})).status_code == 200


@pytest.mark.parametrize("provider", ProviderName)
async def test_the_mock_stands_in_for_a_pinned_provider(client: Client, provider: ProviderName) -> None:
    plain = await content(await compare(client))
    pinned = {"provider_override": provider, "model_override": "some/model-1"}
    body = await content(await compare(client, llm_config_overrides=pinned))
    assert body["provider"] == "mock"
    assert body["model"] == plain["model"]
    assert body["provenance"]["requested_provider"] == provider


async def test_a_model_alone_is_accepted_while_the_mock_judges(client: Client) -> None:
    assert (await compare(client, llm_config_overrides={"model_override": "any"})).status_code == 200


# --- Nobody judges ----------------------------------------------------------------------------------------------------


async def test_without_a_key_no_mark_is_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(settings_from(monkeypatch)) as client:
        for overrides in (None, {"provider_override": "openai"}, {"provider_override": "mock"}):
            await refusal(await compare(client, llm_config_overrides=overrides), 503, "CONFIGURATION_ERROR")
        health = await client.get("/healthz")
        assert health.status_code == 503
        assert (await content(health))["status"] == "unhealthy"
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503


@pytest.mark.parametrize("variables", [{}, {"ANTHROPIC_API_KEY": CANARY}], ids=["no key", "one key"])
async def test_a_model_without_its_provider_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    async with serving(settings_from(monkeypatch, **variables)) as client:
        response = await compare(client, llm_config_overrides={"model_override": f"{CANARY}-1"})
        assert "model_override" in (await refusal(response, 400, "VALIDATION_ERROR"))["details"]


# --- Providers --------------------------------------------------------------------------------------------------------

PROVIDER_KEYS = {
    "name", "enabled", "configured", "available", "circuit_breaker_state", "default_model", "last_success",
    "last_failure", "failure_count", "average_response_time_ms", "in_flight", "requests_today", "cost_today_usd",
    "reason",
    "last_probe", "circuit_forced",
}  # fmt: skip
PROVIDERS_KEYS = {
    "providers",
    "default_provider",
    "selection_strategy",
    "total_requests_today",
    "total_cost_today",
    "scope",
}


async def test_only_the_mock_is_listed_while_it_judges(client: Client) -> None:
    await compare(client)
    body = await content(await client.get("/api/v1/providers"))
    assert set(body) == PROVIDERS_KEYS
    (mock,) = body["providers"]
    assert set(mock) == PROVIDER_KEYS
    assert mock["name"] == body["default_provider"] == "mock"
    assert mock["enabled"] is mock["configured"] is mock["available"] is True
    assert mock["circuit_breaker_state"] == "closed"
    assert mock["last_success"].endswith("Z")
    assert mock["last_failure"] is None
    assert mock["in_flight"] == mock["failure_count"] == 0
    assert mock["requests_today"] == body["total_requests_today"] == 1
    assert mock["reason"] is None
    assert body["selection_strategy"] == "priority"


async def test_providers_are_listed_in_priority_order_with_the_reason_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    order = ["google", "anthropic", "openai", "internal"]
    settings = settings_from(
        monkeypatch, PROVIDER_PRIORITY_ORDER=",".join(order), GOOGLE_ENABLED="false", ANTHROPIC_API_KEY=CANARY
    )
    async with serving(settings) as client:
        response = await client.get("/api/v1/providers")
        assert CANARY not in await response.get_data(as_text=True)
        body = await content(response)
    assert [known["name"] for known in body["providers"]] == order
    assert body["default_provider"] == "google"
    for known in body["providers"]:
        assert set(known) == PROVIDER_KEYS
        assert known["available"] is (known["reason"] is None)
    by_name = {known["name"]: known for known in body["providers"]}
    assert by_name["google"]["enabled"] is False
    assert by_name["anthropic"]["configured"] is True
    assert by_name["openai"]["configured"] is False
    assert by_name["openai"]["reason"]


async def test_an_unknown_provider_cannot_be_tested(client: Client) -> None:
    await refusal(await client.post(f"/api/v1/providers/{CANARY}/test"), 400, "VALIDATION_ERROR")


async def test_a_provider_is_probed_without_a_verdict(client: Client) -> None:
    for _ in range(2):
        body = await content(await client.post("/api/v1/providers/mock/test"))
        assert set(body) == {"success", "provider", "message", "response_time_ms", "model"}
        assert body["success"] is True
        assert isinstance(body["response_time_ms"], int)
    assert (await content(await client.get("/api/v1/providers")))["total_requests_today"] == 0


@pytest.mark.parametrize("query_string", ["", "?deep=true"])
@pytest.mark.parametrize(
    ("provider", "reason"), [("openai", "not configured"), ("mock", "only when the operator asks for it")]
)
async def test_a_provider_that_cannot_be_asked_fails_its_test(
    provider: str, reason: str, query_string: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(settings_from(monkeypatch)) as client:
        response = await client.post(f"/api/v1/providers/{provider}/test{query_string}")
        assert response.status_code == 200
        told = await content(response)
    assert told["success"] is False
    assert reason in told["message"]


async def test_a_deep_test_is_allowed_once_a_minute(client: Client) -> None:
    first = await client.post("/api/v1/providers/mock/test?deep=true")
    assert (await content(first))["success"] is True
    assert (await content(first))["model"]
    assert (await content(await client.get("/api/v1/providers")))["total_requests_today"] == 1
    body = await refusal(await client.post("/api/v1/providers/mock/test?deep=true"), 429, "RATE_LIMIT")
    assert 50 < body["retry_after"] <= 60
    assert (await client.post("/api/v1/providers/mock/test")).status_code == 200


@pytest.mark.parametrize("value", ["maybe", "", "null", "2", CANARY])
async def test_a_flag_that_is_neither_true_nor_false_is_refused(client: Client, value: str) -> None:
    body = await refusal(await client.post(f"/api/v1/providers/mock/test?deep={value}"), 400, "VALIDATION_ERROR")
    assert body["details"] == "deep: must be true or false"


@pytest.mark.parametrize(
    ("value", "is_deep"),
    [("true", True), ("1", True), ("Yes", True), ("false", False), ("0", False), ("No", False)],
)
async def test_a_flag_may_say_yes_or_no(client: Client, value: str, *, is_deep: bool) -> None:
    response = await client.post(f"/api/v1/providers/mock/test?deep={value}")
    assert ((await content(response))["model"] is not None) is is_deep


@pytest.mark.parametrize(
    "path", ["/api/v1/providers/mock/test?deep=true&deep=false", "/api/v1/usage/summary?period=7d&period=7d"]
)
async def test_a_query_parameter_that_stands_twice_is_refused(client: Client, path: str) -> None:
    method = "POST" if "deep" in path else "GET"
    body = await refusal(await send(client, method, path), 400, "VALIDATION_ERROR")
    assert body["details"].endswith(": must be given once")


# --- Health and metrics -----------------------------------------------------------------------------------------------


async def test_the_mock_without_keys_is_healthy(client: Client) -> None:
    response = await client.get("/healthz")
    body = await content(response)
    assert response.status_code == 200
    assert set(body) == {"service", "version", "status", "environment", "dependencies", "providers", "warnings"}
    assert body["service"] == "llm-provider-service"
    assert body["status"] == "healthy"
    assert body["environment"] == "development"
    assert body["dependencies"] == {
        "redis": "disabled",
        "kafka": "disabled",
        "cache": {
            "cache_mode": "healthy",
            "local_cache_available": True,
            "redis_available": False,
            "redis_failure_count": 0,
        },
    }
    assert body["providers"] == {
        "mock": {
            "enabled": True,
            "configured": True,
            "available": True,
            "circuit_breaker_state": "closed",
            "circuit_forced": False,
        }
    }
    assert any("mock" in warning for warning in body["warnings"])


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/metrics"])
async def test_a_probe_may_use_head(client: Client, path: str) -> None:
    assert (await client.head(path)).status_code == 200


async def test_metrics_come_as_text_and_as_openmetrics(client: Client) -> None:
    await compare(client)
    await compare(client)
    plain = await client.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain")
    text = await plain.get_data(as_text=True)
    for series in (
        f'http_requests_total{{endpoint="{COMPARISON}",method="POST",status_code="200"}} 2.0',
        'requests_total{model="mock-judge-1",provider="mock",request_type="comparison",status="success"} 2.0',
        'response_duration_seconds_count{cached="true",model="mock-judge-1",provider="mock"} 1.0',
        'cost_dollars_total{model="mock-judge-1",provider="mock"} 0.0',
        "cache_hits_total 1.0",
        'concurrent_requests{provider="mock"} 0.0',
    ):
        assert f"\nllm_provider_{series}\n" in text
    assert "llm_provider_http_request_duration_seconds_bucket" in text
    assert re.search(r'llm_provider_tokens_used_total\{[^}]*token_type="prompt"\}', text)
    opened = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.headers["Content-Type"].startswith("application/openmetrics-text")
    assert (await opened.get_data(as_text=True)).endswith("# EOF\n")


# --- Failures ---------------------------------------------------------------------------------------------------------


class Watching(NoVerdict):
    """Takes down what is set apart for bodies meanwhile."""

    def __init__(self) -> None:
        super().__init__(ServiceOverloadedError("only looked", shed=None))
        self.bodies = MemoryLimit(10 * MIB)
        self.seen: list[int] = []

    async def compare(self, query: ComparisonQuery) -> ComparisonResult:
        """Look, and refuse."""
        self.seen.append(self.bodies.taken_bytes)
        return await super().compare(query)


async def test_a_body_that_is_read_takes_no_memory_beside_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Watching()
    overrides = in_place_of(LLMOrchestratorProtocol, watching), in_place_of(MemoryProtocol, watching.bodies)
    async with serving(mocked(monkeypatch), *overrides) as client:
        await refusal(await compare(client, essay_a="word " * 100_000), 503, "SERVICE_UNAVAILABLE")
    assert watching.seen == [0]


async def test_a_defect_of_ours_is_told_without_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    defective = in_place_of(LLMOrchestratorProtocol, NoVerdict(RuntimeError(CANARY)))
    async with serving(mocked(monkeypatch), defective) as client:
        await refusal(await compare(client), 500, "UNKNOWN_ERROR")
    written = capsys.readouterr()
    assert CANARY not in written.out + written.err
    assert "RuntimeError" in written.out


async def test_a_transient_failure_is_told_after_three_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch, MOCK_ERROR_RATE="1"), InstantTime()) as client:
        body = await refusal(await compare(client), 503, "EXTERNAL_SERVICE_ERROR")
        text = await (await client.get("/metrics")).get_data(as_text=True)
        known = (await content(await client.get("/api/v1/providers")))["providers"][0]
    assert body["provider"] == "mock"
    labels = 'model="mock-judge-1",outcome="unavailable",provider="mock"'
    assert f"llm_provider_upstream_attempts_total{{{labels}}} 3.0" in text
    assert known["failure_count"] == 3
    assert known["last_failure"].endswith("Z")
