"""What the integration tests share: the service's event loop, a broker, and that nothing private is written."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from quart.typing import TestClientProtocol as Client

from implementations.background.event_loop import EventLoop
from implementations.resilience import call
from implementations.shared_state import connections, lateness, shared_redis, write_behind
from tests.integration.contract import mocked, serving
from tests.integration.dialects import CANARIES
from tests.integration.kafka_broker import Broker, broker, mock_broker
from tests.integration.redis_server import PASSWORD, RedisServer, redis_server


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The service's loop, which treats connections that break unlike asyncio's; the load generator runs on that one."""
    if item.path.name == "test_bench_load.py":
        return {"asyncio": asyncio.new_event_loop}
    return {"EventLoop": EventLoop}


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The one broker of this run; it says past the capturing which one it is."""
    capturing = request.config.pluginmanager.getplugin("capturemanager")

    def tell(line: str) -> None:
        with capturing.global_and_fixture_disabled():
            sys.stderr.write(f"\n{line}\n")

    with broker(tmp_path_factory.mktemp("kafka"), tell) as found:
        yield found


@pytest.fixture
def perishable(kafka: Broker) -> Iterator[Broker]:
    """A broker that the test may let die: that of this run when it is ours, else the mock cluster; it is left alive."""
    if not kafka.can_die:
        with mock_broker() as other:
            yield other
        return
    yield kafka
    if not kafka.answers():
        kafka.start()


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """Ask a service in which the mock judges and never fails."""
    async with serving(mocked(monkeypatch)) as asked:
        yield asked


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of its own for each test, because many break it."""
    with redis_server(tmp_path, "--enable-debug-command", "yes") as running:
        yield running


@pytest.fixture
def locked_server(tmp_path: Path) -> Iterator[RedisServer]:
    """One that wants a password, which nothing may show."""
    with redis_server(tmp_path, "--enable-debug-command", "yes", password=PASSWORD) as running:
        yield running


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with something else is no Redis that fails."""
    monkeypatch.setattr(connections, "TURN_S", 30.0)
    monkeypatch.setattr(shared_redis, "REDIS_TIMEOUT_S", 30.0)
    monkeypatch.setattr(call, "REDIS_TIMEOUT_S", 30.0)
    monkeypatch.setattr(lateness, "SLOW_S", 30.0)
    monkeypatch.setattr(write_behind, "FINISH_S", 30.0)


@pytest.fixture
def nothing_private_is_written(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Fails a test in which a text of a caller or a provider, or a key, got into the log."""
    yield
    written = capsys.readouterr()
    assert not [canary for canary in CANARIES if canary in (written.out + written.err).lower()]
