"""The failures of the link to Kafka, in five classes, and the one table that maps aiokafka's exceptions to them."""

import ssl
from typing import ClassVar

from aiokafka.errors import (  # type: ignore[import-untyped]  # it has no py.typed
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    IllegalSaslStateError,
    InvalidTopicError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RecordTooLargeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
)

from api_models import EventDropReason

REFUSES_US = (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    ssl.SSLError,
)


class LinkFailure(Exception):  # noqa: N818  its subclasses have telling names
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


class Unanswered(LinkDown):
    """No broker answered in time; what it holds from earlier may still be acknowledged."""


TABLE: tuple[tuple[tuple[type[BaseException], ...], type[LinkFailure]], ...] = (
    ((MessageSizeTooLargeError, RecordTooLargeError, RecordListTooLargeError), TooLarge),
    ((UnknownTopicOrPartitionError, InvalidTopicError), TopicMissing),
    ((TopicAuthorizationFailedError, *REFUSES_US), Forbidden),
    ((TimeoutError, KafkaTimeoutError), Unanswered),
)


def link_failure(error: BaseException) -> LinkFailure:
    """The LinkFailure for an exception of aiokafka."""
    kind = next((failure for errors, failure in TABLE if isinstance(error, errors)), LinkDown)
    return kind(type(error).__name__)
