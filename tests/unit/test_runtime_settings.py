"""What an operator may change at run time, and that nothing else changes: by reflection over the table of settings."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import orjson
import pytest
from annotated_types import Le
from pydantic import JsonValue
from structlog.testing import capture_logs

from api.admin_settings import SettingsChange
from api_models import AdminAction, ProviderName, SelectionStrategy, SettingReport, SettingSource, SettingsResponse
from config import Settings, settings_table
from environment import MASK, PREFIX, Setting
from exceptions import InvalidQueryError, StaleVersionError
from implementations.runtime_settings_impl import RuntimeSettingsImpl
from metrics import Metrics
from protocols import CurrentSettings
from tests.fakes import new_metrics, sample
from tests.integration.certificates import certificate
from tests.steering_fakes import ADMIN, FakeAudit, FakeDocument

PASSWORD = "kanarienvogel-redis"  # noqa: S105  it opens nothing
KEY = "kanarienvogel-of-openai"
LEFT_OUT = "llm_provider_stored_values_left_out"

VENDORS = [name for name in ProviderName if name not in {ProviderName.INTERNAL, ProviderName.MOCK}]
# Values that differ from the default, as a PATCH has them.
OTHER: dict[str, JsonValue] = {
    "log_level": "ERROR",
    "provider_selection_strategy": "least-cost",
    "provider_priority_order": ["google", "openai"],
    "routing_rules": [{"metadata": {"tier": "gold"}, "min_characters": 20000, "provider": "anthropic"}],
    "default_llm_provider": "google",
    "llm_default_max_tokens": 1024,
    "llm_default_temperature": 0.5,
    "llm_cache_enabled": False,
    "llm_cache_ttl": 60.0,
    "cost_limit_usd_per_day": 5.0,
    "cost_limit_usd_per_month": 50.0,
    "cost_alert_threshold_usd": 3.0,
    "cost_alert_levels": [0.5, 0.9],
    "cost_unknown_price": "refuse",
    "cost_unknown_ceiling_usd": 0.2,
    **{f"{name}_enabled": False for name in VENDORS},
    **{f"{name}_default_model": "another/model" for name in VENDORS},
    "internal_model_enabled": True,
    "internal_model_name": "llama",
}
CHANGEABLE = [setting for setting in settings_table() if setting.changeable]
FIXED = [setting for setting in settings_table() if not setting.changeable]
NOT_STEERED = {"request_timeout_s", "attempt_timeout_s", "mock"}


def always(version: int) -> bool:
    return True


class Replica:
    """One replica's settings, and what it told."""

    def __init__(self, document: FakeDocument | None = None, metrics: Metrics | None = None) -> None:
        self.audit = FakeAudit()
        self.metrics = metrics or new_metrics()
        self.levels: list[str] = []
        self.settings = RuntimeSettingsImpl(
            Settings.from_environment(),
            document=document,
            audit=self.audit,
            metrics=self.metrics,
            on_log_level=self.levels.append,
        )

    async def changes(
        self, changes: Mapping[str, JsonValue], matches: Callable[[int], bool] = always
    ) -> SettingsResponse:
        return await self.settings.change(changes, by=ADMIN, matches=matches)

    async def withdraws(self, name: str | None = None) -> SettingsResponse:
        return await self.settings.withdraw(name, by=ADMIN, matches=always)

    async def refuses(self, changes: dict[str, Any]) -> str:
        """What is told; and that nothing changed but the count."""
        before, version = self.settings.current(), (await self.settings.report()).version
        counted = sample(self.metrics, "llm_provider_config_reload_errors_total", source="request") or 0.0
        with pytest.raises(InvalidQueryError) as refusal:
            await self.settings.change(changes, by=ADMIN, matches=always)
        assert self.settings.current() is before
        assert (await self.settings.report()).version == version
        assert sample(self.metrics, "llm_provider_config_reload_errors_total", source="request") == counted + 1
        return refusal.value.details


