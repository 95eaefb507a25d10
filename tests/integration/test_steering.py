"""Replicas as processes beside a real Redis: what one is told the others follow, whatever happens to Redis."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.integration.redis_server import PASSWORD, RedisServer
from tests.integration.service_process import Answer, ServiceProcess, mocked, service, wait_until

ADMIN_KEY = "kanarienvogel-of-the-administrator"
SETTINGS, CIRCUITS = "/settings", "/circuits/openai"
EVENTS = "llm_provider_events_total"
TOLD = f'{EVENTS}{{event_type="llm_provider.admin.changed"}}'


def variables(locked_server: RedisServer) -> dict[str, str]:
    return mocked(ENVIRONMENT="production", REDIS_URL=locked_server.url, ADMIN_API_KEY=ADMIN_KEY)


def act(running: ServiceProcess, method: str, path: str, body: object = None, **headers: str) -> Answer:
    return running.ask(
        f"/api/v1/admin{path}",
        method=method,
        body=None if body is None else orjson.dumps(body),
        headers={"X-API-Key": ADMIN_KEY, **headers},
    )


def done(running: ServiceProcess, method: str, path: str, body: object = None) -> Any:
    answer = act(running, method, path, body)
    assert answer.status == 200, answer.text
    return answer.json()


def strategy(running: ServiceProcess) -> str:
    """The one in force; asking for it looks up nothing in Redis, so that only the background task can bring it."""
    found: str = running.ask("/api/v1/providers").json()["selection_strategy"]
    return found


def circuit(running: ServiceProcess) -> tuple[str, str | None]:
    (found,) = (one for one in done(running, "GET", "/circuits")["circuits"] if one["provider"] == "openai")
    return found["circuit_breaker_state"], found["reason"]


def overrides(running: ServiceProcess) -> dict[str, Any]:
    settings = done(running, "GET", SETTINGS)["settings"]
    return {one["name"]: one["value"] for one in settings if one["source"] == "operator"}


def scope(running: ServiceProcess) -> str:
    found: str = done(running, "GET", SETTINGS)["scope"]
    return found


def told(running: ServiceProcess) -> tuple[int, int]:
    """How often it told that an administrator changed something: as event, as line."""
    scrape = running.ask("/metrics").text.splitlines()
    (counted,) = (line for line in scrape if line.startswith(TOLD))
    return round(float(counted.split()[-1])), sum(line["event"] == "admin_changed" for line in running.lines())


def test_a_change_reaches_the_other_replica_survives_restarts_and_is_told_once(
    tmp_path: Path, locked_server: RedisServer
) -> None:
    with service(tmp_path, variables(locked_server)) as there:
        with service(tmp_path, variables(locked_server)) as here:
            report = done(here, "PATCH", SETTINGS, {"provider_selection_strategy": "random"})
            assert (report["version"], report["scope"]) == (1, "fleet")
            wait_until(lambda: strategy(there) == "random")
            done(here, "PUT", CIRCUITS, {"state": "open", "reason": "they bill twice", "for_s": 600})
            wait_until(lambda: circuit(there) == ("open", "they bill twice"))
            wait_until(lambda: (told(here), told(there)) == ((2, 2), (0, 0)))
        with service(tmp_path, variables(locked_server)) as again:
            assert strategy(again) == "random"
            assert circuit(again) == ("open", "they bill twice")
            assert act(there, "PATCH", SETTINGS, {"llm_cache_ttl": 60}, **{"If-Match": '"0"'}).status == 412
            assert done(again, "DELETE", SETTINGS)["version"] == 2
            done(again, "DELETE", CIRCUITS)
            wait_until(lambda: strategy(there) == "priority")
            wait_until(lambda: circuit(there) == ("closed", None))
            wait_until(lambda: (told(again), told(there)) == ((2, 2), (0, 0)))
            everything = again.written() + there.written() + here.written()
            shown = act(again, "GET", SETTINGS).text + act(again, "GET", "/changes").text
    assert PASSWORD not in everything + shown
    assert ADMIN_KEY not in everything + shown


def test_whoever_asks_for_the_circuits_is_told_what_another_replica_was_told_just_now(
    tmp_path: Path, locked_server: RedisServer
) -> None:
    with service(tmp_path, variables(locked_server)) as here, service(tmp_path, variables(locked_server)) as there:
        for reason in ("first", "second", "third"):
            done(here, "PUT", CIRCUITS, {"state": "open", "reason": reason})
            listed = done(there, "GET", "/circuits")["circuits"]
            assert [one["reason"] for one in listed if one["provider"] == "openai"] == [reason]


def test_a_redis_that_dies_and_returns_with_nothing_costs_no_change(tmp_path: Path, locked_server: RedisServer) -> None:
    with service(tmp_path, variables(locked_server)) as here, service(tmp_path, variables(locked_server)) as there:
        done(here, "PATCH", SETTINGS, {"provider_selection_strategy": "random"})
        done(here, "PUT", CIRCUITS, {"state": "open", "reason": "they bill twice"})
        wait_until(lambda: strategy(there) == "random")
        wait_until(lambda: circuit(there)[0] == "open")
        locked_server.kill()
        wait_until(lambda: scope(there) == scope(here) == "replica")
        assert strategy(there) == strategy(here) == "random"
        assert circuit(there) == circuit(here) == ("open", "they bill twice")
        report = done(here, "PATCH", SETTINGS, {"llm_cache_ttl": 60})
        assert (report["version"], report["scope"]) == (2, "replica")
        assert overrides(there) == {"provider_selection_strategy": "random"}
        locked_server.start()
        both = {"provider_selection_strategy": "random", "llm_cache_ttl": 60}
        wait_until(lambda: overrides(there) == both)
        wait_until(lambda: scope(there) == scope(here) == "fleet")
        wait_until(lambda: told(here) == (3, 3))
    with service(tmp_path, variables(locked_server)) as again:
        assert overrides(again) == both
        assert circuit(again) == ("open", "they bill twice")


def test_administrators_of_two_replicas_at_once_lose_no_change(tmp_path: Path, locked_server: RedisServer) -> None:
    changes = {
        "llm_cache_ttl": 61.0,
        "cost_limit_usd_per_day": 5.0,
        "cost_limit_usd_per_month": 50.0,
        "log_level": "WARNING",
        "openai_enabled": False,
        "google_enabled": False,
        "llm_default_max_tokens": 1000,
        "provider_selection_strategy": "round-robin",
    }
    with (
        service(tmp_path, variables(locked_server)) as here,
        service(tmp_path, variables(locked_server)) as there,
        ThreadPoolExecutor(max_workers=len(changes)) as crowd,
    ):
        asked = {
            name: crowd.submit(act, (here, there)[number % 2], "PATCH", SETTINGS, {name: value})
            for number, (name, value) in enumerate(changes.items())
        }
        status = {name: answer.result().status for name, answer in asked.items()}
        wanted = {name: value for name, value in changes.items() if status[name] == 200}
        assert set(status.values()) <= {200, 503}
        assert overrides(here) == overrides(there) == wanted
        assert done(here, "GET", SETTINGS)["version"] == len(wanted) >= 4


@pytest.mark.parametrize(
    "command",
    [("SET", "garbage"), ("LPUSH", "garbage"), ("SET", '{"version": 5, "values": {"llm_cache_ttl": -1, "x": {}}}')],
    ids=["no JSON", "another type", "another version's"],
)
def test_what_stands_in_redis_and_does_not_fit_stops_nothing(
    command: tuple[str, str], tmp_path: Path, locked_server: RedisServer
) -> None:
    verb, text = command
    for key in ("settings", "circuits"):
        locked_server.ask(verb, f"llm_cache:operator:{key}", text)
    with service(tmp_path, variables(locked_server)) as running:
        assert running.compare().status == 200
        assert overrides(running) == {}
        scrape = running.ask("/metrics").text
        assert 'llm_provider_config_reload_errors_total{source="stored"} 0.0' not in scrape
        assert "llm_provider_redis_mode 0.0" in scrape
        done(running, "PATCH", SETTINGS, {"llm_cache_ttl": 60})
        done(running, "PUT", CIRCUITS, {"state": "open", "reason": "they bill twice"})
    with service(tmp_path, variables(locked_server)) as again:
        assert overrides(again) == {"llm_cache_ttl": 60}
        assert circuit(again)[0] == "open"


def test_alerts_that_are_reset_are_forgotten_by_redis(tmp_path: Path, locked_server: RedisServer) -> None:
    with service(tmp_path, variables(locked_server)) as running:
        assert done(running, "POST", "/alerts/reset") == {"reset": True, "everywhere": True, "forgotten": 0}
        locked_server.kill()
        wait_until(lambda: not done(running, "POST", "/alerts/reset")["everywhere"])
