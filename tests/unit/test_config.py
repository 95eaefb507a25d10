"""Every variable of the table is read, in the stated order, and a wrong one is named but never shown."""

import re
from pathlib import Path

import pytest
from orjson import dumps
from pydantic import SecretStr

from api_models import ProviderName
from config import VERSION, PriceOverride, Settings, settings_table
from environment import MAX_SECRET_BYTES, PREFIX, Setting, known_variables
from tests.unit.refusals import CANARY, Refused

KEY = f"{PREFIX}ANTHROPIC_API_KEY"

# The least and the most of a setting: the values that are just taken, and those just refused.
BOUNDS = [
    ("PORT", "1", "0"),
    ("PORT", "65535", "65536"),
    ("MAX_REQUEST_BYTES", "1024", "1023"),
    ("MAX_REQUEST_MEMORY_MB", "64", "63"),
    ("BODY_TIMEOUT_S", "0.001", "0"),
    ("DRAIN_DELAY_S", "0", "-0.001"),
    ("LLM_DEFAULT_MAX_TOKENS", "1", "0"),
    ("LLM_CACHE_TTL", "0.001", "0"),
    ("COST_ALERT_THRESHOLD_USD", "0.000001", "0.0000009"),
    ("LOCAL_CACHE_SIZE_MB", "1", "0"),
    ("LOCAL_CACHE_SIZE_MB", "1048576", "1048577"),
    ("LOCAL_CACHE_MAX_ENTRIES", "1", "0"),
    ("LOCAL_CACHE_MAX_ENTRIES", "100000000", "100000001"),
    ("KAFKA_FALLBACK_QUEUE_SIZE", "1", "0"),
    ("KAFKA_FALLBACK_QUEUE_SIZE", "10000000", "10000001"),
    ("KAFKA_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "1", "0"),
    ("KAFKA_CIRCUIT_BREAKER_SUCCESS_THRESHOLD", "1", "0"),
    ("KAFKA_CIRCUIT_BREAKER_RECOVERY_TIMEOUT", "0.001", "0"),
    ("KAFKA_CIRCUIT_BREAKER_RECOVERY_TIMEOUT", "300", "300.001"),
    ("EVENT_MAX_AGE_S", "0.001", "0"),
    ("USAGE_ANALYTICS_WINDOW_S", "1", "0.999"),
    ("MOCK_SEED", str(2**63 - 1), str(2**63)),
    ("MOCK_SEED", str(-(2**63)), str(-(2**63) - 1)),
    ("MOCK_ERROR_RATE", "1", "1.001"),
    ("MOCK_LATENCY_MS", "600000", "600001"),
    ("MOCK_LATENCY_JITTER_MS", "600000", "600001"),
    ("MOCK_POSITION_BIAS", "0", "-0.001"),
]
VENDORS = tuple(
    setting.variable.removeprefix(PREFIX).removesuffix("_DEFAULT_MODEL")
    for setting in settings_table()
    if setting.variable.endswith("_DEFAULT_MODEL")
)

# Legal values that are not the default, for the settings whose kind does not give one.
LEGAL = {
    "LOG_LEVEL": "DEBUG",
    "ENVIRONMENT": "production",
    "PROVIDER_SELECTION_STRATEGY": "random",
    "PROVIDER_PRIORITY_ORDER": "openai",
    "DEFAULT_LLM_PROVIDER": "google",
    "LLM_DEFAULT_TEMPERATURE": "0.5",
    **{f"{name}_BASE_URL": "https://models.example/v1" for name in (*VENDORS, "INTERNAL_MODEL")},
    "ROUTING_RULES": '[{"user_id": "u", "provider": "openai"}]',
    "PRICE_OVERRIDES": '{"openai/gpt-6-luna": {"input": 1, "output": 2}}',
    "REDIS_URL": "redis://localhost:6379/0",
    "OTLP_ENDPOINT": "http://jaeger:4318",
    "TRACE_SAMPLE_RATIO": "0.25",
    "CACHE_KEY_PREFIX": "another",
    "COST_LIMIT_USD_PER_DAY": "5",
    "COST_LIMIT_USD_PER_MONTH": "50",
    "COST_ALERT_LEVELS": "0.5,0.9",
    "COST_UNKNOWN_PRICE": "refuse",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka-1:1,[::1]:65535",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "CALLER_API_KEYS": f'{{"one": ["{"0" * 64}"]}}',
    "AUTH_MODE": "api_key",
    "TRUSTED_PROXIES": "10.0.0.0/8",
    "ADMIN_ALLOWED_IPS": "10.1.2.3,fd00::/8",
    "MOCK_ERROR_RATE": "0.5",
    "MOCK_POSITION_BIAS": "0.5",
}


# What else must be given.
NEEDED = {"AUTH_MODE": LEGAL["CALLER_API_KEYS"]}


def another(setting: Setting) -> str:
    name = setting.variable.removeprefix(PREFIX)
    default = setting.info.default
    if name in LEGAL:
        return LEGAL[name]
    if isinstance(default, bool):
        return str(not default).lower()
    return str(default + 1) if isinstance(default, int | float) else "changed"


@pytest.mark.parametrize("setting", settings_table(), ids=lambda setting: setting.variable)
def test_every_variable_of_the_table_is_read(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}CALLER_API_KEYS", NEEDED.get(setting.variable.removeprefix(PREFIX), ""))
    before = setting.value_in(Settings.from_environment())
    monkeypatch.setenv(setting.variable, another(setting))
    after = setting.value_in(Settings.from_environment())
    assert after != before
    assert setting.info.description


def test_the_strongest_spelling_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spellings = [KEY, f"{KEY}_FILE", "ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY_FILE"]
    for name in spellings:
        file = tmp_path / name
        file.write_text(f"{name}\n")
        monkeypatch.setenv(name, str(file) if name.endswith("_FILE") else name)
    for name in spellings:
        assert Settings.from_environment().anthropic.api_key == SecretStr(name)
        monkeypatch.setenv(name, " \n")
    assert Settings.from_environment().anthropic.api_key is None


def test_both_bare_names_of_google_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "second")
    assert Settings.from_environment().google.api_key == SecretStr("second")
    monkeypatch.setenv("GOOGLE_API_KEY", "first")
    assert Settings.from_environment().google.api_key == SecretStr("first")


