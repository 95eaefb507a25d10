"""What administrators do over HTTP, without any Redis: settings, circuits, alerts, and the record of it all."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest
from quart import Response
from quart.typing import TestClientProtocol as Client

from api.admin_requests import run_to_completion
from api_models import AdminChanged
from config import settings_table
from implementations.accounting.alerts import Alerts
from implementations.cache_manager_impl import CacheManagerImpl
from implementations.circuit_steering_impl import CircuitSteeringImpl
from implementations.runtime_settings_impl import RuntimeSettingsImpl
from protocols import LLMEventPublisherProtocol, SleepProtocol
from tests.fakes import Recorder, settle
from tests.in_place_of import in_place_of
from tests.instant_time import InstantTime
from tests.integration.contract import ADMIN, KEY, compare, content, mocked, refusal, serving, settings_from

REQUEST_ID = "1f0c2b4e-6a5d-4c3b-9e8f-0a1b2c3d4e5f"
SETTINGS = f"{ADMIN}/settings"
OPENAI = f"{ADMIN}/circuits/openai"
ROUTES = [
    ("GET", "/settings"),
    ("PATCH", "/settings"),
    ("DELETE", "/settings"),
    ("DELETE", "/settings/llm_cache_ttl"),
    ("GET", "/circuits"),
    ("PUT", "/circuits/openai"),
    ("DELETE", "/circuits/openai"),
    ("POST", "/cache/clear"),
    ("POST", "/alerts/reset"),
    ("GET", "/changes"),
]


@pytest.fixture(autouse=True)
def level_of_the_log() -> Iterator[None]:
    """It belongs to the process, and so to the other tests."""
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """Ask a service with an administrator, in which the mock judges."""
    async with serving(mocked(monkeypatch, ADMIN_API_KEY=KEY)) as asked:
        yield asked


async def act(
    client: Client, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> Response:
    sent = {"X-API-Key": KEY, **({} if body is None else {"Content-Type": "application/json"}), **(headers or {})}
    data = body if isinstance(body, bytes) else None if body is None else orjson.dumps(body)
    response: Response = await getattr(client, method.lower())(path, headers=sent, data=data)
    return response


async def done(client: Client, method: str, path: str, body: object = None, **headers: str) -> Any:
    response = await act(client, method, path, body, headers)
    assert response.status_code == 200, await response.get_data(as_text=True)
    return await content(response)


def values(report: dict[str, Any]) -> dict[str, Any]:
    return {setting["name"]: setting["value"] for setting in report["settings"]}


# --- The door ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variables", [{}, {"ADMIN_API_KEY": KEY[:23]}, {"ADMIN_API_KEY": KEY, "ADMIN_API_ENABLED": "false"}]
)
async def test_without_a_key_in_force_no_route_exists(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(mocked(monkeypatch, **variables)) as client:
        for method, path in ROUTES:
            await refusal(await act(client, method, f"{ADMIN}{path}"), 404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    ("variables", "levels"),
    [
        ({}, ["info"]),
        ({"ADMIN_API_KEY": KEY[:23]}, ["warning"]),
        ({"ADMIN_API_KEY": KEY}, []),
        ({"ADMIN_API_ENABLED": "false"}, []),
    ],
)
async def test_a_line_says_that_the_admin_routes_are_absent(
    variables: dict[str, str], levels: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(mocked(monkeypatch, ENVIRONMENT="production", **variables)):
        pass
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["level"] for line in lines if line["event"] == "admin_routes_absent"] == levels


@pytest.mark.parametrize("replicas", [1, 3])
async def test_without_redis_an_act_is_done_everywhere_only_where_there_is_one_replica(
    replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(mocked(monkeypatch, ADMIN_API_KEY=KEY, REPLICAS=str(replicas))) as client:
        for path in ("/cache/clear", "/alerts/reset"):
            assert (await done(client, "POST", f"{ADMIN}{path}"))["everywhere"] is (replicas == 1)


# --- Settings ---------------------------------------------------------------------------------------------------------


async def test_every_setting_is_shown_with_its_version(client: Client) -> None:
    response = await act(client, "GET", SETTINGS)
    report = await content(response)
    assert response.headers["ETag"] == '"0"'
    assert (report["version"], report["scope"]) == (0, "replica")
    assert [setting["name"] for setting in report["settings"]] == [setting.name for setting in settings_table()]
    assert set(report["settings"][0]) == {"name", "value", "environment_value", "source", "changeable"}


async def test_a_change_is_in_force_at_once_and_returns(client: Client) -> None:
    response = await act(client, "PATCH", SETTINGS, {"provider_selection_strategy": "random", "log_level": "ERROR"})
    assert (response.status_code, response.headers["ETag"]) == (200, '"1"')
    assert values(await content(response))["provider_selection_strategy"] == "random"
    assert (await content(await client.get("/api/v1/providers")))["selection_strategy"] == "random"
    assert logging.getLogger().level == logging.ERROR
    await done(client, "DELETE", f"{SETTINGS}/provider_selection_strategy")
    assert (await content(await client.get("/api/v1/providers")))["selection_strategy"] == "priority"
    assert logging.getLogger().level == logging.ERROR
    await done(client, "DELETE", SETTINGS)
    assert logging.getLogger().level == logging.INFO


async def test_a_cache_that_is_switched_off_keeps_nothing(client: Client) -> None:
    await done(client, "PATCH", SETTINGS, {"llm_cache_enabled": False})
    assert [(await compare(client)).headers["X-Cache"] for _ in range(2)] == ["BYPASS", "BYPASS"]
    await done(client, "DELETE", SETTINGS)
    assert [(await compare(client)).headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]


async def test_a_running_request_keeps_the_settings_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def judge_slowly(_: float) -> None:
        reached.set()
        await go.wait()

    overrides = InstantTime(), in_place_of(SleepProtocol, judge_slowly)
    async with serving(mocked(monkeypatch, ADMIN_API_KEY=KEY, MOCK_LATENCY_MS="1000"), *overrides) as client:
        running = asyncio.create_task(compare(client))
        await reached.wait()
        await done(client, "PATCH", SETTINGS, {"llm_cache_enabled": False})
        go.set()
        assert (await running).headers["X-Cache"] == "MISS"
        assert (await compare(client)).headers["X-Cache"] == "BYPASS"
        await done(client, "DELETE", SETTINGS)
        assert (await compare(client)).headers["X-Cache"] == "HIT"


@pytest.mark.parametrize("header", ['"1"', "*", '"0", "1"'])
async def test_a_version_that_is_in_force_lets_the_change_pass(header: str, client: Client) -> None:
    await done(client, "PATCH", SETTINGS, {"llm_cache_ttl": 60})
    await done(client, "PATCH", SETTINGS, {"llm_cache_ttl": 70}, **{"If-Match": header})


@pytest.mark.parametrize("header", ['"0"', '"2"', 'W/"1"', "1 or so", ""])
@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", SETTINGS), ("DELETE", SETTINGS), ("DELETE", f"{SETTINGS}/llm_cache_ttl")]
)
async def test_a_version_that_is_not_stops_it(header: str, method: str, path: str, client: Client) -> None:
    await done(client, "PATCH", SETTINGS, {"llm_cache_ttl": 60})
    body = {"llm_cache_ttl": 70} if method == "PATCH" else None
    await refusal(await act(client, method, path, body, {"If-Match": header}), 412, "INVALID_REQUEST")
    assert values(await done(client, "GET", SETTINGS))["llm_cache_ttl"] == 60


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"llm_cache_ttl": 1e999}', b'{"llm_cache_ttl": NaN}', b"\xff"])
async def test_what_is_no_object_of_settings_is_refused(body: bytes, client: Client) -> None:
    await refusal(await act(client, "PATCH", SETTINGS, body), 400, "VALIDATION_ERROR")


async def test_another_type_of_body_is_refused(client: Client) -> None:
    response = await act(client, "PATCH", SETTINGS, b"llm_cache_ttl=1", {"Content-Type": "text/plain"})
    await refusal(response, 415, "VALIDATION_ERROR")


async def test_a_refused_change_names_each_field_and_is_counted(client: Client) -> None:
    change = {"llm_cache_ttl": -1, "cost_limit_usd_per_day": "much", "provider_selection_strategy": "random"}
    body = await refusal(await act(client, "PATCH", SETTINGS, change), 400, "VALIDATION_ERROR")
    assert "llm_cache_ttl: " in body["details"]
    assert "cost_limit_usd_per_day: " in body["details"]
    assert "strategy" not in body["details"]
    scrape = await (await client.get("/metrics")).get_data(as_text=True)
    assert 'llm_provider_config_reload_errors_total{source="request"} 1.0' in scrape
    assert (await content(await client.get("/api/v1/providers")))["selection_strategy"] == "priority"


# --- Circuits ---------------------------------------------------------------------------------------------------------


async def test_a_circuit_that_is_held_open_is_shown_and_told_to_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(settings_from(monkeypatch, ADMIN_API_KEY=KEY, OPENAI_API_KEY="k")) as client:
        told = await done(client, "PUT", OPENAI, {"state": "open", "reason": "they bill twice", "for_s": 600})
        assert 599 < told.pop("expires_in_s") <= 600
        assert told.pop("actor").startswith("admin@")
        assert told == {
            "provider": "openai",
            "circuit_breaker_state": "open",
            "forced": True,
            "reason": "they bill twice",
            "scope": "replica",
        }
        listed = (await content(await client.get("/api/v1/providers")))["providers"]
        (openai,) = (one for one in listed if one["name"] == "openai")
        assert (openai["reason"], openai["circuit_forced"]) == ("circuit held open: they bill twice", True)
        health = await content(await client.get("/healthz"))
        assert (health["status"], health["providers"]["openai"]["circuit_forced"]) == ("degraded", True)
        assert any("openai: circuit held open: they bill twice" in warning for warning in health["warnings"])
        refused = await compare(client, llm_config_overrides={"provider_override": "openai"})
        assert "they bill twice" in (await refusal(refused, 503, "CIRCUIT_BREAKER_OPEN"))["details"]
        assert (await done(client, "DELETE", OPENAI))["forced"] is False
        assert (await content(await client.get("/healthz")))["warnings"] == []


async def test_a_circuit_that_is_held_closed_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(settings_from(monkeypatch, ADMIN_API_KEY=KEY, OPENAI_API_KEY="k")) as client:
        await done(client, "PUT", OPENAI, {"state": "closed", "reason": "we want to see it fail"})
        health = await content(await client.get("/healthz"))
        assert (health["status"], health["warnings"]) == (
            "healthy",
            ["openai: circuit held closed: we want to see it fail"],
        )
        circuits = {one["provider"]: one for one in (await done(client, "GET", f"{ADMIN}/circuits"))["circuits"]}
        assert (circuits["openai"]["forced"], circuits["openai"]["expires_in_s"]) == (True, None)
        assert circuits["google"]["forced"] is False


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"state": "half_open", "reason": "r"},
        {"state": "open"},
        {"state": "open", "reason": " "},
        {"state": "open", "reason": "a\nb"},
        {"state": "open", "reason": "a\u202eb"},
        {"state": "open", "reason": "r" * 201},
        {"state": "open", "reason": "r", "for_s": 0},
        {"state": "open", "reason": "r", "for_s": "1"},
        {"state": "open", "reason": "r", "for_s": 1e9},
        {"state": "open", "reason": "r", "kanarienvogel": True},
    ],
)
async def test_an_order_that_is_none_changes_no_circuit(body: object, client: Client) -> None:
    refused = await refusal(await act(client, "PUT", OPENAI, body), 400, "VALIDATION_ERROR")
    assert "kanarienvogel" not in refused["details"]
    assert "is not valid" not in refused["details"]
    assert not any(one["forced"] for one in (await done(client, "GET", f"{ADMIN}/circuits"))["circuits"])


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_who_is_no_provider_has_no_circuit(method: str, client: Client) -> None:
    body = {"state": "open", "reason": "r"} if method == "PUT" else None
    await refusal(await act(client, method, f"{ADMIN}/circuits/nobody", body), 400, "VALIDATION_ERROR")


# --- The record -------------------------------------------------------------------------------------------------------


async def test_every_act_is_told_once_as_line_as_event_and_in_the_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder()
    settings = mocked(monkeypatch, ADMIN_API_KEY=KEY, ENVIRONMENT="production")
    async with serving(settings, in_place_of(LLMEventPublisherProtocol, recorder)) as client:
        who = {"X-Correlation-ID": REQUEST_ID}
        await done(client, "PATCH", SETTINGS, {"llm_cache_ttl": 60, "cost_limit_usd_per_day": 5}, **who)
        await done(client, "DELETE", f"{SETTINGS}/llm_cache_ttl", **who)
        await done(client, "DELETE", f"{SETTINGS}/llm_cache_ttl", **who)
        await done(client, "PUT", OPENAI, {"state": "open", "reason": "r"}, **who)
        await done(client, "DELETE", OPENAI, **who)
        await done(client, "POST", f"{ADMIN}/cache/clear", **who)
        await done(client, "POST", f"{ADMIN}/alerts/reset", **who)
        await act(client, "PATCH", SETTINGS, {"llm_cache_ttl": -1})
        changes = await done(client, "GET", f"{ADMIN}/changes")
    acts = [
        ("setting_changed", "llm_cache_ttl"),
        ("setting_changed", "cost_limit_usd_per_day"),
        ("setting_withdrawn", "llm_cache_ttl"),
        ("circuit_forced", "openai"),
        ("circuit_reset", "openai"),
        ("cache_cleared", None),
        ("alerts_reset", None),
    ]
    events = recorder.of(AdminChanged)
    written = map(orjson.loads, capsys.readouterr().out.splitlines())
    lines = [line for line in written if line["event"] == "admin_changed"]
    assert sorted(acts, key=str) == sorted(((one.action, one.field) for one in events), key=str)
    assert [(one.action, one.field) for one in events] == [(line["action"], line["field"]) for line in lines]
    assert [(one["action"], one["field"]) for one in reversed(changes)] == [(one.action, one.field) for one in events]
    assert {str(one.request_id) for one in events} == {REQUEST_ID} == {one["request_id"] for one in changes}
    assert all(one["actor"].startswith("admin@") and one["at"].endswith("Z") for one in changes)


@pytest.mark.parametrize(
    ("owner", "work", "asked"),
    [
        (RuntimeSettingsImpl, "change", ("PATCH", SETTINGS, {"llm_cache_ttl": 60})),
        (RuntimeSettingsImpl, "withdraw", ("DELETE", SETTINGS, None)),
        (CircuitSteeringImpl, "force", ("PUT", OPENAI, {"state": "open", "reason": "a test"})),
        (CircuitSteeringImpl, "reset", ("DELETE", OPENAI, None)),
        (CacheManagerImpl, "clear", ("POST", f"{ADMIN}/cache/clear", None)),
        (Alerts, "reset", ("POST", f"{ADMIN}/alerts/reset", None)),
    ],
)
async def test_every_change_is_made_although_its_caller_has_left(
    owner: type[object], work: str, asked: tuple[str, str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go, ended, change = asyncio.Event(), asyncio.Event(), asyncio.Event(), getattr(owner, work)

    async def slow(*given: Any, **named: Any) -> Any:
        began.set()
        await go.wait()
        try:
            return await change(*given, **named)
        finally:
            ended.set()

    monkeypatch.setattr(owner, work, slow)
    async with serving(mocked(monkeypatch, ADMIN_API_KEY=KEY)) as client:
        method, path, body = asked
        leaving = asyncio.create_task(act(client, method, path, body))
        await began.wait()
        leaving.cancel()
        await asyncio.wait([leaving])
        go.set()
        await asyncio.wait_for(ended.wait(), timeout=30)


async def test_a_change_that_fails_when_its_caller_has_left_is_nobody_s_to_report() -> None:
    began, go, unheard = asyncio.Event(), asyncio.Event(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, told: unheard.append(told))

    async def work() -> None:
        began.set()
        await go.wait()
        raise ValueError

    asking = asyncio.create_task(run_to_completion(work()))
    await began.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go.set()
    await settle()
    gc.collect()
    assert unheard == []