def row(report: SettingsResponse, name: str) -> SettingReport:
    (found,) = (setting for setting in report.settings if setting.name == name)
    return found


def test_each_changeable_setting_has_another_value_here() -> None:
    assert {setting.name for setting in CHANGEABLE} == set(OTHER), "OTHER gives it one, not the default"


@pytest.mark.parametrize("setting", CHANGEABLE, ids=lambda setting: setting.name)
async def test_each_changeable_setting_reaches_the_snapshot_and_returns(setting: Setting) -> None:
    replica, value = Replica(FakeDocument()), OTHER[setting.name]
    own = replica.settings.current()
    changed = row(await replica.changes({setting.name: value}), setting.name)
    assert (changed.value, changed.source, changed.changeable) == (value, SettingSource.OPERATOR, True)
    assert changed.environment_value != value
    assert replica.settings.current() != own
    back = row(await replica.withdraws(setting.name), setting.name)
    assert (back.value, back.source) == (changed.environment_value, SettingSource.ENVIRONMENT)
    assert replica.settings.current() == own
    assert replica.audit.told == [
        (ADMIN.actor, AdminAction.SETTING_CHANGED, setting.name, changed.environment_value, value),
        (ADMIN.actor, AdminAction.SETTING_WITHDRAWN, setting.name, value, changed.environment_value),
    ]


async def test_all_of_the_snapshot_that_is_meant_to_change_does() -> None:
    replica = Replica()
    before = replica.settings.current()
    after = (await replica.changes(OTHER), replica.settings.current())[1]
    unchanged = {one.name for one in fields(CurrentSettings) if getattr(before, one.name) == getattr(after, one.name)}
    assert unchanged == NOT_STEERED
    assert {
        one.name for one in fields(before.costs) if getattr(before.costs, one.name) == getattr(after.costs, one.name)
    } == set()


async def test_models_that_the_operator_names_are_told_apart_in_metrics_and_ledger() -> None:
    replica = Replica()
    named: dict[str, JsonValue] = {
        "openai_default_model": "my/default",
        "routing_rules": [{"provider": "openai", "model": "my/routed"}],
    }
    models = (replica.settings.current().default_models[ProviderName.ANTHROPIC], "my/default", "my/routed")
    assert [replica.metrics.model_label(model) for model in models] == [models[0], "other", "other"]
    await replica.changes(named)
    assert [replica.metrics.model_label(model) for model in models] == list(models)


@pytest.mark.parametrize("setting", FIXED, ids=lambda setting: setting.name)
async def test_each_other_setting_is_refused_by_its_name(setting: Setting) -> None:
    replica = Replica()
    told = await replica.refuses({setting.name: setting.info.default, "llm_cache_ttl": 60.0})
    assert told == f"{setting.name}: does not change while the service runs"
    with pytest.raises(InvalidQueryError, match=setting.name):
        await replica.withdraws(setting.name)


@pytest.mark.parametrize("name", ["api_key", "base_url", "__class__", "costs", "selection", "llm_cache_ttl "])
async def test_what_is_no_setting_is_refused(name: str) -> None:
    replica = Replica()
    assert "there is no such setting" in await replica.refuses({name: {"enabled": False}, "llm_cache_ttl": 60.0})


async def test_a_misspelt_name_is_helped_and_a_strange_one_is_not_repeated() -> None:
    replica = Replica()
    assert "did you mean llm_cache_ttl?" in await replica.refuses({"llm_cache_tl": 1.0})
    assert "kanarienvogel" not in await replica.refuses({"kanarienvogel\n" * 100: 1})