def test_a_bare_name_precedes_the_file_of_another_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file")
    monkeypatch.setenv("GOOGLE_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("GEMINI_API_KEY", "bare")
    assert Settings.from_environment().google.api_key == SecretStr("bare")


@pytest.mark.parametrize("form", ["{},{}", "{}, {}", "{},{},", '["{}", "{}"]'])
def test_a_list_is_comma_separated_or_json(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS", form.format("[::1]:9093", "kafka-1:9092"))
    monkeypatch.setenv(f"{PREFIX}PROVIDER_PRIORITY_ORDER", form.format("openai", "google"))
    settings = Settings.from_environment()
    assert settings.events.kafka_servers == ("[::1]:9093", "kafka-1:9092")
    assert settings.selection.priority_order == (ProviderName.OPENAI, ProviderName.GOOGLE)


@pytest.mark.parametrize("setting", [row for row in settings_table() if row.is_list], ids=lambda row: row.field)
def test_a_list_of_nothing_but_commas_is_refused(setting: Setting, refused: Refused) -> None:
    """Administrators might be let in from everywhere, although the operator named variables to say from where."""
    assert refused(prefix="", **{setting.variable: " , ,"}) == f"{setting.variable}: holds nothing but commas."


def test_who_has_a_key_or_a_url_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "key")
    monkeypatch.setenv(f"{PREFIX}INTERNAL_MODEL_BASE_URL", "http://localhost:8000/v1")
    expected = {ProviderName.OPENROUTER, ProviderName.INTERNAL}
    assert Settings.from_environment().configured_providers() == expected


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("PROT", "PORT"), ("ANTROPIC_API_KEY", "ANTHROPIC_API_KEY"), ("drain_grace_s", "DRAIN_GRACE_S")],
)
def test_a_misspelt_variable_is_refused_with_a_guess(misspelt: str, meant: str, refused: Refused) -> None:
    assert re.match(rf"{PREFIX}{misspelt}: .*did you mean {PREFIX}{meant}\?", refused(**{misspelt: CANARY}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", CANARY),
        ("USE_MOCK_LLM", CANARY),
        ("LOCAL_CACHE_SIZE_MB", "1.5"),
        ("MOCK_ERROR_RATE", f"0.{CANARY}"),
        ("LLM_REQUEST_TIMEOUT", "-1"),
        ("LOG_LEVEL", CANARY),
        ("PROVIDER_SELECTION_STRATEGY", CANARY),
        ("DEFAULT_LLM_PROVIDER", CANARY),
        ("LLM_REQUEST_TIMEOUT", "inf"),
        ("LLM_REQUEST_TIMEOUT", "nan"),
        ("LLM_DEFAULT_TEMPERATURE", "2.1"),
        ("ENVIRONMENT", CANARY),
        *(("REVISION", f"{CANARY}{rest}") for rest in ("/1", "+1", " 1", "x" * 64)),
        ("DEFAULT_LLM_PROVIDER", "mock"),
        ("PROVIDER_PRIORITY_ORDER", "openai,mock"),
        ("ROUTING_RULES", '[{"user_id": "u", "provider": "openai"}, {"provider": "mock"}]'),
        ("ROUTING_RULES", '[{"provider": "openai", "min_characters": 2, "max_characters": 1}]'),
        ("ROUTING_RULES", '[{"provider": "openai", "max_characters": 0}]'),
        ("PROVIDER_PRIORITY_ORDER", "openai,openai"),
        ("PROVIDER_PRIORITY_ORDER", f'["{CANARY}"]'),
        ("PROVIDER_PRIORITY_ORDER", f'["{CANARY}'),
        ("PROVIDER_PRIORITY_ORDER", f"[{CANARY}]"),
        ("PROVIDER_PRIORITY_ORDER", ","),
        ("OPENAI_DEFAULT_MODEL", f"{CANARY} x"),
        *((f"{name}_DEFAULT_MODEL", f"{CANARY}/../x") for name in VENDORS),
        ("INTERNAL_MODEL_NAME", f"{CANARY}/../x"),
        ("INTERNAL_MODEL_BASE_URL", f"ftp://{CANARY}"),
        ("OTLP_ENDPOINT", f"http://user:{CANARY}@jaeger:4318"),
        ("KAFKA_BOOTSTRAP_SERVERS", CANARY),
        ("KAFKA_BOOTSTRAP_SERVERS", f"user:{CANARY}@kafka:9092"),
        *(("KAFKA_BOOTSTRAP_SERVERS", f"{CANARY}{rest}") for rest in (":0", ":99999", "..a:9092", "x" * 60 + ":9092")),
        ("KAFKA_SASL_MECHANISM", CANARY),
        ("OPENAI_API_KEY_FILE", f"/nowhere/{CANARY}"),
        ("OPENAI_ORG_ID", f"{CANARY}\r\nX-Evil: 1"),
        ("PRICE_OVERRIDES", f"{{{CANARY}"),
        *(
            ("PRICE_OVERRIDES", f'{{"{key}": {{"input": 1, "output": 2}}}}')
            for key in (CANARY, f"{CANARY}/x", "openai/")
        ),
    ],
)
def test_a_wrong_value_is_named_and_never_shown(name: str, value: str, refused: Refused) -> None:
    assert refused(**{name: value}).startswith(f"{PREFIX}{name}: ")


