"""The service as a process beside a real Redis: what callers and operators see while that dies, hangs and returns."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from implementations.shared_state.envelope import SCHEMA
from tests.integration.redis_server import PASSWORD, RedisServer
from tests.integration.service_process import ServiceProcess, mocked, service, silent, wait_until

ADMIN_KEY = "kanarienvogel-of-the-administrator"
HEALTHY = {"cache_mode": "healthy", "local_cache_available": True, "redis_available": True}


def beside(url: str, **settings: str) -> dict[str, str]:
    return mocked(ENVIRONMENT="production", REDIS_URL=url, ADMIN_API_KEY=ADMIN_KEY, **settings)


def mode(running: ServiceProcess) -> str:
    """As /healthz tells; it never says that the process should be restarted."""
    answer = running.ask("/healthz")
    assert answer.status == 200
    told = answer.json()
    found: str = told["dependencies"]["cache"]["cache_mode"]
    assert told["status"] == ("healthy" if found == "healthy" else "degraded")
    assert any("cache_" in warning for warning in told["warnings"]) is (found != "healthy")
    return found


def outcome(running: ServiceProcess, essay: str = "An essay.", **headers: str) -> str:
    """Ask for a verdict and say where it came from; nothing but a verdict will do."""
    answer = running.compare(essay_b=essay, headers=headers)
    assert answer.status == 200
    return answer.headers["x-cache"]


def changes(running: ServiceProcess) -> list[tuple[str, str]]:
    return [(line["before"], line["after"]) for line in running.lines() if line["event"] == "redis_mode_changed"]


@pytest.mark.parametrize("trouble", ["refused", "silent", "no such name", "wrong password", "no Sentinel", "no node"])
def test_the_service_starts_and_judges_whatever_is_wrong_with_redis(
    trouble: str, tmp_path: Path, locked_server: RedisServer
) -> None:
    with ExitStack() as stack:
        url = {
            "refused": f"redis://:{PASSWORD}@127.0.0.1:9/0",
            "silent": f"redis://:{PASSWORD}@{stack.enter_context(silent())}/0",
            "no such name": f"redis://:{PASSWORD}@redis.invalid:6379/0",
            "no Sentinel": f"redis+sentinel://:{PASSWORD}@127.0.0.1:9/essays/0",
            "no node": f"redis+cluster://:{PASSWORD}@127.0.0.1:{locked_server.port}",
            "wrong password": locked_server.url.replace(PASSWORD, f"{PASSWORD}-of-yesterday"),
        }[trouble]
        running = stack.enter_context(service(tmp_path, beside(url)))
        assert outcome(running) == "MISS"
        assert outcome(running) == "HIT"
        wait_until(lambda: mode(running) == "degraded")
        assert running.ask("/readyz").status == 200
        assert outcome(running) == "HIT"
        running.terminate()
        assert running.exit_code() == 0
    assert changes(running) == [("up", "down")]
    assert PASSWORD not in running.written()


def test_a_redis_that_dies_under_load_costs_no_answer_and_is_used_again_without_any_traffic(
    tmp_path: Path, locked_server: RedisServer
) -> None:
    with service(tmp_path, beside(locked_server.url, NEAR_CACHE_TTL_SECONDS="0")) as running:
        assert outcome(running, "known") == "MISS"
        assert outcome(running, "known") == "HIT"
        assert mode(running) == "healthy"
        locked_server.kill()
        for number in range(30):
            assert outcome(running, "known") == "HIT"
            assert outcome(running, f"essay {number}") == "MISS"
        assert mode(running) == "degraded"
        wait_until(lambda: changes(running) == [("up", "down")])
        locked_server.start()
        wait_until(lambda: mode(running) == "healthy")
        wait_until(lambda: changes(running) == [("up", "down"), ("down", "up")])
        assert outcome(running, "known") == "HIT"
        wait_until(lambda: any(f"llm_cache:{SCHEMA}:0:" in key for key in locked_server.all_keys()))
        metrics = running.ask("/metrics").text
    assert "llm_provider_redis_mode 0.0" in metrics
    assert 'llm_provider_redis_transitions_total{mode="down"} 1.0' in metrics
    assert 'llm_provider_redis_transitions_total{mode="up"} 1.0' in metrics
    assert PASSWORD not in running.written() + metrics


def test_a_frozen_redis_costs_no_answer_and_is_used_again_when_it_goes_on(
    tmp_path: Path, locked_server: RedisServer
) -> None:
    with service(tmp_path, beside(locked_server.url, NEAR_CACHE_TTL_SECONDS="0")) as running:
        assert outcome(running, "known") == "MISS"
        locked_server.freeze()
        for _ in range(10):
            assert outcome(running, "known") == "HIT"
        assert mode(running) == "degraded"
        locked_server.thaw()
        wait_until(lambda: mode(running) == "healthy")
        wait_until(lambda: changes(running) == [("up", "down"), ("down", "up")])


def test_a_redis_that_takes_no_writes_is_shown_as_read_only(tmp_path: Path, locked_server: RedisServer) -> None:
    with service(tmp_path, beside(locked_server.url, NEAR_CACHE_TTL_SECONDS="0")) as running:
        assert outcome(running, "known") == "MISS"
        wait_until(lambda: any(f"llm_cache:{SCHEMA}:0:" in key for key in locked_server.all_keys()))
        locked_server.ask("CONFIG", "SET", "maxmemory", "1")
        wait_until(lambda: mode(running) == "read_only")
        assert running.ask("/healthz").json()["dependencies"]["redis"] == "healthy"
        assert outcome(running, "known") == "HIT"
        assert outcome(running, "new") == "MISS"
        assert outcome(running, "new") == "HIT"
        locked_server.ask("CONFIG", "SET", "maxmemory", "0")
        wait_until(lambda: mode(running) == "healthy")
        wait_until(lambda: changes(running) == [("up", "read_only"), ("read_only", "up")])


def test_two_replicas_pay_once_and_one_clearing_is_for_both(tmp_path: Path, locked_server: RedisServer) -> None:
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    with service(tmp_path, beside(locked_server.url)) as here, service(tmp_path, beside(locked_server.url)) as there:
        assert outcome(here) == "MISS"
        wait_until(lambda: any(f"llm_cache:{SCHEMA}:0:" in key for key in locked_server.all_keys()))
        bought_elsewhere = there.compare(essay_b="An essay.")
        assert bought_elsewhere.headers["x-cache"] == "HIT"
        assert int(bought_elsewhere.headers["age"]) <= 30
        assert bought_elsewhere.json()["cost_estimate"] == 0.0
        cleared = here.ask("/api/v1/admin/cache/clear", method="POST", headers=admin).json()
        assert (cleared["cleared"], cleared["everywhere"]) == (True, True)
        only_cached = {"Cache-Control": "only-if-cached"}
        assert here.compare(essay_b="An essay.", headers=only_cached).status == 504
        wait_until(lambda: there.compare(essay_b="An essay.", headers=only_cached).status == 504)
        assert outcome(there) == "MISS"
        wait_until(lambda: here.compare(essay_b="An essay.", headers=only_cached).status == 200)
        told = here.ask("/api/v1/cache/stats").json()
    assert (told["cache_mode"], told["generation"]) == ("healthy", cleared["generation"])
    assert told["redis"]["hits"] >= 1
    assert ADMIN_KEY not in here.written() + there.written()


def test_answers_are_erased_by_a_clearing_and_the_deletion_of_their_keys(
    tmp_path: Path, locked_server: RedisServer
) -> None:
    """Also from a replica that nobody asks anything; and none writes an answer back."""

    def keys() -> list[str]:
        return [key for key in locked_server.all_keys() if key.startswith(f"llm_cache:{SCHEMA}:")]

    def held(running: ServiceProcess) -> int:
        return int(running.ask("/api/v1/cache/stats").json()["local"]["entries"])

    with service(tmp_path, beside(locked_server.url)) as here, service(tmp_path, beside(locked_server.url)) as idle:
        assert outcome(here) == "MISS"
        wait_until(lambda: len(keys()) == 1)
        assert outcome(idle) == "HIT"
        assert (held(here), held(idle)) == (1, 1)
        here.ask("/api/v1/admin/cache/clear", method="POST", headers={"Authorization": f"Bearer {ADMIN_KEY}"})
        for key in keys():
            locked_server.ask("DEL", key)
        wait_until(lambda: (held(here), held(idle)) == (0, 0))
    assert keys() == []


def test_whatever_is_shared_is_under_the_prefix(tmp_path: Path, locked_server: RedisServer) -> None:
    """So that another service on the same Redis finds neither answers nor changes of this one."""
    variables = beside(locked_server.url, CACHE_KEY_PREFIX="another", COST_LIMIT_USD_PER_DAY="1")
    with service(tmp_path, variables) as running:
        assert outcome(running) == "MISS"
        for path, method, body in (
            ("settings", "PATCH", b'{"llm_cache_ttl": 60}'),
            ("circuits/openai", "PUT", b'{"state": "open", "reason": "a test"}'),
            ("cache/clear", "POST", None),
        ):
            headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}
            assert running.ask(f"/api/v1/admin/{path}", method=method, body=body, headers=headers).status == 200
        wait_until(lambda: any(f":{SCHEMA}:" in key for key in locked_server.all_keys()))
        keys = locked_server.all_keys()
    assert [key for key in keys if not key.startswith("another:")] == []


def test_all_is_well_is_said_in_the_words_that_callers_look_for(tmp_path: Path, locked_server: RedisServer) -> None:
    with service(tmp_path, beside(locked_server.url)) as running:
        told = running.ask("/healthz").json()
    assert (told["status"], told["dependencies"]["redis"]) == ("healthy", "healthy")
    cache = told["dependencies"]["cache"]
    slow_answers = cache["redis_failure_count"]  # on a busy machine there are some at the start
    assert cache == {**HEALTHY, "redis_failure_count": slow_answers}


def test_a_clearing_while_redis_is_down_reaches_a_replica_that_knows_of_more_clearings(
    tmp_path: Path, locked_server: RedisServer
) -> None:
    def clear(running: ServiceProcess) -> bool:
        admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
        told = running.ask("/api/v1/admin/cache/clear", method="POST", headers=admin).json()
        return bool(told["everywhere"])

    with service(tmp_path, beside(locked_server.url)) as here:
        assert clear(here)
        assert outcome(here, "known") == "MISS"
        locked_server.kill()
        wait_until(lambda: mode(here) == "degraded")
        with service(tmp_path, beside(locked_server.url)) as there:
            assert not clear(there)
            locked_server.start()
            wait_until(lambda: {mode(here), mode(there)} == {"healthy"})
            assert outcome(here, "known") == "MISS"


def test_a_budget_that_somebody_else_wrote_is_told_and_restored_when_it_is_deleted(
    tmp_path: Path, server: RedisServer
) -> None:
    with service(tmp_path, beside(server.url, COST_LIMIT_USD_PER_DAY="5")) as running:
        wait_until(lambda: budgets(server) != [] and "budget_local" not in running.ask("/healthz").text)
        written = budgets(server)
        for key in written:
            server.ask("SET", key, "another's")
        wait_until(lambda: "budget_local" in running.ask("/healthz").text)
        assert re.search(r'redis_failures_total\{fault="wrong_type"\} [1-9]', running.ask("/metrics").text)
        assert mode(running) == "healthy"
        server.ask("UNLINK", *written)
        wait_until(lambda: "budget_local" not in running.ask("/healthz").text)
        assert budgets(server) == written


def budgets(server: RedisServer) -> list[str]:
    return [key for key in server.all_keys() if ":budget:" in key]