async def test_a_body_full_of_what_is_no_setting_is_refused_in_a_few_words_and_compared_with_little() -> None:
    replica, compared = Replica(), list[str]()

    def close_matches(word: str, *_: object, **__: object) -> list[str]:
        compared.append(word)
        return []

    with patch.object(difflib, "get_close_matches", close_matches):
        told = await replica.refuses({**{f"cost_limit_{number}": 1 for number in range(1000)}, "x" * 1000: 1})
    assert told.endswith("cost_limit_4: there is no such setting; and more")
    assert len(compared) == 5
    with patch.object(difflib, "get_close_matches", close_matches):
        assert await replica.refuses({"x" * 1000: 1}) == "a name in the body: there is no such setting"
    assert len(compared) == 5, "a name of any length"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("llm_cache_ttl", 0),
        ("llm_cache_ttl", None),
        ("llm_cache_ttl", True),
        ("llm_cache_ttl", "kanarienvogel"),
        ("cost_limit_usd_per_day", -1),
        ("cost_limit_usd_per_day", True),
        ("cost_limit_usd_per_day", float("nan")),
        ("cost_alert_levels", [0.5, 1.5]),
        ("log_level", "kanarienvogel"),
        ("provider_selection_strategy", "kanarienvogel"),
        ("provider_priority_order", []),
        ("provider_priority_order", ["openai", "openai"]),
        ("provider_priority_order", ["mock"]),
        ("provider_priority_order", "openai,google"),
        ("default_llm_provider", "mock"),
        ("routing_rules", [{"kanarienvogel": 1, "provider": "openai"}]),
        ("routing_rules", [{"metadata": {"kanarienvogel": []}, "provider": "openai"}]),
        ("openai_default_model", "../kanarienvogel"),
        ("openai_enabled", "kanarienvogel"),
        ("openai_enabled", "yes"),
        ("openai_enabled", 1),
        ("openai_enabled", None),
        ("llm_cache_ttl", "60"),
        ("llm_default_max_tokens", "1024"),
        ("cost_limit_usd_per_day", "5"),
        ("cost_limit_usd_per_day", ""),
    ],
)
async def test_a_half_valid_change_applies_nothing_and_names_what_is_wrong(name: str, value: Any) -> None:
    told = await Replica().refuses({"llm_default_max_tokens": 7, name: value})
    assert told.startswith(f"{name}: ")
    assert "kanarienvogel" not in told


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("provider_priority_order", {}, "must be a list"),
        ("provider_priority_order", [], "must not be empty"),
        ("cost_alert_levels", [0.5, True], "1: must not be true or false"),
        ("cost_alert_levels", ["0.5"], "0: must be a number"),
        ("cost_alert_levels", "0.5", "must be a list"),
        ("cost_alert_levels", True, "must be a list"),
        ("routing_rules", ["openai"], "0: must be an object"),
        ("routing_rules", [{"metadata": [], "provider": "openai"}], "0.metadata: must be an object"),
    ],
)
async def test_a_mistake_is_told_in_words_of_json(name: str, value: Any, complaint: str) -> None:
    assert await Replica().refuses({name: value}) == f"{name}: {complaint}"


@pytest.mark.parametrize("name", ["cost_limit_usd_per_day", "llm_default_temperature", "default_llm_provider"])
async def test_null_is_a_value_where_there_may_be_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", {"default_llm_provider": "google"}.get(name, "1"))
    changed = row(await Replica().changes({name: None}), name)
    assert (changed.value, changed.source) == (None, SettingSource.OPERATOR)
    assert changed.environment_value is not None


async def test_true_in_place_of_1_is_a_change() -> None:
    document = FakeDocument()
    replica, other = Replica(document), Replica(document)
    for wanted in (1, True):
        changed = row(await replica.changes({"routing_rules": [rule_for(wanted)]}), "routing_rules")
        assert orjson.dumps(changed.value) == orjson.dumps([rule_for(wanted)])
        (rule,) = (await other.settings.report(), other.settings.current().routing_rules)[1]
        assert rule.metadata["is_exam"] is wanted
    assert len(replica.audit.told) == 2


def rule_for(wanted: JsonValue) -> JsonValue:
    return {"metadata": {"is_exam": wanted}, "provider": "openai"}


