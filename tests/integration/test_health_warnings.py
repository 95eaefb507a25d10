"""What /healthz warns of, and what it makes of it."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import orjson
import pytest

from api import health_warnings
from api_models import CacheMode, CircuitState, DegradedMode, DependencyStatus, ProviderName
from config import Settings
from implementations.accounting.ledger import Ledger
from protocols import BackgroundProtocol, CacheHealth, EventHealth, ProbeFinding, ProviderFindings
from startup_setup import create_app
from tests.fakes import NOON, provider_status
from tests.in_place_of import in_place_of
from tests.integration.service_process import PREFIX

REFUSED = ProbeFinding(at=NOON, success=False, message="The provider refused our key.")


@dataclass
class Tasks:
    """The service's own; those that are down died."""

    down: frozenset[str]


async def health(monkeypatch: pytest.MonkeyPatch, *down: str) -> tuple[int, dict[str, Any]]:
    """Of a service whose look-up of OpenAI failed, and some of whose tasks are down."""
    monkeypatch.setenv(f"{PREFIX}OPENAI_API_KEY", "k")
    findings = in_place_of(ProviderFindings, {ProviderName.OPENAI: REFUSED})
    tasks = in_place_of(BackgroundProtocol, Tasks(frozenset(down)))
    async with create_app(Settings.from_environment(), findings, tasks).test_app() as app:
        answer = await app.test_client().get("/healthz")
        return answer.status_code, orjson.loads(await answer.get_data())


async def test_a_failed_look_up_is_told_and_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    status, body = await health(monkeypatch)
    assert (status, body["status"]) == (200, "healthy")
    assert body["warnings"] == ["openai: the last look-up failed: The provider refused our key."]


def test_a_circuit_whose_time_is_over_says_that_it_will_be_tried() -> None:
    waiting = provider_status(circuit_state=CircuitState.OPEN)
    (warning,) = health_warnings.provider_warnings([waiting], ranked={waiting.name}, mock=False, draining=False)
    assert warning == "provider_open: a provider is not asked at the moment (anthropic: the next call tries it again)"


async def test_a_day_that_is_ahead_of_the_clock_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "today", date(9999, 1, 1))
    status, body = await health(monkeypatch)
    assert (status, body["status"]) == (200, "healthy")
    assert body["warnings"][1:] == ["the accounting day has not begun yet: 9999-01-01"]


async def test_a_default_model_that_its_vendor_retires_is_told_with_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}OPENAI_DEFAULT_MODEL", "gpt-5-mini")
    status, body = await health(monkeypatch)
    assert (status, body["status"]) == (200, "healthy")
    assert body["warnings"][1:] == ["openai: the vendor retires its default model: gpt-5-mini on 2026-12-11"]


@pytest.mark.parametrize(
    ("kafka", "buffering", "warnings"),
    [
        (DependencyStatus.HEALTHY, None, []),
        (DependencyStatus.DISABLED, None, []),
        (DependencyStatus.UNHEALTHY, None, ["Kafka does not answer, but no event waits for it"]),
        (DependencyStatus.UNHEALTHY, "auth", ["events_buffering: events wait in this process (auth)"]),
    ],
)
def test_a_kafka_that_does_not_answer_is_told(
    kafka: DependencyStatus, buffering: str | None, warnings: list[str]
) -> None:
    cache = CacheHealth(mode=CacheMode.HEALTHY, redis=DependencyStatus.DISABLED, redis_failure_count=0)
    events = EventHealth(kafka=kafka, buffering=buffering)
    assert list(health_warnings.mode_warnings(cache, events, budget_is_local=False)) == warnings


def test_every_degraded_mode_is_told_with_its_cause() -> None:
    cache = CacheHealth(
        mode=CacheMode.DEGRADED,
        redis=DependencyStatus.UNHEALTHY,
        redis_failure_count=3,
        degraded_mode=DegradedMode.CACHE_LOCAL_ONLY,
        cause="timeout",
    )
    events = EventHealth(kafka=DependencyStatus.UNHEALTHY, buffering="auth", dropping=True, spool_fault="full")
    told = list(health_warnings.mode_warnings(cache, events, budget_is_local=True))
    assert [(warning.partition(":")[0], warning.partition(" (")[2]) for warning in told] == [
        ("cache_local_only", "timeout)"),
        ("events_buffering", "auth)"),
        ("events_dropping", ""),
        ("events_spool_fault", "full)"),
        ("budget_local", ""),
    ]


async def test_that_nobody_answers_who_names_no_provider_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}PROVIDER_PRIORITY_ORDER", "anthropic")
    status, body = await health(monkeypatch)
    assert (status, body["warnings"][0]) == (
        200,
        "no default provider is available: requests that name no provider fail",
    )
    monkeypatch.setenv(f"{PREFIX}DEFAULT_LLM_PROVIDER", "openai")
    _, body = await health(monkeypatch)
    assert not any("no default provider" in warning for warning in body["warnings"])


async def test_a_task_that_is_down_degrades_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    status, body = await health(monkeypatch, "provider_monitor")
    assert (status, body["status"]) == (200, "degraded")
    assert "the background task provider_monitor is down" in body["warnings"]
