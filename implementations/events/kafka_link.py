"""The link to Kafka: a producer of aiokafka's, configured.

The producer is idempotent: while it lives it retries what was not acknowledged, in order and without duplicates.
A lost connection is therefore not a failure here, only a long wait; a failure means that the producer is unusable.
"""

import asyncio

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # it has no py.typed
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # likewise

from api_models import ProcessingEvent
from implementations.events.kafka_failures import LinkDown, TopicMissing, Unanswered, link_failure
from implementations.events.kafka_repairs import FailureHandler, stop
from implementations.events.kafka_security import Security
from implementations.events.message import Message

REQUEST_TIMEOUT_MS = 5000
RETRY_BACKOFF_MS = 250
OPEN_TIMEOUT_S = 10.0
POST_TIMEOUT_S = 10.0
TOPICS = tuple(event.topic for event in ProcessingEvent)


class KafkaLink:
    """servers: comma-separated. Can be reopened after `close`."""

    def __init__(self, servers: str, security: Security, *, client_id: str) -> None:
        self._servers = servers
        self._security = security
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._failure_handler = FailureHandler()

    async def open(self) -> None:
        """Connect. Raises Forbidden or LinkDown."""
        self._failure_handler.failure = None
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            **self._security.arguments,
        )
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await producer.start()
        except (KafkaError, OSError) as error:
            await stop(producer)
            raise self._failure_handler.failure or link_failure(error) from None
        except BaseException:  # a cancelled start leaves tasks and sockets behind as well
            await stop(producer)
            raise
        producer.client.set_topics(TOPICS)  # else the first one that is missing would be all that it asks about
        self._producer = producer

    async def post(self, message: Message) -> asyncio.Future[None]:
        """Send it; the future ends when all in-sync replicas have it, or with an exception for `link_failure`.

        Raises a LinkFailure if it was not accepted.
        """
        producer = self._producer
        if producer is None:
            raise LinkDown("closed")
        try:
            async with asyncio.timeout(POST_TIMEOUT_S):
                posted: asyncio.Future[None] = await producer.send(
                    message.event.topic, message.encoded(), key=message.key, headers=message.headers()
                )
        except (KafkaError, OSError) as error:
            failure = link_failure(error)
            if isinstance(failure, TopicMissing) and not await _is_answered(producer):
                failure = Unanswered(failure.reason)  # the topic may exist
            raise failure from None
        return posted

    async def close(self) -> None:
        """Stop in bounded time, whether or not the brokers answer. Unacknowledged messages fail."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop(producer)


async def _is_answered(producer: AIOKafkaProducer) -> bool:
    """Whether a broker answers; one whose client is closed meanwhile would never say."""
    try:
        async with asyncio.timeout(POST_TIMEOUT_S):
            return bool(await producer.client.force_metadata_update())
    except TimeoutError:
        return False
