"""What is generated from the table of settings is up to date, and a secret is never shown."""

import re
from collections import Counter
from dataclasses import fields
from enum import StrEnum
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # it has no py.typed
import pytest

from api.caller_gate import OPEN_PATHS
from api.peer import MOST_HOPS
from api.server_protocol import MOST_FIELDS, MOST_HEAD_BYTES, MOST_SMALL_PIECES, MOST_WAITING, SMALL_PIECE_BYTES
from api.strict_json import MAX_DEPTH, MAX_VALUES
from api_models import EventData, EventEnvelope, ProcessingEvent, ProviderName, SelectionStrategy
from config import SHORTEST_ADMIN_KEY, Settings, settings_table
from environment import MASK, PREFIX, known_variables
from implementations.resilience.circuit_breaker import CircuitRules
from implementations.resilience.failure_window import WINDOW_S
from implementations.shared_state.envelope import SCHEMA
from implementations.wire.transport import MAX_BODY_BYTES
from tools import api, events
from tools import settings as tool

KEY = "sk-canary-0123456789"
STALE = "run `make format`, which writes it"
REAL_PROVIDERS = ", ".join(f"`{name}`" for name in ProviderName if name is not ProviderName.MOCK)


def test_the_page_of_settings_is_up_to_date() -> None:
    page = tool.PAGE.read_text()
    assert tool.page_with_tables(page) == page, STALE


def test_the_page_of_settings_has_a_heading_for_each_group() -> None:
    headings = re.findall(r"^## (.+)$", tool.markdown_tables(), re.MULTILINE)
    assert len(set(headings)) == len(Settings.model_fields)
    assert "The answer cache" in headings


def test_the_example_environment_holds_every_setting() -> None:
    assert tool.ENV_EXAMPLE.read_text() == tool.env_example(), STALE


def test_the_effective_settings_name_their_origin_and_mask_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("LLM_PROVIDER_SERVICE_PORT", "9090")
    set_by = {"GEMINI_API_KEY": ".env", "LLM_PROVIDER_SERVICE_PORT": "the environment"}
    lines = list(tool.effective(Settings.from_environment(), set_by))
    (google,) = [line for line in lines if "GOOGLE_API_KEY" in line]
    (port,) = [line for line in lines if line.startswith("LLM_PROVIDER_SERVICE_PORT ")]
    assert MASK in google
    assert " .env, GEMINI_API_KEY " in google
    assert " 9090 " in port
    assert " the environment " in port
    assert KEY not in "\n".join(lines)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        (f"{PREFIX}ROUTING_RULES", '[{"metadata": {"tier": "gold"}, "provider": "anthropic"}, {"provider": "google"}]'),
        (f"{PREFIX}PRICE_OVERRIDES", '{"openai/gpt-6-luna": {"input": 0.1, "output": 2}}'),
        (f"{PREFIX}COST_ALERT_LEVELS", "0.5,1"),
        (f"{PREFIX}TRUSTED_PROXIES", "10.1.2.3,fc00::/7"),
        (f"{PREFIX}EVENT_SPOOL_PATH", "/spool/events.sqlite"),
        (f"{PREFIX}USE_MOCK_LLM", "true"),
    ],
)
def test_what_is_shown_could_be_set(variable: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = (row for row in settings_table() if row.variable == variable)
    monkeypatch.setenv(variable, text)
    value = row.value_in(Settings.from_environment())
    monkeypatch.setenv(variable, tool.shown(value))
    assert row.value_in(Settings.from_environment()) == value


@pytest.mark.parametrize("text", ["60", "0.1", "1209601", "1234567.25", "1e+20"])
def test_a_number_is_shown_as_it_is_and_not_rounded(text: str) -> None:
    assert tool.shown(float(text)) == text


def test_the_time_to_live_says_what_else_bounds_it() -> None:
    (row,) = [line for line in tool.markdown_tables().splitlines() if f"{PREFIX}LLM_CACHE_TTL`" in line]
    assert "locally at most LOCAL_CACHE_TTL_SECONDS" in row
    assert f"{PREFIX}LOCAL_CACHE_TTL_SECONDS" in known_variables(settings_table())


def test_the_threshold_says_what_else_opens_a_circuit() -> None:
    (row,) = [line for line in tool.markdown_tables().splitlines() if "LLM_CIRCUIT_BREAKER_FAILURE_THRESHOLD`" in line]
    assert f"half of {CircuitRules().fewest_calls} calls or more within a minute" in row
    assert WINDOW_S == 60


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("PROVIDER_SELECTION_STRATEGY", f"one of {', '.join(f'`{name}`' for name in SelectionStrategy)} ("),
        ("KAFKA_SECURITY_PROTOCOL", "one of `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT`, `SASL_SSL`"),
        ("DEFAULT_LLM_PROVIDER", f"one of {REAL_PROVIDERS} ("),
        ("PROVIDER_PRIORITY_ORDER", f"any of {REAL_PROVIDERS} ("),
    ],
)
def test_the_values_of_a_closed_set_are_listed(name: str, values: str) -> None:
    (row,) = [line for line in tool.markdown_tables().splitlines() if f"`{PREFIX}{name}`" in line]
    assert values in row


