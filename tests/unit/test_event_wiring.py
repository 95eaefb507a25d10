"""How the events are put together: with Kafka, without it, and switched off."""

from pathlib import Path

import pytest
from aiokafka.errors import (  # type: ignore[import-untyped]  # it has no py.typed
    MessageSizeTooLargeError,
    NodeNotReadyError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from api_models import CacheMiss, DependencyStatus
from config import MIB, Settings
from di import create_container
from environment import PREFIX
from implementations.events.kafka_failures import (
    Forbidden,
    LinkDown,
    LinkFailure,
    TooLarge,
    TopicMissing,
    Unanswered,
    link_failure,
)
from implementations.events.outbox import KafkaOutbox, NoOutbox, Outbox
from metrics import Metrics
from protocols import LLMEventPublisherProtocol
from tests.fakes import CORRELATION_ID, sample
from tests.in_process import settings_of
from tests.kafka_fakes import miss


async def test_with_kafka_what_is_published_waits_for_it_and_is_counted_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    container = create_container(Settings.from_environment())
    events, outbox = await container.get(LLMEventPublisherProtocol), await container.get(Outbox)
    metrics = await container.get(Metrics)
    events.publish(miss(1))

    assert isinstance(outbox, KafkaOutbox)
    assert set(outbox.tasks()) == {"event_sender"}
    assert events.health().kafka is DependencyStatus.UNHEALTHY
    assert sample(metrics, "llm_provider_events_queue_depth") == 1.0
    await container.close()
    assert sample(metrics, "llm_provider_events_lost_at_exit_total") == 1.0


async def test_a_queue_of_any_length_holds_no_more_than_64_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv(f"{PREFIX}KAFKA_FALLBACK_QUEUE_SIZE", "1000000")
    container = create_container(Settings.from_environment())
    events, metrics = await container.get(LLMEventPublisherProtocol), await container.get(Metrics)
    large = CacheMiss(provider=None, correlation_id=CORRELATION_ID, cache_key="k", metadata={"note": "x" * 1_000_000})
    for _ in range(70):
        events.publish(large)

    queued = sample(metrics, "llm_provider_events_queue_size_bytes")
    assert queued is not None
    assert 62 * MIB < queued <= 64 * MIB
    assert sample(metrics, "llm_provider_events_dropped_total", topic=large.event.topic, reason="overflow") == 3.0
    await container.close()


WITHOUT_KAFKA = pytest.mark.parametrize(
    "variables",
    [{}, {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "PUBLISH_LLM_USAGE_EVENTS": "false"}],
    ids=["without Kafka", "switched off"],
)


@WITHOUT_KAFKA
async def test_without_kafka_nothing_waits(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    container = create_container(Settings.from_environment())
    events, outbox = await container.get(LLMEventPublisherProtocol), await container.get(Outbox)
    events.publish(miss(1))
    await outbox.flush()

    assert isinstance(outbox, NoOutbox)
    assert not outbox.tasks()
    assert events.health().kafka is DependencyStatus.DISABLED
    await container.close()


@WITHOUT_KAFKA
def test_without_kafka_no_spool_is_opened(variables: dict[str, str], tmp_path: Path) -> None:
    create_container(settings_of(**variables, EVENT_SPOOL_PATH=str(tmp_path / "spool.db")))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MessageSizeTooLargeError(), TooLarge),
        (UnknownTopicOrPartitionError(), TopicMissing),
        (TopicAuthorizationFailedError("t"), Forbidden),
        (SaslAuthenticationFailed(), Forbidden),
        (NodeNotReadyError(), LinkDown),
        (OSError(), LinkDown),
        (TimeoutError(), Unanswered),
    ],
)
def test_what_aiokafka_reports_has_one_of_five_meanings(error: BaseException, failure: type[LinkFailure]) -> None:
    found = link_failure(error)
    assert (type(found), found.reason) == (failure, type(error).__name__)
