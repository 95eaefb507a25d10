"""Who is let in: every route with every kind of key, told by its name in logs, metrics and events."""

import http.client
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from dishka import Provider
from quart import Quart, Response
from quart.typing import TestClientProtocol as Client

from api.caller_gate import ADMIN_ROUTES, OPEN_PATHS, needs_no_caller
from api_models import CostTracked, RequestCompleted, RequestStarted
from implementations.access.key_ring import digest_of
from implementations.access.wrong_keys import MOST_FAILURES
from protocols import LLMEventPublisherProtocol
from startup_setup import create_app
from tests.fakes import Recorder
from tests.in_place_of import in_place_of
from tests.integration.contract import CANARY, content, question, refusal, settings_from
from tests.integration.service_process import COMPARISON, mocked, prefixed, received, service, wait_until

KEY, SECOND_KEY, OTHER_KEY = f"llmp_{CANARY}-one", f"llmp_{CANARY}-new-one", f"llmp_{CANARY}-two"
ADMIN_KEY = f"{CANARY}-of-the-administrator"
KEYS = {"one": [digest_of(KEY).hex(), digest_of(SECOND_KEY).hex()], "two": [digest_of(OTHER_KEY).hex()]}
GUARDED = {"AUTH_MODE": "api_key", "CALLER_API_KEYS": orjson.dumps(KEYS).decode(), "ADMIN_API_KEY": ADMIN_KEY}
PROVIDERS, TRIAL = "/api/v1/providers", "/api/v1/providers/mock/test"
CLEAR = f"{ADMIN_ROUTES}cache/clear"
WRONG: Mapping[str, dict[str, str]] = {
    "none": {},
    "empty": {"X-API-Key": ""},
    "empty bearer": {"Authorization": "Bearer "},
    "wrong": {"Authorization": "Bearer wrong"},
    "short": {"X-API-Key": KEY[:-1]},
    "long": {"X-API-Key": KEY + "x"},
    "other letters": {"X-API-Key": "schlüssel\xff"},
    "the digest": {"X-API-Key": KEYS["one"][0]},
    "another scheme": {"Authorization": f"Basic {KEY}"},
    "a query instead": {"X-Original-Key": KEY},
}


@asynccontextmanager
async def guarded(
    monkeypatch: pytest.MonkeyPatch, *overrides: Provider, **variables: str
) -> AsyncIterator[tuple[Quart, Client]]:
    settings = settings_from(
        monkeypatch, **{"USE_MOCK_LLM": "true", "MOCK_ERROR_RATE": "0", "ENVIRONMENT": "production", **variables}
    )
    app = create_app(settings, *overrides)
    async with app.test_app() as running:
        yield app, running.test_client()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def ask(client: Client, method: str, path: str, headers: Mapping[str, str]) -> Response:
    response: Response = await getattr(client, method.lower())(path, headers=dict(headers))
    return response


