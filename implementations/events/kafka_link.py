"""The only user of aiokafka: a configured producer, and its failures in four classes.

The producer is idempotent: while it lives it retries what was not acknowledged, in order and without duplicates.
A lost connection is therefore not a failure here, only a long wait; a failure means that the producer is unusable.
"""

import asyncio
import logging
import ssl
from typing import Any, ClassVar

from aiokafka import AIOKafkaProducer, conn  # type: ignore[import-untyped]  # it has no py.typed
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

from api_models import EventDropReason
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


class LinkFailure(Exception):  # noqa: N818  its four subclasses have telling names
    """A failure of aiokafka. reason: the name of its exception, whose text may quote what is not for a log.

    waits_for: what events wait for until an operator mends it, None for what passes by itself.
    """

    waits_for: ClassVar[EventDropReason | None] = None

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooLarge(LinkFailure):
    """The message, or its batch, is larger than the producer or the topic accepts."""


class TopicMissing(LinkFailure):
    """The topic does not exist."""

    waits_for = EventDropReason.UNKNOWN_TOPIC


class Forbidden(LinkFailure):
    """Not authorized, for a topic or at all."""

    waits_for = EventDropReason.AUTH


class LinkDown(LinkFailure):
    """Any other failure."""


class _Witness(logging.Handler):
    """Detects refusals in aiokafka's log records, which its exceptions do not report; replaces its log output."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal: LinkFailure | None = None
        lines = logging.getLogger("aiokafka")
        lines.propagate = False
        lines.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        refusals = (link_failure(one) for one in arguments if isinstance(one, REFUSES_US))
        self.refusal = self.refusal or next(refusals, None)


class _Connection(conn.AIOKafkaConnection):  # type: ignore[misc]  # likewise
    """Closed when it is used after a reset, which aiokafka itself notices some turns of the event loop later.

    Until then uvloop refuses a write by a RuntimeError; aiokafka takes that for a defect and ends the producer (its
    issue 1038), so that what was sent but not acknowledged would be sent again by the next one.
    """

    def send(self, request: Any, expect_response: bool = True) -> Any:  # noqa: FBT001, FBT002  aiokafka's
        """Send it, or raise the error for a lost connection, after which aiokafka connects and sends again."""
        if self._writer is not None and self._writer.is_closing():
            self.close(reason=conn.CloseReason.CONNECTION_BROKEN)
        return super().send(request, expect_response)


conn.AIOKafkaConnection = _Connection  # where aiokafka looks it up when it connects


class KafkaLink:
    """servers: comma-separated. Can be reopened after `close`."""

    def __init__(self, servers: str, security: Security, *, client_id: str) -> None:
        self._servers = servers
        self._security = security
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._witness = _Witness()

    async def open(self, *, one_by_one: bool) -> None:
        """Connect. one_by_one: no batching, so that a failure concerns one message. Raises Forbidden or LinkDown."""
        self._witness.refusal = None
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
        except (KafkaError, OSError, TimeoutError) as error:
            await _stop(producer)
            raise self._witness.refusal or link_failure(error) from None
        except BaseException:  # a cancelled start leaves tasks and sockets behind as well
            await _stop(producer)
            raise
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
        except (KafkaError, OSError, TimeoutError) as error:
            failure = link_failure(error)
            if isinstance(failure, TopicMissing) and not await _is_answered(producer):
                failure = LinkDown(failure.reason)  # no broker answers, so the topic may exist
            raise failure from None
        return posted

    async def close(self) -> None:
        """Stop in bounded time, whether or not the brokers answer. Unacknowledged messages fail."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)


def link_failure(error: BaseException) -> LinkFailure:
    """The LinkFailure for an exception of aiokafka."""
    table: tuple[tuple[tuple[type[BaseException], ...], type[LinkFailure]], ...] = (
        (TOO_LARGE, TooLarge),
        (NOT_THERE, TopicMissing),
        (NOT_ALLOWED, Forbidden),
        (REFUSES_US, Forbidden),
    )
    kind = next((failure for errors, failure in table if isinstance(error, errors)), LinkDown)
    return kind(type(error).__name__)


async def _is_answered(producer: AIOKafkaProducer) -> bool:
    """Whether a broker answers; one whose client is closed meanwhile would never say."""
    try:
        async with asyncio.timeout(POST_TIMEOUT_S):
            return bool(await producer.client.force_metadata_update())
    except TimeoutError:
        return False


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer. With the brokers down it would wait forever, so after a timeout its messages are failed.

    aiokafka has no public way to abort: the accumulator's `fail_all` is what it calls itself on a fatal error.
    """
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await asyncio.shield(stopping := asyncio.ensure_future(producer.stop()))
    except (TimeoutError, asyncio.CancelledError) as interruption:
        producer._message_accumulator.fail_all(KafkaError())  # noqa: SLF001  see above
        producer._sender.sender_task and producer._sender.sender_task.cancel()  # noqa: SLF001  likewise
        ends = [stopping, asyncio.ensure_future(producer.client.close())]  # which waits until its last byte is taken
        await asyncio.wait(ends, timeout=CLOSE_TIMEOUT_S)
        for end in ends:
            end.cancel()
        if isinstance(interruption, asyncio.CancelledError):
            raise
    except (KafkaError, OSError):
        return
