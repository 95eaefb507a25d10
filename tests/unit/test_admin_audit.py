"""Each change makes one line and one event, and what looks like a key is in neither."""

import json
import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog
from pydantic import JsonValue
from structlog.testing import capture_logs

from api_models import AdminAction, AdminChange, AdminChanged
from config import Settings
from implementations.audit_impl import MOST_KEPT, AuditImpl
from implementations.events.message import message_of
from implementations.observability.logging_setup import configure_logging, set_level
from implementations.runtime_settings_impl import RuntimeSettingsImpl
from tests.fakes import NOON, Calendar, Recorder, new_metrics
from tests.steering_fakes import ADMIN, REQUEST_ID

KEY = "sk-kanarienvogel-1234567890"


@pytest.fixture
def log_as_before() -> Iterator[None]:
    """What a test configures is gone after it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_change_is_one_line_one_event_and_remembered() -> None:
    recorder = Recorder()
    audit = AuditImpl(events=recorder, now=Calendar())
    with capture_logs() as lines:
        audit.record(ADMIN, AdminAction.SETTING_CHANGED, "llm_cache_ttl", old=3600.0, new=60.0)
    (line,) = lines
    told = {"actor": ADMIN.actor, "action": "setting_changed", "field": "llm_cache_ttl", "old": "3600.0", "new": "60.0"}
    assert {name: line[name] for name in ("event", *told)} == {"event": "admin_changed", **told}
    assert line["request_id"] == str(REQUEST_ID)
    assert recorder.events == [
        AdminChanged(
            actor=ADMIN.actor,
            action=AdminAction.SETTING_CHANGED,
            field="llm_cache_ttl",
            old_value=3600.0,
            new_value=60.0,
            request_id=REQUEST_ID,
        )
    ]
    assert audit.latest() == (
        AdminChange(
            at=NOON,
            actor=ADMIN.actor,
            action=AdminAction.SETTING_CHANGED,
            field="llm_cache_ttl",
            old=3600.0,
            new=60.0,
            request_id=REQUEST_ID,
        ),
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (4096, "4096"),
        (0.3, "0.3"),
        ("INFO", "INFO"),
        (["openai"], '["openai"]'),
        ({"reason": "Wartung für heute"}, '{"reason": "Wartung für heute"}'),
    ],
)
def test_a_value_is_text_in_the_line_whatever_it_is_elsewhere(value: JsonValue, text: str) -> None:
    audit = AuditImpl(events=Recorder(), now=Calendar())
    with capture_logs() as lines:
        audit.record(ADMIN, AdminAction.SETTING_CHANGED, "any", old=value, new=value)
    assert [(line["old"], line["new"]) for line in lines] == [(text, text)]
    assert [change.new for change in audit.latest()] == [value]


def test_what_looks_like_a_key_is_masked_everywhere() -> None:
    recorder = Recorder()
    audit = AuditImpl(events=recorder, now=Calendar())
    old: JsonValue = [{"model": KEY}]
    new: JsonValue = {"a": f"redis://u:{KEY}@h"}
    with capture_logs() as lines:
        audit.record(ADMIN, AdminAction.SETTING_CHANGED, "routing_rules", old=old, new=new)
    everything = f"{lines} {recorder.events} {audit.latest()}"
    assert "routing_rules" in everything
    assert "kanarienvogel" not in everything


def test_the_latest_come_first_and_the_oldest_go() -> None:
    audit = AuditImpl(events=Recorder(), now=Calendar())
    for number in range(MOST_KEPT + 5):
        audit.record(ADMIN, AdminAction.CACHE_CLEARED, None, old=None, new=number)
    assert [change.new for change in audit.latest()] == list(range(MOST_KEPT + 4, 4, -1))


def test_its_message_carries_the_request_and_keeps_the_order_of_changes() -> None:
    recorder = Recorder()
    AuditImpl(events=recorder, now=Calendar()).record(ADMIN, AdminAction.CACHE_CLEARED, None, old=None, new=1)
    message = message_of(recorder.events[0], service_name="the-service", traceparent=None, now=NOON, now_s=0.0)
    told = orjson.loads(message.encoded())
    assert (message.key, told["correlation_id"]) == (b"the-service", str(REQUEST_ID))
    assert told["event_type"] == "llm_provider.admin_changed.v1"
    assert told["data"]["request_id"] == str(REQUEST_ID)


@pytest.mark.usefixtures("log_as_before")
async def test_no_level_of_the_log_hides_an_act_nor_the_change_of_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="INFO", service="judge", version="1", as_json=True)
    audit = AuditImpl(events=Recorder(), now=Calendar())
    settings = RuntimeSettingsImpl(
        Settings.from_environment(), document=None, audit=audit, metrics=new_metrics(), on_log_level=set_level
    )
    await settings.change({"log_level": "CRITICAL"}, by=ADMIN, matches=lambda _: True)
    structlog.get_logger("admin").error("something_else")
    audit.record(ADMIN, AdminAction.CACHE_CLEARED, None, old=None, new=1)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line["action"], line["field"]) for line in lines] == [
        ("admin_changed", "setting_changed", "log_level"),
        ("admin_changed", "cache_cleared", None),
    ]