@pytest.mark.parametrize("name", sorted(known_variables(settings_table())))
def test_a_value_that_is_no_utf_8_is_refused(name: str, refused: Refused) -> None:
    assert refused(prefix="", **{name: f"{CANARY}\udcff"}) == f"{name}: is not text in UTF-8."


def test_an_unknown_variable_whose_name_is_no_utf_8_is_refused_legibly(refused: Refused) -> None:
    assert (
        refused(**{"P\udcffRT": "8080"}) == rf"{PREFIX}P\xffRT: there is no such setting (did you mean {PREFIX}PORT?)."
    )


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("PRICE_OVERRIDES", '{"m-x": {"input": 1}}', "m-x.output"),
        *(("PRICE_OVERRIDES", f'{{"m-x": {{"input": {no}, "output": 2}}}}', "m-x.input") for no in ("true", '"1"')),
        *(
            ("PRICE_OVERRIDES", dumps({"m-x": {"input": 1e9, "output": 0, kind: 1e9 + 1}}).decode(), f"m-x.{kind}")
            for kind in PriceOverride.model_fields
        ),
        ("ROUTING_RULES", '[{"user_id": "u", "provider": "openai"}, {"user_id": "v"}]', "1.provider"),
        *(
            ("ROUTING_RULES", f'[{{"provider": "openai", "{limit}": {2**63}}}]', f"0.{limit}")
            for limit in ("min_characters", "max_characters")
        ),
        ("COST_ALERT_LEVELS", "0.5,7", "1"),
    ],
)
def test_a_wrong_part_of_a_value_is_told_by_its_place(name: str, value: str, place: str, refused: Refused) -> None:
    assert re.fullmatch(rf"{PREFIX}{name}: .* \(at {place}\)\.", refused(**{name: value}))