def routes(app: Quart) -> list[tuple[str, str]]:
    """Every method and path there is, with a word for each variable part, and what is not there."""
    known = [
        (method, re.sub(r"<[^>]*>", "mock", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    ]
    return [
        *sorted(known),
        ("OPTIONS", COMPARISON),
        ("DELETE", PROVIDERS),
        ("GET", "/api/v1/routes-to-come"),
        ("GET", "/api/v2/comparison"),
        ("GET", "/api/v1/admin"),
        ("GET", "/api/v1//providers"),
        ("GET", "//api/v1/providers"),
        ("GET", "/healthz/../api/v1/providers"),
        ("GET", "/api/v1/ADMIN/cache/clear"),
        ("GET", "/elsewhere"),
    ]


def is_open(path: str) -> bool:
    """As declared here, apart from the code."""
    return path in {"/", "/healthz", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"}


def is_admin(path: str) -> bool:
    return path.startswith("/api/v1/admin/")


# --- Which routes need which key --------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
async def test_without_a_right_key_only_the_declared_routes_are_open(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with guarded(monkeypatch, **GUARDED) as (app, client):
        for method, path in routes(app):
            response = await ask(client, method, path, headers)
            if is_open(path):
                assert response.status_code == 200, path
                continue
            is_blocked = is_admin(path) and response.status_code == 429
            assert response.status_code == 401 or is_blocked, (method, path, response.status_code)
            assert response.headers.get("WWW-Authenticate") == (None if is_blocked else "Bearer")
            if method != "HEAD":
                error_type = "RATE_LIMIT" if is_blocked else "AUTHENTICATION_ERROR"
                await refusal(response, response.status_code, error_type)
        scraped = await (await client.get("/metrics")).get_data(as_text=True)
    assert 'llm_provider_caller_requests_total{caller="one",status="success"} 0.0' in scraped
    assert not private_words_in(scraped + "".join(capsys.readouterr()))


@pytest.mark.parametrize("key", [KEY, SECOND_KEY, OTHER_KEY])
async def test_a_caller_s_key_opens_everything_but_the_administration(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarded(monkeypatch, **GUARDED) as (app, client):
        for method, path in routes(app):
            response = await ask(client, method, path, bearer(key))
            refused = response.status_code in {401, 403, 429}
            assert refused == is_admin(path), (method, path, response.status_code)


async def test_the_administrator_s_key_reads_everything_tries_providers_and_buys_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with guarded(monkeypatch, **GUARDED) as (app, client):
        for method, path in routes(app):
            response = await ask(client, method, path, bearer(ADMIN_KEY))
            may = is_open(path) or is_admin(path) or path == TRIAL
            may = may or (path.lstrip("/").startswith("api/") and method in {"GET", "HEAD"})
            assert (response.status_code != 401) == may, (method, path, response.status_code)


async def test_without_keys_asked_for_everything_but_the_administration_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with guarded(monkeypatch, ADMIN_API_KEY=ADMIN_KEY) as (app, client):
        for method, path in routes(app):
            response = await ask(client, method, path, {})
            assert (response.status_code == 401) == is_admin(path), (method, path, response.status_code)


@pytest.mark.parametrize("headers", [bearer(KEY), {"X-API-Key": KEY}, {"Authorization": f"bEARER  {KEY} "}])
async def test_a_key_is_shown_in_either_header(headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async with guarded(monkeypatch, **GUARDED) as (_, client):
        assert (await client.get(PROVIDERS, headers=headers)).status_code == 200


def test_the_declared_open_paths_are_these_and_no_others() -> None:
    assert all(map(is_open, OPEN_PATHS))
    assert needs_no_caller(CLEAR)
    assert not any(map(needs_no_caller, ["", "/docs/", "/healthz/", "/api/v1/admin", "/api/v1/administration", "/x"]))


# --- The administrator's address --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "forwarded", "status"),
    [
        ("198.51.100.7", {}, 200),
        ("10.0.0.1", {"X-Forwarded-For": "198.51.100.7"}, 200),
        ("10.0.0.1", {"Forwarded": 'for="198.51.100.7:4711";proto=https'}, 200),
        ("203.0.113.9", {"X-Forwarded-For": "198.51.100.7"}, 403),
        ("10.0.0.1", {"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}, 403),
    ],
)
async def test_administrators_are_where_the_list_says_whatever_a_caller_claims(
    remote: str, forwarded: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {**GUARDED, "TRUSTED_PROXIES": "10.0.0.0/24", "ADMIN_ALLOWED_IPS": "198.51.100.0/24"}
    async with guarded(monkeypatch, **variables) as (_, client):
        sent, client_at = {**forwarded, **bearer(ADMIN_KEY)}, {"client": (remote, 4711)}
        response = await client.post(CLEAR, headers=sent, scope_base=client_at)
        assert response.status_code == status
        if status == 403:
            await refusal(response, 403, "AUTHENTICATION_ERROR")
            reading = await client.get(PROVIDERS, headers=sent, scope_base=client_at)
            await refusal(reading, 401, "AUTHENTICATION_ERROR")


async def test_behind_a_trusted_proxy_each_has_tries_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async with guarded(monkeypatch, **GUARDED, TRUSTED_PROXIES="10.0.0.1") as (_, client):

        async def clear(key: str, forwarded: str) -> Response:
            sent = {"X-Forwarded-For": forwarded, **bearer(key)}
            return await client.post(CLEAR, headers=sent, scope_base={"client": ("10.0.0.1", 4711)})

        for _ in range(MOST_FAILURES):
            await refusal(await clear("wrong", "203.0.113.9"), 401, "AUTHENTICATION_ERROR")
        await refusal(await clear(ADMIN_KEY, "198.51.100.7, 203.0.113.9"), 429, "RATE_LIMIT")
        assert (await clear(ADMIN_KEY, "203.0.113.10")).status_code == 200


# --- The caller's name ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "headers", "caller"), [(GUARDED, bearer(OTHER_KEY), "two"), ({}, bearer(OTHER_KEY), "anonymous")]
)
async def test_the_caller_stands_in_events_metrics_and_the_log(
    variables: dict[str, str],
    headers: dict[str, str],
    caller: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    heard = Recorder()
    async with guarded(monkeypatch, in_place_of(LLMEventPublisherProtocol, heard), **variables) as (_, client):
        answer = await client.post(COMPARISON, data=question(), headers=headers)
        assert answer.status_code == 200
        assert (await client.post(COMPARISON, data=b"{", headers=headers)).status_code == 400
        scraped = await (await client.get("/metrics")).get_data(as_text=True)
    (started,), (completed,), (bought,) = heard.of(RequestStarted), heard.of(RequestCompleted), heard.of(CostTracked)
    assert {started.caller, completed.caller, bought.caller} == {caller}
    used = bought.token_usage
    for series, value in {
        f'requests_total{{caller="{caller}",status="success"}}': 1,
        f'requests_total{{caller="{caller}",status="refused"}}': 1,
        f'tokens_used_total{{caller="{caller}",token_type="prompt"}}': used.prompt_tokens,
        f'tokens_used_total{{caller="{caller}",token_type="completion"}}': used.completion_tokens,
        f'cost_dollars_total{{caller="{caller}"}}': 0,
    }.items():
        assert f"llm_provider_caller_{series} {float(value)}" in scraped
    written = "".join(capsys.readouterr())
    lines = [orjson.loads(line) for line in written.splitlines()]
    assert [line["caller"] for line in lines if line.get("route") == COMPARISON] == [caller, caller]
    assert not private_words_in(scraped + written)


async def test_the_administrator_stands_in_the_metrics_and_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with guarded(monkeypatch, **GUARDED) as (_, client):
        assert (await client.post(CLEAR, headers=bearer(ADMIN_KEY))).status_code == 200
        scraped = await (await client.get("/metrics")).get_data(as_text=True)
    assert 'llm_provider_caller_requests_total{caller="admin",status="success"} 1.0' in scraped
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["caller"] for line in lines if line.get("route") == CLEAR] == ["admin"]


async def test_what_one_caller_bought_answers_another_s_same_question(monkeypatch: pytest.MonkeyPatch) -> None:
    async with guarded(monkeypatch, **GUARDED) as (_, client):
        caches = [
            (await client.post(COMPARISON, data=question(), headers=bearer(key))).headers["X-Cache"]
            for key in (KEY, OTHER_KEY)
        ]
    assert caches == ["MISS", "HIT"]


async def test_a_paid_test_is_booked_on_the_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Recorder()
    async with guarded(monkeypatch, in_place_of(LLMEventPublisherProtocol, heard), **GUARDED) as (_, client):
        response = await client.post(f"{TRIAL}?deep=true", headers=bearer(ADMIN_KEY))
        told, told_in_header = await content(response), response.headers["X-Correlation-ID"]
        scraped = await (await client.get("/metrics")).get_data(as_text=True)
    assert told["success"] is True
    (bought,) = heard.of(CostTracked)
    assert bought.caller == "admin"
    assert str(bought.correlation_id) == told_in_header
    tokens = float(bought.token_usage.prompt_tokens)
    assert tokens > 0
    assert f'llm_provider_caller_tokens_used_total{{caller="admin",token_type="prompt"}} {tokens}' in scraped


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, ["callers_not_authenticated"]),
        ({"ADMIN_API_KEY": ADMIN_KEY}, ["callers_not_authenticated", "admin_from_everywhere"]),
        (GUARDED, ["admin_from_everywhere"]),
        ({**GUARDED, "ADMIN_ALLOWED_IPS": "10.0.0.0/8"}, []),
    ],
)
async def test_a_start_in_production_warns_of_open_doors(
    variables: dict[str, str], told: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with guarded(monkeypatch, **variables):
        pass
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    doors = {"callers_not_authenticated", "admin_from_everywhere"}
    warned = [line["event"] for line in lines if line["event"] in doors and line["level"] == "warning"]
    assert warned == told


async def test_a_start_elsewhere_warns_of_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with guarded(monkeypatch, ENVIRONMENT="staging", ADMIN_API_KEY=ADMIN_KEY):
        pass
    assert "callers_not_authenticated" not in capsys.readouterr().out


async def test_a_start_anywhere_warns_of_keys_that_no_caller_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with guarded(monkeypatch, ENVIRONMENT="staging", CALLER_API_KEYS=GUARDED["CALLER_API_KEYS"]):
        pass
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ("callers_not_authenticated", "warning") in {(line["event"], line["level"]) for line in lines}


def private_words_in(text: str) -> list[str]:
    """Parts of keys and digests."""
    return [word for word in (CANARY, *(digest for listed in KEYS.values() for digest in listed)) if word in text]


# --- On real sockets --------------------------------------------------------------------------------------------------


def test_a_refusal_comes_before_the_body_and_the_connection_serves_on(tmp_path: Path) -> None:
    with service(tmp_path, mocked(**GUARDED)) as running, running.connected() as plain:
        head = f"POST {COMPARISON} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        plain.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode())
        assert received(plain).status == 401
        plain.sendall(b"x" * 1_000_000)
        body = question()
        plain.sendall(f"{head}X-API-Key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        assert received(plain).status == 200


def test_nobody_on_this_machine_is_believed_unless_it_is_trusted(tmp_path: Path) -> None:
    forged = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https", "Remote-Addr": "198.51.100.7"}
    variables = {**mocked(**GUARDED, ADMIN_ALLOWED_IPS="198.51.100.7"), "FORWARDED_ALLOW_IPS": "*"}
    with service(tmp_path, variables) as running:
        assert running.ask(CLEAR, method="POST", headers={**forged, **bearer(ADMIN_KEY)}).status == 403
    with service(tmp_path, {**variables, **prefixed(TRUSTED_PROXIES="127.0.0.1")}) as running:
        assert running.ask(CLEAR, method="POST", headers={**forged, **bearer(ADMIN_KEY)}).status == 200
        behind = {**bearer(ADMIN_KEY), "Remote-Addr": "198.51.100.7"}
        assert running.ask(CLEAR, method="POST", headers=behind).status == 403


def test_a_trailer_is_not_the_header_of_a_trusted_proxy(tmp_path: Path) -> None:
    variables = mocked(**GUARDED, ADMIN_ALLOWED_IPS="198.51.100.7", TRUSTED_PROXIES="127.0.0.1")
    head = f"POST {CLEAR} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
    for proxied, status in (("203.0.113.9", 403), ("198.51.100.7", 200)):
        with service(tmp_path, variables) as running, running.connected() as plain:
            plain.sendall(
                f"{head}X-Forwarded-For: {proxied}\r\n\r\n0\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n".encode()
            )
            assert received(plain).status == status


def test_keys_change_without_a_restart_and_none_is_written_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(orjson.dumps({"one": KEYS["one"]}))
    variables = mocked(AUTH_MODE="api_key", CALLER_API_KEYS_FILE=str(file), ENVIRONMENT="production")
    with service(tmp_path, variables) as running:

        def status(key: str) -> int:
            return running.compare(headers=bearer(key)).status

        assert [status(KEY), status(OTHER_KEY)] == [200, 401]
        file.write_bytes(b"not JSON")
        wait_until(lambda: "caller_keys_refused" in running.written())
        assert status(KEY) == 200
        file.write_bytes(orjson.dumps({"one": [KEYS["one"][1]], "two": KEYS["two"]}))
        wait_until(lambda: status(OTHER_KEY) == 200)
        assert [status(KEY), status(SECOND_KEY)] == [401, 200]
        scraped = running.ask("/metrics").text
        health = running.ask("/healthz").json()
        written = running.written()
    assert 'llm_provider_caller_key_reloads_total{result="taken"} 1.0' in scraped
    assert 'llm_provider_background_task_up{task="caller_keys"} 1.0' in scraped
    assert health["warnings"] == ["the mock judges: no verdict is real"]
    assert not private_words_in(scraped + written)


def test_a_key_of_other_letters_opens_as_it_is_sent(tmp_path: Path) -> None:
    key = "schlüssel-中文-of-24-characters"
    with service(tmp_path, mocked(ADMIN_API_KEY=key)) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        connection.request("POST", CLEAR, headers={"X-API-Key": key.encode()})
        opened: Any = connection.getresponse()
        opened.read()
        connection.close()
        assert opened.status == 200
        with socket.create_connection(("127.0.0.1", running.port), timeout=30) as plain:
            plain.sendall(f"POST {CLEAR} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: ".encode() + b"\xff\xfe\r\n\r\n")
            assert received(plain).status == 401