async def test_a_snapshot_that_was_taken_stays_as_it_is() -> None:
    replica = Replica()
    taken = replica.settings.current()
    await replica.changes({"provider_selection_strategy": "random", "openai_enabled": False})
    assert taken.selection_strategy is SelectionStrategy.PRIORITY
    assert ProviderName.OPENAI in taken.enabled_providers
    assert ProviderName.OPENAI not in replica.settings.current().enabled_providers


async def test_a_version_that_was_not_meant_is_refused() -> None:
    replica = Replica()
    await replica.changes({"llm_cache_ttl": 60.0})
    with pytest.raises(StaleVersionError):
        await replica.changes({"llm_cache_ttl": 70.0}, lambda version: version == 0)
    assert replica.settings.current().cache_ttl_s == 60.0
    assert (await replica.changes({"llm_cache_ttl": 70.0}, lambda version: version == 1)).version == 2


async def test_everything_returns_to_the_environment_at_once() -> None:
    replica = Replica()
    own = replica.settings.current()
    await replica.changes(OTHER)
    report = await replica.withdraws()
    assert replica.settings.current() == own
    assert {setting.source for setting in report.settings} == {SettingSource.ENVIRONMENT}
    assert len(replica.audit.told) == 2 * len(OTHER)
    assert (await replica.withdraws()).version == report.version


async def test_the_level_of_the_log_follows_and_is_set_only_when_it_changed() -> None:
    document = FakeDocument()
    here, there = Replica(document), Replica(document)
    await here.changes({"log_level": "ERROR"})
    await here.changes({"llm_cache_ttl": 60.0})
    await there.settings.poll()
    await here.withdraws()
    assert (here.levels, there.levels) == (["ERROR", "INFO"], ["ERROR"])


async def test_what_another_version_stored_is_left_out_counted_and_kept() -> None:
    values = {"llm_cache_ttl": 60.0, "setting_of_tomorrow": 1, "llm_default_max_tokens": -1, "port": 1}
    document = FakeDocument(text=orjson.dumps({"version": 7, "values": values}))
    replica = Replica(document)
    with capture_logs() as lines:
        report = await replica.settings.report()
    told = [line["names"] for line in lines if line["event"] == "stored_settings_left_out"]
    assert told == [["port", "setting_of_tomorrow"], ["llm_default_max_tokens"]]
    assert report.version == 7
    assert [one.name for one in report.settings if one.source is SettingSource.OPERATOR] == ["llm_cache_ttl"]
    assert sample(replica.metrics, "llm_provider_config_reload_errors_total", source="stored") == 2
    await replica.changes({"cost_limit_usd_per_day": 5.0})
    assert orjson.loads(document.text) == {"version": 8, "values": {**values, "cost_limit_usd_per_day": 5.0}}
    assert [field for _, _, field, _, _ in replica.audit.told] == ["cost_limit_usd_per_day"]
    assert replica.settings.current().cache_ttl_s == 60.0


