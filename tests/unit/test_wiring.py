"""The container: what it gives is made at once, so it needs no lock; it reads every setting; their digest."""

import asyncio
import re
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Gauge
from structlog.testing import capture_logs

import di
import protocols
import startup_setup
from api_models import CircuitState, DegradedMode, ProviderName
from config import Settings, settings_table
from di import create_container
from environment import PREFIX, Group, Setting
from implementations.access.keys_file import KeysFile
from implementations.accounting.alerts import Alerts
from implementations.accounting.budget import Budget
from implementations.accounting.shared_ledger import SharedLedger
from implementations.background.stop_signals import StopSignals
from implementations.background.supervisor import Supervisor
from implementations.circuit_steering_impl import CircuitSteeringImpl
from implementations.event_publisher_impl import EventPublisherImpl
from implementations.events.outbox import KafkaOutbox, Outbox
from implementations.resilience.circuit_breaker import CircuitBreaker, CircuitRules
from implementations.resilience.provider_guards import Guards, guards_of
from implementations.runtime_settings_impl import RuntimeSettingsImpl
from implementations.shared_state.primary import Primary
from implementations.shared_state.shared_redis import SharedRedis
from implementations.shared_state.write_behind import WriteBehind
from implementations.wire.transport import Transport
from metrics import Metrics
from startup_setup import create_app
from tests.fakes import query, sample
from tests.in_process import settings_of
from tests.integration.dialects import DIALECTS
from tests.integration.service_process import prefixed
from tests.monitoring_files import RUNBOOK

HANDLERS = Path(__file__).parents[2] / "api"
ELSEWHERE: tuple[type, ...] = (
    *(Supervisor, StopSignals, EventPublisherImpl, Outbox, Metrics, Settings),
    *(protocols.CallerAccessProtocol, protocols.TracerProtocol),
)


class AwakeError(Exception):
    """Ends what would never end."""


def wanted() -> list[type]:
    """What handlers and the start ask for."""
    by_handlers = {
        name for path in HANDLERS.glob("*.py") for name in re.findall(r"FromDishka\[(\w+)\]", path.read_text())
    }
    named = {one.__name__ for one in ELSEWHERE}
    return [*ELSEWHERE, *(getattr(protocols, name) for name in sorted(by_handlers - named))]


def everything(folder: Path, **more: str) -> Settings:
    """With which every part of the service is in use."""
    return settings_of(
        USE_MOCK_LLM="true",
        REDIS_URL="redis://nowhere.invalid",
        KAFKA_BOOTSTRAP_SERVERS="nowhere.invalid:9092",
        KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT",
        KAFKA_SASL_USERNAME="somebody",
        KAFKA_SASL_PASSWORD="a password",  # noqa: S106
        EVENT_SPOOL_PATH=str(folder / "spool.sqlite"),
        OTLP_ENDPOINT="http://nowhere.invalid",
        ADMIN_API_KEY="an-administrator-s-key-of-some-length",
        **more,
    )


async def test_nothing_waits_while_it_is_made(tmp_path: Path) -> None:
    container = create_container(everything(tmp_path))
    for kind in wanted():
        making: Coroutine[Any, Any, object] = container.get(kind)
        with pytest.raises(StopIteration):  # the end of a coroutine that never gave way
            making.send(None)
    await container.close()


async def test_every_setting_is_read_by_what_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = everything(tmp_path)
    read: set[tuple[type, str]] = set()
    attribute = Group.__getattribute__

    def noted(group: Group, name: str) -> Any:
        caller = sys._getframe(1)  # noqa: SLF001
        if caller.f_code is not Setting.value_in.__code__:  # that reads them all, for reports
            read.add((type(group), name))
        return attribute(group, name)

    monkeypatch.setattr(Group, "__getattribute__", noted)
    create_app(settings)
    container = create_container(settings)
    for kind in wanted():
        await container.get(kind)
    await container.close()
    table = settings_table()
    unread = [one.variable for one in table if (type(getattr(settings, one.group)), one.field) not in read]
    assert set(unread) == {*prefixed(HOST="", PORT="", TRUSTED_PROXIES="")}, "read at the start: who reads the others?"


async def test_every_degraded_mode_is_asked_for_when_it_is_scraped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Gauge]()
    monkeypatch.setattr(Gauge, "set_function", lambda gauge, _: asked.append(gauge))
    container = create_container(everything(tmp_path))
    for kind in wanted():
        await container.get(kind)
    gauges = (await container.get(Metrics)).degraded_mode
    await container.close()
    assert [mode for mode in DegradedMode if gauges.of(mode) not in asked] == [], "no `set_function` was called for it"


async def test_every_provider_has_a_judge_and_every_vendor_s_dialect_its_place_in_the_tables() -> None:
    container = create_container(Settings())
    assert set(await container.get(protocols.Judges)) == set(ProviderName)
    await container.close()
    assert {dialect.name for dialect in DIALECTS} == set(ProviderName) - {ProviderName.MOCK}


