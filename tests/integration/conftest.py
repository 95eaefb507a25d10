"""The servers that the integration tests share."""

import sys
from collections.abc import Iterator

import pytest

from tests.integration.kafka_broker import Broker, broker, mock_broker


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