async def test_what_is_in_force_stays_when_the_environment_itself_does_not_fit_any_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file that REDIS_URL names may be away while it is renewed."""
    file = certificate(tmp_path, "redis").trusted
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", f"rediss://redis?ssl_ca_certs={file}")
    document = FakeDocument(text=orjson.dumps({"version": 1, "values": {"llm_cache_ttl": 60.0}}))
    replica = Replica(document)
    await replica.settings.poll()
    file.unlink()
    document.text = orjson.dumps({"version": 2, "values": {"llm_cache_ttl": 70.0}})
    with capture_logs() as lines:
        report = await replica.settings.report()
    assert [line["names"] for line in lines if line["event"] == "stored_settings_left_out"] == [["redis_url"]]
    assert (report.version, row(report, "llm_cache_ttl").value) == (2, 60.0)
    assert replica.settings.current().cache_ttl_s == 60.0
    assert sample(replica.metrics, LEFT_OUT, what="settings") == 1


async def test_what_another_version_stored_can_be_removed_by_name() -> None:
    values = {"llm_cache_ttl": 60.0, "setting_of_tomorrow": 1, "llm_default_max_tokens": -1}
    replica = Replica(FakeDocument(text=orjson.dumps({"version": 7, "values": values})))
    await replica.settings.poll()
    assert sample(replica.metrics, LEFT_OUT, what="settings") == 2
    for number, name in enumerate(("setting_of_tomorrow", "llm_default_max_tokens"), 1):
        report = await replica.settings.withdraw(name, by=ADMIN, matches=lambda _: True)
        assert sample(replica.metrics, LEFT_OUT, what="settings") == 2 - number
    assert [one.name for one in report.settings if one.source is SettingSource.OPERATOR] == ["llm_cache_ttl"]
    assert replica.audit.told[0] == (ADMIN.actor, AdminAction.SETTING_WITHDRAWN, "setting_of_tomorrow", None, None)
    assert len(replica.audit.told) == 2
    with pytest.raises(InvalidQueryError, match="setting_of_tomorrow: there is no such setting"):
        await replica.settings.withdraw("setting_of_tomorrow", by=ADMIN, matches=lambda _: True)


async def test_text_that_is_none_of_ours_changes_nothing_and_is_counted() -> None:
    replica = Replica(FakeDocument(text=b"garbage"))
    own = replica.settings.current()
    await replica.settings.poll()
    await replica.settings.poll()
    assert replica.settings.current() is own
    assert sample(replica.metrics, "llm_provider_config_reload_errors_total", source="stored") == 1
    assert sample(replica.metrics, LEFT_OUT, what="settings") == 1
    await replica.changes({"llm_cache_ttl": 60.0})
    await replica.settings.poll()
    assert sample(replica.metrics, LEFT_OUT, what="settings") == 0


async def test_no_secret_is_shown_or_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", f"redis://user:{PASSWORD}@localhost:6379/0")
    monkeypatch.setenv(f"{PREFIX}OPENAI_API_KEY", KEY)
    document = FakeDocument()
    replica = Replica(document)
    report = await replica.settings.report()
    text = report.model_dump_json()
    assert PASSWORD not in text
    assert KEY not in text
    assert row(report, "redis_url").value == row(report, "openai_api_key").value == MASK
    assert row(report, "anthropic_api_key").value is None
    rule: JsonValue = {"metadata": {"tier": f"x{PASSWORD}"}, "provider": "openai"}
    changes: list[dict[str, JsonValue]] = [{"openai_default_model": KEY}, {"routing_rules": [rule]}]
    for change in changes:
        told = await replica.refuses(change)
        assert "secrets" in told
        assert "kanarienvogel" not in told
    assert document.text == b""


@pytest.mark.parametrize("text", ["p%40ss%20w0r", "p@ss w0r"])
async def test_a_password_is_known_as_written_in_its_url_and_as_sent(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "redis://user:p%40ss%20w0r@localhost:6379/0")
    rule: JsonValue = {"metadata": {"tier": f"x{text}x"}, "provider": "openai"}
    assert "secrets" in await Replica(FakeDocument()).refuses({"routing_rules": [rule]})


def test_the_published_body_of_a_change_is_the_table() -> None:
    schema = SettingsChange.model_json_schema()
    assert set(schema["properties"]) == {setting.name for setting in CHANGEABLE}
    assert "required" not in schema
    assert schema["additionalProperties"] is False
    assert schema["properties"]["llm_cache_ttl"]["exclusiveMinimum"] == 0
    SettingsChange.model_validate(OTHER)


def test_no_number_that_may_change_is_without_bounds() -> None:
    numbers = [row for row in settings_table() if row.changeable and {int, float} & set(kinds_of(row.info.annotation))]
    assert numbers
    for row in numbers:
        bounds = [bound for bound in row.info.metadata if isinstance(bound, Le)]
        assert bounds, f"{row.name}: a change could make it so large that nothing can be computed with it"


def kinds_of(annotation: object) -> tuple[object, ...]:
    return get_args(annotation) or (annotation,)
