"""The container: what it gives is made at once, so it needs no lock; the digest of the settings it is made from."""

import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import protocols
from config import Settings
from di import create_container
from implementations.background.supervisor import Supervisor
from implementations.event_publisher_impl import EventPublisherImpl
from implementations.events.outbox import Outbox
from implementations.resilience.drain import Drain
from implementations.steering.follower import Follower
from metrics import Metrics
from tests.integration.service_process import prefixed

HANDLERS = Path(__file__).parents[2] / "api"
ELSEWHERE: tuple[type, ...] = (
    *(Supervisor, Follower, Drain, EventPublisherImpl, Outbox, Metrics, Settings),
    *(protocols.CallerAccessProtocol, protocols.TracerProtocol),
)


def wanted() -> list[type]:
    """What handlers and the start ask for."""
    by_handlers = {
        name for path in HANDLERS.glob("*.py") for name in re.findall(r"FromDishka\[(\w+)\]", path.read_text())
    }
    named = {one.__name__ for one in ELSEWHERE}
    return [*ELSEWHERE, *(getattr(protocols, name) for name in sorted(by_handlers - named))]


async def test_nothing_waits_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = prefixed(
        USE_MOCK_LLM="true",
        REDIS_URL="redis://nowhere.invalid",
        KAFKA_BOOTSTRAP_SERVERS="nowhere.invalid:9092",
        EVENT_SPOOL_PATH=str(tmp_path / "spool.sqlite"),
        OTLP_ENDPOINT="http://nowhere.invalid",
        ADMIN_API_KEY="an-administrator-s-key-of-some-length",
    )
    for name, value in everything.items():
        monkeypatch.setenv(name, value)
    container = create_container(Settings.from_environment())
    for kind in wanted():
        making: Coroutine[Any, Any, object] = container.get(kind)
        with pytest.raises(StopIteration):  # the end of a coroutine that never gave way
            making.send(None)
    await container.close()


async def digest(monkeypatch: pytest.MonkeyPatch, **settings: str) -> str:
    with monkeypatch.context() as environment:
        for name, value in prefixed(**settings).items():
            environment.setenv(name, value)
        container = create_container(Settings.from_environment())
    shown = (await container.get(Metrics)).exposition("text/plain")[0].decode()
    await container.close()
    return shown.partition('llm_provider_config_info{digest="')[2].partition('"')[0]


async def test_replicas_on_one_host_show_one_digest_and_another_setting_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicas = [
        {
            "HOST": f"127.0.0.{port}",
            "PORT": str(port),
            "EVENT_SPOOL_PATH": str(tmp_path / f"{port}.sqlite"),
            "OPENAI_API_KEY": "k" * port,
        }
        for port in (81, 82)
    ]
    one, two = [await digest(monkeypatch, **settings) for settings in replicas]
    assert one == two
    assert one != await digest(monkeypatch, **replicas[0], LLM_CACHE_TTL="60")