@pytest.mark.parametrize(("name", "taken", "beyond"), BOUNDS)
def test_a_number_is_bounded(
    name: str, taken: str, beyond: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + name, taken)
    Settings.from_environment()
    assert refused(**{name: beyond}).startswith(f"{PREFIX}{name}: ")


def test_a_build_may_be_named_by_the_tag_of_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}REVISION", "release_2026-12.1")
    assert Settings.from_environment().service.version == f"{VERSION}+release_2026-12.1"


def test_the_vendors_are_asked_where_their_own_clients_ask() -> None:
    assert Settings.from_environment().base_urls() == {
        ProviderName.ANTHROPIC: "https://api.anthropic.com",
        ProviderName.OPENAI: "https://api.openai.com/v1",
        ProviderName.GOOGLE: "https://generativelanguage.googleapis.com",
        ProviderName.OPENROUTER: "https://openrouter.ai/api/v1",
        ProviderName.INTERNAL: None,
    }


def test_a_secret_file_that_cannot_be_read_is_named_by_the_variable_that_names_it(
    refused: Refused, tmp_path: Path
) -> None:
    assert refused(prefix="", OPENAI_API_KEY_FILE=str(tmp_path / CANARY)).startswith("OPENAI_API_KEY_FILE: ")


def test_an_empty_secret_file_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" \n")
    assert refused(ANTHROPIC_API_KEY_FILE=str(tmp_path / "key")).startswith(f"{KEY}_FILE: the file is empty")


def test_a_byte_order_mark_is_no_part_of_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The administrator's key may hold any character, so nobody would be let in, and nothing would say why."""
    (tmp_path / "key").write_text("administrator's own key\r\n", encoding="utf-8-sig")
    monkeypatch.setenv("LLM_ADMIN_API_KEY_FILE", str(tmp_path / "key"))
    assert Settings.from_environment().admin.api_key == SecretStr("administrator's own key")


