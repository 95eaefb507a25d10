"""What aiokafka lacks: to say why it failed, to notice a reset before it writes, to close while brokers hang."""

import asyncio
import logging
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaProducer, client, conn  # type: ignore[import-untyped]  # it has no py.typed
from aiokafka.cluster import ClusterMetadata  # type: ignore[import-untyped]  # likewise
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # likewise

from implementations.events.kafka_failures import REFUSES_US, LinkFailure, link_failure

CLOSE_TIMEOUT_S = 1.5
NO_LEADER, NOBODY = -1, -2  # as aiokafka has it; and a broker that nobody is


class FailureHandler(logging.Handler):
    """Detects failures in aiokafka's log records, which its exceptions do not report; replaces its log output."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: LinkFailure | None = None
        lines = logging.getLogger("aiokafka")
        lines.propagate = False
        lines.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the last refusal, or else the first failure."""
        for error in record.args if isinstance(record.args, tuple) else ():
            if isinstance(error, REFUSES_US) or (self.failure is None and isinstance(error, Exception)):
                self.failure = link_failure(error)


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

    def close(self, reason: Any = None, exc: Any = None) -> Any:
        """Close it at once, without what the broker has not taken: for that uvloop would wait, forever if need be."""
        if self._writer is not None:
            self._writer.transport.abort()
        return super().close(reason, exc)


conn.AIOKafkaConnection = _Connection  # where aiokafka looks it up when it connects


class _Metadata(ClusterMetadata):  # type: ignore[misc]  # likewise
    """A partition that has no leader is led by a broker out of reach: its messages are kept, and sent once it has one.

    Otherwise aiokafka asks for metadata without a pause, and after five seconds fails what may have been stored.
    """

    def leader_for_partition(self, partition: Any) -> Any:
        """The leader's number, None if there is no such partition."""
        leader = super().leader_for_partition(partition)
        return NOBODY if leader == NO_LEADER else leader


client.ClusterMetadata = _Metadata  # where aiokafka looks it up as well


class _Batches(set[Any]):
    """What was sent. A batch that fails while it waits to be sent again is not in it, but removed all the same."""

    remove = set.discard


def _fail(accumulator: Any) -> None:
    """Fail all messages, and retrieve what each batch tells those who wait for room in it, lest asyncio log it."""
    accumulator._pending_batches = _Batches(accumulator._pending_batches)  # noqa: SLF001  there is no other way
    batches = [*chain(accumulator._pending_batches, *accumulator._batches.values())]  # noqa: SLF001  likewise
    accumulator.fail_all(KafkaError())
    for batch in batches:
        batch._drain_waiter.exception()  # noqa: SLF001  likewise


def _is_of(sender: Any, coroutine: Any) -> bool:
    """Whether it is the sender's loop or one of its requests under way, which the sender keeps to itself."""
    name = getattr(coroutine, "__qualname__", "")  # which not everything that a task runs has
    return name.startswith("Sender.") and coroutine.cr_frame.f_locals["self"] is sender


async def stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer. With the brokers down it would wait forever, so after a timeout its messages are failed.

    aiokafka has no public way to abort: the accumulator's `fail_all` is what it calls itself on a fatal error.
    """
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await asyncio.shield(stopping := asyncio.ensure_future(producer.stop()))
    except (TimeoutError, asyncio.CancelledError) as interruption:
        _fail(producer._message_accumulator)  # noqa: SLF001  see above
        for task in asyncio.all_tasks():
            if _is_of(producer._sender, task.get_coro()):  # noqa: SLF001  likewise
                task.cancel()  # else some would wait for metadata forever
        ends = [stopping, asyncio.ensure_future(producer.client.close())]
        await asyncio.wait(ends, timeout=CLOSE_TIMEOUT_S)
        for end in ends:
            end.cancel()
        if isinstance(interruption, asyncio.CancelledError):
            raise
    except (KafkaError, OSError):
        return