async def test_prices_are_those_of_the_address_at_which_a_provider_is_asked() -> None:
    prices = {}
    for region in ("", "eu."):
        container = create_container(settings_of(OPENAI_BASE_URL=f"https://{region}api.openai.com/v1"))
        prices[region] = (await container.get(protocols.PricesProtocol)).rates(ProviderName.OPENAI, "gpt-6-luna")
        await container.close()
    assert prices["eu."] != prices[""]


async def test_a_question_names_the_address_at_which_its_judge_is_asked() -> None:
    """Replicas that ask different servers for the same model share one Redis, but no answers."""
    addresses = {f"{each.group}_BASE_URL": f"http://{each.name}{each.base}" for each in DIALECTS}
    container = create_container(settings_of(**addresses))
    builder = await container.get(protocols.LLMRequestBuilderProtocol)
    choices = [protocols.Choice(provider=dialect.name) for dialect in DIALECTS]
    built = builder.build(query(), choices, (await container.get(protocols.RuntimeSettingsProtocol)).current())
    assert [request.base_url for request, _ in built] == [*addresses.values()]
    await container.close()


async def test_the_runbook_says_what_is_missing_without_each_background_task(tmp_path: Path) -> None:
    container = create_container(everything(tmp_path))
    tasks = (await container.get(Supervisor))._works  # noqa: SLF001
    await container.close()
    paragraph = RUNBOOK.read_text().partition("### Background task down")[2].partition("###")[0]
    assert len(tasks) > 5
    assert [name for name in tasks if f"`{name}`" not in paragraph] == []


async def test_what_the_background_tasks_of_a_fixed_rhythm_do_and_how_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(f'{{"one": ["{"ab" * 32}"]}}')
    monkeypatch.setenv(f"{PREFIX}CALLER_API_KEYS_FILE", str(keys))
    taken: list[object] = []

    async def pause(seconds: float) -> None:
        taken.append(seconds)
        if taken.count(seconds) == 2:
            raise AwakeError

    def step(kind: type, name: str) -> None:
        async def take(_: object) -> None:
            taken.append(f"{kind.__name__}.{name}")

        monkeypatch.setattr(kind, name, take)

    step(Budget, "refresh")
    step(SharedLedger, "send")
    step(Alerts, "check")
    step(RuntimeSettingsImpl, "poll")
    step(CircuitSteeringImpl, "poll")
    step(KeysFile, "reload")
    step(EventPublisherImpl, "publish_usage")
    monkeypatch.setattr(asyncio, "sleep", pause)
    container = create_container(everything(tmp_path, AUTH_MODE="api_key"))
    tasks = (await container.get(Supervisor))._works  # noqa: SLF001
    done: dict[str, list[object]] = {}
    for name in ("bookkeeper", "usage_analytics", "steering", "caller_keys", "loop_lag"):
        with pytest.raises(AwakeError):
            await tasks[name]()
        done[name], taken = taken, []
    await container.close()
    assert done == {
        "bookkeeper": ["Budget.refresh", "SharedLedger.send", "Alerts.check", 2.0] * 2,
        "usage_analytics": [60.0, "EventPublisherImpl.publish_usage", 60.0],
        "steering": ["RuntimeSettingsImpl.poll", "CircuitSteeringImpl.poll", 2.0] * 2,
        "caller_keys": ["KeysFile.reload", 5.0] * 2,
        "loop_lag": [0.1] * 2,
    }


async def test_everything_is_built_before_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}ADMIN_API_KEY", "an-administrator-s-key-of-some-length")
    app = create_app(Settings.from_environment())
    async with app.test_app():
        for name, kind in vars(di).items():
            if isinstance(kind, type):
                monkeypatch.setattr(di, name, None)  # so that building one fails
        for kind in wanted():
            await app.context.g.dishka_container.get(kind)


async def test_what_operators_have_changed_is_in_force_before_the_first_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    async def polled(one: object) -> None:
        done.append(type(one).__name__)

    for kind in (RuntimeSettingsImpl, CircuitSteeringImpl):
        monkeypatch.setattr(kind, "poll", polled)
    monkeypatch.setattr(Supervisor, "start", lambda _: done.append("the background tasks"))
    async with create_app(Settings()).test_app():
        assert done == ["RuntimeSettingsImpl", "CircuitSteeringImpl", "the background tasks"]


