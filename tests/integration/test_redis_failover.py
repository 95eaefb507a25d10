"""The service beside a Redis of several servers: what callers see while its primary dies or moves."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from tests.integration.redis_fleet import SENTINEL_PASSWORD, Fleet, clustered, watched
from tests.integration.redis_server import PASSWORD
from tests.integration.service_process import ServiceProcess, mocked, service, wait_until

Fleets = Callable[[Path], AbstractContextManager[Fleet]]

of_both_kinds = pytest.mark.parametrize("fleet_of", [watched, clustered], ids=["Sentinel", "Cluster"])


def beside(fleet: Fleet) -> dict[str, str]:
    return mocked(
        ENVIRONMENT="production",
        REDIS_URL=fleet.url,
        REDIS_SENTINEL_PASSWORD=SENTINEL_PASSWORD,
        NEAR_CACHE_TTL_SECONDS="0",
        COST_LIMIT_USD_PER_DAY="10",
    )


def outcome(running: ServiceProcess, essay: str) -> str:
    """Where the verdict came from; nothing but a verdict will do."""
    answer = running.compare(essay_b=essay)
    assert answer.status == 200
    return answer.headers["x-cache"]


def mode(running: ServiceProcess) -> str:
    found: str = running.ask("/healthz").json()["dependencies"]["cache"]["cache_mode"]
    return found


def modes(running: ServiceProcess) -> list[str]:
    return [line["after"] for line in running.lines() if line["event"] == "redis_mode_changed"]


def primaries(running: ServiceProcess) -> list[int]:
    """The ports of those that were used, in order; one may be found again, after a moment in which nobody answered."""
    found = (line["port"] for line in running.lines() if line["event"] == "redis_primary")
    return [port for port, _ in groupby(found)]


@of_both_kinds
def test_a_primary_that_dies_costs_no_answer_and_the_replica_that_takes_its_place_is_used(
    fleet_of: Fleets, tmp_path: Path
) -> None:
    with fleet_of(tmp_path) as fleet, service(tmp_path, beside(fleet)) as running:
        assert outcome(running, "known") == "MISS"
        wait_until(lambda: any(":usage:" in key for key in fleet.replica.all_keys()))
        fleet.primary.kill()
        wait_until(lambda: outcome(running, "known") == "HIT" and mode(running) == "degraded")
        wait_until(lambda: outcome(running, "known") == "HIT" and mode(running) == "healthy")
        assert modes(running)[0] == "down"
        assert primaries(running) == [fleet.primary.port, fleet.replica.port]
        with service(tmp_path, beside(fleet)) as another:
            assert outcome(another, "known") == "HIT"
            assert primaries(another) == [fleet.replica.port]
        known = set(fleet.replica.all_keys())
        assert outcome(running, "new") == "MISS"
        wait_until(lambda: bool(set(fleet.replica.all_keys()) - known))
        assert not any(password in running.written() for password in (PASSWORD, SENTINEL_PASSWORD))


@of_both_kinds
def test_a_primary_that_hands_over_costs_no_answer(fleet_of: Fleets, tmp_path: Path) -> None:
    with fleet_of(tmp_path) as fleet, service(tmp_path, beside(fleet)) as running:
        assert outcome(running, "known") == "MISS"
        if fleet_of is watched:
            wait_until(lambda: fleet.others[0].ask("SENTINEL", "FAILOVER", "essays") == b"+OK\r\n")
        else:
            fleet.replica.ask("CLUSTER", "FAILOVER")
        wait_until(fleet.replica.is_primary)
        wait_until(
            lambda: (
                outcome(running, "known") == "HIT"
                and primaries(running)[-1] == fleet.replica.port
                and mode(running) == "healthy"
            )
        )
        assert outcome(running, "new") == "MISS"


def test_a_sentinel_that_is_dead_and_one_that_hangs_hide_no_primary(tmp_path: Path) -> None:
    with watched(tmp_path) as fleet:
        fleet.others[0].kill()
        fleet.others[1].freeze()
        with service(tmp_path, beside(fleet)) as running:
            assert outcome(running, "known") == "MISS"
            wait_until(lambda: mode(running) == "healthy")
            assert primaries(running) == [fleet.primary.port]
            assert all(
                f'redis_witnesses_failing{{fault="{fault}"}} 1.0' in running.ask("/metrics").text
                for fault in ("connection", "timeout")
            )


def granted(first: str) -> list[str]:
    """The commands that the guide names in one place, from this one on."""
    guide = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    return (first + guide.partition(first)[2]).splitlines()[0].partition("`")[0].split()


@of_both_kinds
def test_the_commands_that_the_guide_names_tell_who_the_primary_is(fleet_of: Fleets, tmp_path: Path) -> None:
    with fleet_of(tmp_path) as fleet:
        if fleet_of is watched:
            grants = granted("+sentinel|")
            for sentinel in fleet.others:
                assert sentinel.ask("ACL", "SETUSER", "default", "nocommands", *grants) == b"+OK\r\n"
            settings = beside(fleet)
        else:
            grants = granted("+getrange") + granted("+cluster|")
            user = "judge", "on", f">{PASSWORD}", "~{llm_cache}:*", "resetchannels", *grants
            for node in (fleet.primary, fleet.replica, *fleet.others):
                assert node.ask("ACL", "SETUSER", *user) == b"+OK\r\n"
            settings = beside(replace(fleet, url=fleet.url.replace("://", f"://judge:{PASSWORD}@")))
        with service(tmp_path, settings) as running:
            assert outcome(running, "known") == "MISS"
            wait_until(lambda: any(":usage:" in key for key in fleet.primary.all_keys()))
            assert primaries(running) == [fleet.primary.port]
            assert 'fault="denied"} 0.0' in running.ask("/metrics").text
            assert mode(running) == "healthy"


def test_sentinels_that_leave_take_no_redis_with_them(tmp_path: Path) -> None:
    with watched(tmp_path) as fleet, service(tmp_path, beside(fleet)) as running:
        assert outcome(running, "known") == "MISS"
        for sentinel in fleet.others:
            sentinel.kill()
        wait_until(lambda: "redis_primary_unconfirmed" in [line["event"] for line in running.lines()])
        assert outcome(running, "known") == "HIT"
        assert mode(running) == "healthy"
        fleet.others[0].start()
        wait_until(lambda: [line["event"] for line in running.lines()][-1] == "redis_primary")
        assert primaries(running) == [fleet.primary.port]
