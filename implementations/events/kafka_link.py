"""The one user of aiokafka: a producer as the sender wants it, and its failures in four words.

The producer is idempotent: while it lives it repeats what was not acknowledged, in order and without doubling it.
A connection lost is therefore no failure here, only a long wait; a failure says that this producer is of no more use.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # it has no py.typed
from aiokafka.errors import (  # type: ignore[import-untyped]  # likewise
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    IllegalSaslStateError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RecordTooLargeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
)

from implementations.events.kafka_security import Security
from implementations.events.message import Message

REQUEST_TIMEOUT_MS = 5000
RETRY_BACKOFF_MS = 250
OPEN_TIMEOUT_S = 10.0
POST_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.5
MAX_BATCH_BYTES = 16_384
ONE_BY_ONE_BYTES = 1  # a batch always takes its first message, however large

TOO_LARGE = (MessageSizeTooLargeError, RecordTooLargeError, RecordListTooLargeError)
NOT_ALLOWED = (TopicAuthorizationFailedError,)
NOT_THERE = (UnknownTopicOrPartitionError, InvalidTopicError)
REFUSES_US = (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    ssl.SSLError,
)


class LinkFailure(Exception):  # noqa: N818  the four below say how it ends
    """What aiokafka reports, without its text."""


class TooLarge(LinkFailure):
    """The message, or the batch that it was in, is larger than a producer or a topic takes."""


class TopicMissing(LinkFailure):
    """There is no such topic."""


class Forbidden(LinkFailure):
    """We may not: on a topic, or at all."""


class LinkDown(LinkFailure):
    """Anything else."""


class _Witness(logging.Handler):
    """Sees in aiokafka's lines why we are refused, which its exceptions do not say. Our own log says it once."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = False
        lines = logging.getLogger("aiokafka")
        lines.propagate = False
        lines.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        told = record.args if isinstance(record.args, tuple) else ()
        self.refused = self.refused or any(isinstance(one, REFUSES_US) for one in told)


class KafkaLink:
    """servers: comma-separated. Open it, post, close it; then it can be opened again."""

    def __init__(self, servers: str, security: Security, *, client_id: str) -> None:
        self._servers = servers
        self._security = security
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._witness = _Witness()

    async def open(self, *, one_by_one: bool) -> None:
        """Connect. one_by_one: no batches, so that a refusal concerns one message. Raises Forbidden or LinkDown."""
        self._witness.refused = False
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            max_batch_size=ONE_BY_ONE_BYTES if one_by_one else MAX_BATCH_BYTES,
            **self._security.arguments,
        )
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await producer.start()
        except (KafkaError, OSError, TimeoutError):
            await _stopped(producer)
            raise (Forbidden if self._witness.refused else LinkDown) from None
        except BaseException:
            await _stopped(producer)
            raise
        self._producer = producer

    async def post(self, message: Message) -> asyncio.Future[None]:
        """Hand it over; the future ends when all replicas have it, or with an exception that `translated` reads.

        Raises a LinkFailure when it was not taken.
        """
        producer = self._producer
        if producer is None:
            raise LinkDown
        try:
            async with asyncio.timeout(POST_TIMEOUT_S):
                posted: asyncio.Future[None] = await producer.send(
                    message.event.topic, message.encoded(), key=message.key, headers=message.headers()
                )
        except (KafkaError, OSError, TimeoutError) as error:
            failure = link_failure(error)
            if isinstance(failure, TopicMissing) and not await producer.client.force_metadata_update():
                failure = LinkDown()  # nobody answers, so nobody said that there is no such topic
            raise failure from None
        return posted

    async def close(self) -> None:
        """Leave, in bounded time, whether or not the brokers answer. What is not acknowledged fails."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)


def link_failure(error: BaseException) -> LinkFailure:
    """What an exception of aiokafka means to us."""
    table: tuple[tuple[tuple[type[BaseException], ...], Callable[[], LinkFailure]], ...] = (
        (TOO_LARGE, TooLarge),
        (NOT_THERE, TopicMissing),
        (NOT_ALLOWED, Forbidden),
        (REFUSES_US, Forbidden),
    )
    return next((failure() for kinds, failure in table if isinstance(error, kinds)), LinkDown())


async def _stopped(producer: AIOKafkaProducer) -> None:
    """End a producer. One whose brokers are away waits for them for ever, so after a while what it holds is failed.

    aiokafka offers no public way to give up: the accumulator's `fail_all` is what it calls itself when it breaks down.
    """
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await asyncio.shield(stopping := asyncio.ensure_future(producer.stop()))
    except (TimeoutError, asyncio.CancelledError) as interruption:
        producer._message_accumulator.fail_all(KafkaError())  # noqa: SLF001  see above
        producer._sender.sender_task and producer._sender.sender_task.cancel()  # noqa: SLF001  likewise
        await producer.client.close()
        await asyncio.wait([stopping], timeout=CLOSE_TIMEOUT_S)
        stopping.cancel()
        if isinstance(interruption, asyncio.CancelledError):
            raise
    except (KafkaError, OSError):
        return
