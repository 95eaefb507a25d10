"""The container: what it gives is made at once, so it needs no lock against making it twice."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from config import Settings
from di import create_container
from implementations.background.supervisor import Supervisor
from implementations.steering.follower import Follower
from protocols import LLMOrchestratorProtocol, LLMProviderTesterProtocol
from tests.integration.service_process import prefixed


@pytest.mark.parametrize("wanted", [LLMOrchestratorProtocol, LLMProviderTesterProtocol, Supervisor, Follower])
async def test_nothing_waits_while_it_is_made(wanted: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = prefixed(
        USE_MOCK_LLM="true",
        REDIS_URL="redis://nowhere.invalid",
        KAFKA_BOOTSTRAP_SERVERS="nowhere.invalid:9092",
        EVENT_SPOOL_PATH=str(tmp_path / "spool.sqlite"),
        OTLP_ENDPOINT="http://nowhere.invalid",
    )
    for name, value in everything.items():
        monkeypatch.setenv(name, value)
    container = create_container(Settings.from_environment())
    making: Coroutine[Any, Any, object] = container.get(wanted)
    with pytest.raises(StopIteration):  # the end of a coroutine that never gave way
        making.send(None)
    await container.close()