def test_values_that_the_meaning_explains_are_not_listed_again() -> None:
    for name in ("AUTH_MODE", "COST_UNKNOWN_PRICE"):
        (row,) = [line for line in tool.markdown_tables().splitlines() if f"`{PREFIX}{name}`" in line]
        assert "one of" not in row


def test_the_page_of_events_is_up_to_date() -> None:
    text = events.PAGE.read_text()
    assert events.page(text) == text, STALE


def test_the_page_of_the_interface_is_up_to_date() -> None:
    text = api.PAGE.read_text()
    assert api.page(text) == text, STALE


def test_every_event_has_an_example_that_fits_its_schema() -> None:
    assert Counter(example.event for example in events.EXAMPLES) == Counter(ProcessingEvent), (
        "EXAMPLES in tools/events.py"
    )
    for example in events.EXAMPLES:
        told = events.envelope(example)
        assert isinstance(told, dict)
        jsonschema.validate(told, events.schema(EventEnvelope))
        jsonschema.validate(told["data"], events.schema(type(example)))


@pytest.mark.parametrize("example", events.EXAMPLES, ids=lambda example: example.event.name)
def test_an_event_of_a_later_version_fits_the_schema_of_today(example: EventData) -> None:
    """With a further field, and with a further value of an enumeration."""
    told = events.envelope(example)
    assert isinstance(told, dict)
    chosen = (field.name for field in fields(example) if isinstance(getattr(example, field.name), StrEnum))
    later = {**told["data"], **dict.fromkeys(chosen, "another"), "a_further_field": {}}
    jsonschema.validate(later, events.schema(type(example)))


def test_the_page_of_security_names_the_bounds_of_requests_and_the_keys_of_answers() -> None:
    page = Path("docs/security.md").read_text()
    for figure in (
        f"{MOST_SMALL_PIECES:,} small pieces, {MAX_VALUES:,} values, depth {MAX_DEPTH}",
        f"{MOST_HEAD_BYTES // 1024} KiB, {MOST_FIELDS} headers",
        f"{MOST_WAITING} pipelined requests",
        f"{MAX_BODY_BYTES // 1024**2} MiB, strict parsing",
        f"`llm_cache:{SCHEMA}:*`",
    ):
        assert figure in page


def test_the_page_of_the_interface_names_the_bounds_of_the_server() -> None:
    page = api.PAGE.read_text().replace("\n  ", " ")
    for figure in (
        f"a head above {MOST_HEAD_BYTES // 1024} KiB or with more than {MOST_FIELDS} headers",
        f"more than {MOST_WAITING} pipelined requests",
        f"more than {MOST_SMALL_PIECES:,} pieces of less than {SMALL_PIECE_BYTES // 1024} KiB",
    ):
        assert figure in page


def test_the_page_of_access_names_every_open_path_and_the_bounds_of_keys_and_hops() -> None:
    page = Path("docs/access.md").read_text()
    (always_open,) = re.findall(r"Always open: (.*)\.", page)
    assert set(re.findall(r"`([^`]+)`", always_open)) == OPEN_PATHS
    for figure in (f"{SHORTEST_ADMIN_KEY} characters", f"more than {MOST_HOPS}"):
        assert figure in page.replace("\n", " ")