@pytest.mark.parametrize("end", [asyncio.CancelledError, OSError])
async def test_a_start_that_ends_halfway_closes_what_it_has_opened(
    end: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def failing(_: object) -> None:
        raise end

    async def stopped(_: object) -> None:
        done.append("stopped")

    monkeypatch.setattr(StopSignals, "take_over", failing)
    monkeypatch.setattr(Supervisor, "start", lambda _: done.append("started"))
    monkeypatch.setattr(Supervisor, "stop", stopped)
    with pytest.raises(end):
        await create_app(Settings()).startup()
    assert done == ["started", "stopped"]


async def test_what_does_not_close_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hanging(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(startup_setup, "CLOSE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(Supervisor, "start", lambda _: None)
    monkeypatch.setattr(Supervisor, "stop", hanging)
    app = create_app(Settings())
    await app.startup()
    with capture_logs() as lines:
        async with asyncio.timeout(10):
            await app.shutdown()
    assert [line["event"] for line in lines][-2:] == ["close_timed_out", "service_stopped"]


async def test_at_the_end_each_part_tells_what_is_left_to_tell_before_what_it_needs_for_that_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[type] = []

    def noting(kind: type) -> Callable[[object], Coroutine[Any, Any, None]]:
        async def ended(_: object) -> None:
            done.append(kind)

        return ended

    ends = {
        Supervisor: "stop",
        Budget: "finish",
        SharedLedger: "send",
        WriteBehind: "finish",
        SharedRedis: "close",
        Primary: "close",
        Transport: "close",
    }
    for kind, end in ends.items():
        monkeypatch.setattr(kind, end, noting(kind))
    monkeypatch.setattr(KafkaOutbox, "close", lambda _: done.append(KafkaOutbox))
    redis = "redis+sentinel://127.0.0.1:9/essays"
    container = create_container(settings_of(REDIS_URL=redis, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9"))
    await container.get(Supervisor)
    await container.close()
    assert len(done) == len(ends) + 1
    assert {*done} == {*ends, KafkaOutbox}
    assert done[0] is Supervisor
    shared = [WriteBehind, SharedRedis, Primary]
    assert [kind for kind in done if kind in shared] == shared
    assert max(done.index(Budget), done.index(SharedLedger)) < done.index(WriteBehind)


async def digest(**settings: str) -> str:
    container = create_container(settings_of(**settings))
    shown = (await container.get(Metrics)).exposition("text/plain")[0].decode()
    await container.close()
    return shown.partition('llm_provider_config_info{digest="')[2].partition('"')[0]


async def test_replicas_on_one_host_and_of_two_builds_show_one_digest_and_another_setting_shows(tmp_path: Path) -> None:
    replicas = [
        {
            "HOST": f"127.0.0.{port}",
            "PORT": str(port),
            "REVISION": f"build{port}",
            "EVENT_SPOOL_PATH": str(tmp_path / f"{port}.sqlite"),
            "OPENAI_API_KEY": "k" * port,
        }
        for port in (81, 82)
    ]
    one, two = [await digest(**settings) for settings in replicas]
    assert one == two
    assert one != await digest(**replicas[0], LLM_CACHE_TTL="60")


async def test_the_circuits_go_by_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(
        CIRCUIT_BREAKER_ENABLED="false",
        LLM_CIRCUIT_BREAKER_FAILURE_THRESHOLD="2",
        LLM_CIRCUIT_BREAKER_RECOVERY_TIMEOUT="3",
        LLM_CIRCUIT_BREAKER_SUCCESS_THRESHOLD="4",
        LLM_ATTEMPT_TIMEOUT="5",
        LLM_MAX_CONCURRENT_REQUESTS="6",
        MAX_IN_FLIGHT_REQUESTS="70",
        KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9",
        KAFKA_CIRCUIT_BREAKER_FAILURE_THRESHOLD="8",
        KAFKA_CIRCUIT_BREAKER_RECOVERY_TIMEOUT="9",
        KAFKA_CIRCUIT_BREAKER_SUCCESS_THRESHOLD="10",
    )
    providers: dict[ProviderName, tuple[CircuitRules, int, int]] = {}
    kafka: list[tuple[CircuitRules, CircuitBreaker]] = []

    def guards(name: ProviderName, rules: CircuitRules, *, slots: int, queue_limit: int, **others: Any) -> Guards:
        providers[name] = rules, slots, queue_limit
        return guards_of(name, rules, slots=slots, queue_limit=queue_limit, **others)

    def circuit(rules: CircuitRules, **others: Any) -> CircuitBreaker:
        made = CircuitBreaker(rules, **others)
        kafka.append((rules, made))
        return made

    monkeypatch.setattr(di, "guards_of", guards)
    monkeypatch.setattr(di, "CircuitBreaker", circuit)
    container = create_container(settings)
    for kind in (protocols.LLMProviderSelectorProtocol, Outbox):
        await container.get(kind)
    metrics = await container.get(Metrics)
    await container.close()
    rules = CircuitRules(counts=False, failure_threshold=2, recovery_s=3.0, success_threshold=4, probe_s=5.0)
    assert providers == dict.fromkeys(ProviderName, (rules, 6, 70 - 6))
    ((of_kafka, kafka_circuit),) = kafka
    assert (of_kafka.failure_threshold, of_kafka.recovery_s, of_kafka.success_threshold) == (8, 9.0, 10)
    assert of_kafka.longest_open_s == of_kafka.recovery_s
    with capture_logs() as lines:
        assert [kafka_circuit.acquire().failed() for _ in range(8)] == [False] * 7 + [True]
        kafka_circuit.reset()
    assert [(line["event"], line["before"], line["after"], line["log_level"]) for line in lines] == [
        ("kafka_circuit", "closed", "open", "warning"),
        ("kafka_circuit", "open", "closed", "info"),
    ]
    assert sample(metrics, "llm_provider_kafka_circuit_transitions_total", state=CircuitState.OPEN) == 1.0