@pytest.mark.parametrize("surplus", ["x", " ", "é"])
def test_a_secret_file_that_is_too_large_is_refused_and_never_cut(
    surplus: str, refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("x" * MAX_SECRET_BYTES)
    monkeypatch.setenv(f"{KEY}_FILE", str(file))
    assert Settings.from_environment().anthropic.api_key == SecretStr("x" * MAX_SECRET_BYTES)
    file.write_text("x" * MAX_SECRET_BYTES + surplus)
    assert refused() == f"{KEY}_FILE: the file is larger than 65536 bytes."


def test_all_that_is_wrong_is_told_in_one_message(refused: Refused, tmp_path: Path) -> None:
    wrong = {
        "PORT": f"{CANARY}",
        "LLM_CACHE_TTL": "-1",
        "PROVIDER_PRIORITY_ORDER": f'["{CANARY}',
        "OPENAI_API_KEY_FILE": str(tmp_path / CANARY),
        "PROT": CANARY,
        "SOMETHING_ELSE": CANARY,
    }
    told = [line.partition(":")[0] for line in refused(**wrong).splitlines()]
    assert sorted(told) == sorted(PREFIX + name for name in wrong)


def test_no_rendering_of_the_settings_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (KEY, "LLM_ADMIN_API_KEY", f"{PREFIX}KAFKA_SASL_PASSWORD"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", f"redis://:{CANARY}@localhost")
    settings = Settings.from_environment()
    assert CANARY not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


def test_no_variable_is_claimed_twice() -> None:
    assert len(known_variables(settings_table())) == sum(len(list(setting.spellings())) for setting in settings_table())


@pytest.mark.parametrize("key", ["first line\nsecond line", "schlüssel", "tab\there"])
def test_a_key_that_does_not_fit_into_a_header_is_refused_unseen(key: str, refused: Refused) -> None:
    told = refused(prefix="", OPENAI_API_KEY=key)
    assert "OPENAI_API_KEY" in told
    assert key not in told


@pytest.mark.parametrize("between", ["\n", "\r\n", "\x1b", "\x7f"])
def test_an_administrator_s_key_that_no_header_can_hold_is_refused_unseen(
    between: str, refused: Refused, tmp_path: Path
) -> None:
    """Nobody could act as administrator, and nothing would say why."""
    (tmp_path / "key").write_bytes(f"{CANARY * 2}{between}{CANARY}\n".encode())
    told = refused(prefix="", LLM_ADMIN_API_KEY_FILE=str(tmp_path / "key"))
    assert told.startswith("LLM_ADMIN_API_KEY_FILE: must be one line")


def test_an_administrator_s_key_may_hold_any_other_character(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "schlüssel 中文\tund noch mehr davon"
    monkeypatch.setenv("LLM_ADMIN_API_KEY", key)
    assert Settings.from_environment().admin.key_in_force == SecretStr(key)


@pytest.mark.parametrize(
    ("url", "prefix", "in_force"),
    [
        ("redis+cluster://one", "llm_cache", "{llm_cache}"),
        ("redis+cluster://one", "a:{b}", "a:{b}"),
        ("redis+cluster://one", "a{}b", "{a{}b}"),
        ("redis+cluster://one", "a}b{", "{a}b{}"),
        ("redis+sentinel://one/primary", "llm_cache", "llm_cache"),
        ("redis://one", "llm_cache", "llm_cache"),
    ],
)
def test_a_cluster_keeps_all_keys_in_one_slot(
    url: str, prefix: str, in_force: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", url)
    monkeypatch.setenv(f"{PREFIX}CACHE_KEY_PREFIX", prefix)
    assert Settings.from_environment().cache.prefix == in_force


@pytest.mark.parametrize("prefix", ["a b", "x" * 65, "newline\nx"])
def test_a_key_prefix_is_a_short_word(prefix: str, refused: Refused) -> None:
    assert refused(CACHE_KEY_PREFIX=prefix).startswith(f"{PREFIX}CACHE_KEY_PREFIX: ")


def test_an_empty_variable_leaves_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}CACHE_KEY_PREFIX", "")
    assert Settings.from_environment().cache.key_prefix == "llm_cache"


@pytest.mark.parametrize(
    ("enabled", "key", "in_force"),
    [
        ("true", "x" * 24, SecretStr("x" * 24)),
        ("true", "x" * 23, None),
        ("true", "", None),
        ("false", "x" * 24, None),
    ],
)
def test_admin_routes_need_to_be_enabled_and_a_long_key(
    enabled: str, key: str, in_force: SecretStr | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}ADMIN_API_ENABLED", enabled)
    monkeypatch.setenv("LLM_ADMIN_API_KEY", key)
    assert Settings.from_environment().admin.key_in_force == in_force


def test_the_largest_body_must_fit_into_the_memory_for_requests_whichever_is_set(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}MAX_REQUEST_BYTES", str(4 * 1024 * 1024))
    assert Settings.from_environment().service.max_memory_mb == 128
    told = refused(MAX_REQUEST_BYTES=str(4 * 1024 * 1024 + 1))
    assert "MAX_REQUEST_MEMORY_MB: must be at least 32 times MAX_REQUEST_BYTES" in told
