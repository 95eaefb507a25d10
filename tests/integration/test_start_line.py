"""The lines that a start leaves in the log say who judges, where to ask, and what is set without effect."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from dishka import Provider

from api_models import ProviderName
from config import Settings
from environment import PREFIX
from protocols import (
    Candidate,
    ComparisonQuery,
    CurrentSettings,
    LLMProviderSelectorProtocol,
    ProviderStatus,
)
from startup_setup import create_app
from tests.fakes import provider_status
from tests.in_place_of import in_place_of

Lines = list[dict[str, Any]]


class TwoOfThree:
    """A selector that knows three providers, of which two can be asked."""

    def candidates(self, query: ComparisonQuery, settings: CurrentSettings) -> Sequence[Candidate]:
        raise NotImplementedError

    def statuses(self, settings: CurrentSettings) -> Sequence[ProviderStatus]:
        return [self.status(name, settings) for name in (ProviderName.GOOGLE, ProviderName.OPENAI, ProviderName.MOCK)]

    def status(self, name: ProviderName, settings: CurrentSettings) -> ProviderStatus:
        is_configured = name is not ProviderName.OPENAI
        return provider_status(name=name, configured=is_configured, reason=None if is_configured else "not configured")


async def lines_of_a_start(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: Mapping[str, str],
    *overrides: Provider,
) -> Lines:
    """Start and stop a service in production, where a line is a JSON object."""
    for name, value in {"ENVIRONMENT": "production", **variables}.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    async with create_app(Settings.from_environment(), *overrides).test_app():
        pass
    return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


async def start_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: Mapping[str, str],
    *overrides: Provider,
) -> dict[str, Any]:
    """The one that says who judges."""
    lines = await lines_of_a_start(monkeypatch, capsys, variables, *overrides)
    (started,) = [line for line in lines if line["event"] == "service_started"]
    return started


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("0.0.0.0", "localhost"),  # noqa: S104  nothing listens here
        ("::", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("10.1.2.3", "10.1.2.3"),
        ("::1", "[::1]"),
        ("judge.internal", "judge.internal"),
    ],
)
async def test_the_start_line_says_where_to_ask(
    host: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = await start_line(monkeypatch, capsys, {"USE_MOCK_LLM": "true", "HOST": host, "PORT": "9090"})
    assert line["ask"] == f"POST http://{shown}:9090/api/v1/comparison"


async def test_the_start_line_names_the_judges_that_can_be_asked_and_no_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = await start_line(monkeypatch, capsys, {}, in_place_of(LLMProviderSelectorProtocol, TwoOfThree()))
    assert (line["judges"], line["level"], line["note"]) == ("google, mock", "info", None)


async def test_the_start_line_warns_when_nobody_judges(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = await start_line(monkeypatch, capsys, {})
    assert (line["judges"], line["level"]) == ("none: no provider is enabled and configured", "warning")


async def test_the_start_line_warns_when_the_mock_judges(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = await start_line(monkeypatch, capsys, {"USE_MOCK_LLM": "true", "ANTHROPIC_API_KEY": "a key"})
    assert (line["judges"], line["level"]) == ("mock", "warning")
    assert "no verdict is real" in line["note"]


LIMITED = {"COST_LIMIT_USD_PER_DAY": "1"}
RULES = '[{"user_id": "a", "provider": "google"}, {"user_id": "b", "provider": "anthropic"}]'


@pytest.mark.parametrize(
    ("variables", "warned"),
    [
        ({}, {}),
        ({"EVENT_SPOOL_PATH": "/nowhere/spool.db"}, {"events_not_sent": None}),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL"}, {"events_not_sent": None}),
        ({"EVENT_SPOOL_PATH": "/nowhere/spool.db", "PUBLISH_LLM_USAGE_EVENTS": "false"}, {}),
        ({"REDIS_SENTINEL_PASSWORD": "a password"}, {"sentinel_password_not_used": None}),
        (
            {"REDIS_SENTINEL_PASSWORD": "a password", "REDIS_URL": "redis://127.0.0.1:9"},
            {"sentinel_password_not_used": None},
        ),
        ({"REDIS_SENTINEL_PASSWORD": "a password", "REDIS_URL": "redis+sentinel://127.0.0.1:9/primary"}, {}),
        ({"DEFAULT_LLM_PROVIDER": "anthropic"}, {}),
        ({"DEFAULT_LLM_PROVIDER": "openai"}, {"preferred_providers_not_usable": ["openai"]}),
        (
            {"DEFAULT_LLM_PROVIDER": "openai", "ROUTING_RULES": RULES},
            {"preferred_providers_not_usable": ["google", "openai"]},
        ),
        ({"DEFAULT_LLM_PROVIDER": "openai", "USE_MOCK_LLM": "true"}, {}),
    ],
)
async def test_a_start_warns_of_what_is_set_without_effect(
    variables: dict[str, str],
    warned: dict[str, list[str] | None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = await lines_of_a_start(monkeypatch, capsys, {"ANTHROPIC_API_KEY": "a key", **LIMITED, **variables})
    of_redis = {"redis_mode_changed", "redis_primary_unconfirmed", "budget_local"}
    others = {"service_started", "callers_not_authenticated", *of_redis}
    told = {line["event"]: line.get("names") for line in lines if line["level"] == "warning"}
    assert {event: names for event, names in told.items() if event not in others} == warned


UNLIMITED = ["spending_not_limited"]
INTERNAL = {"INTERNAL_MODEL_ENABLED": "true", "INTERNAL_MODEL_BASE_URL": "http://127.0.0.1:9/v1"}


@pytest.mark.parametrize(
    ("variables", "warned"),
    [
        ({}, []),
        ({"ANTHROPIC_API_KEY": "a key"}, UNLIMITED),
        ({"ANTHROPIC_API_KEY": "a key", **LIMITED}, []),
        ({"ANTHROPIC_API_KEY": "a key", "COST_LIMIT_USD_PER_MONTH": "1"}, []),
        ({"ANTHROPIC_API_KEY": "a key", "ENVIRONMENT": "staging"}, []),
        ({"ANTHROPIC_API_KEY": "a key", "USE_MOCK_LLM": "true"}, []),
        (INTERNAL, []),
        ({**INTERNAL, "PRICE_OVERRIDES": '{"internal/llama": {"input": 1, "output": 2}}'}, UNLIMITED),
    ],
)
async def test_a_start_in_production_warns_when_nothing_limits_what_callers_spend(
    variables: dict[str, str], warned: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = await lines_of_a_start(monkeypatch, capsys, variables)
    assert [line["event"] for line in lines if line["event"] in UNLIMITED] == warned
