"""Sends the events of one topic, in order: a missing topic or an oversized message does not block other topics."""

import asyncio
from collections.abc import Sequence

import structlog

from api_models import EventDropReason, ProcessingEvent
from implementations.events.connection import Backoff, KafkaConnection, Session
from implementations.events.event_queue import EventQueue
from implementations.events.kafka_failures import LinkDown, LinkFailure, TooLarge, Unanswered, link_failure
from implementations.events.message import Message
from implementations.resilience.circuit_breaker import Permit
from protocols import ClockProtocol, SleepProtocol

CHUNK = 100  # messages in flight at once; this paces a replay
YIELD_EVERY = 20  # messages sent before yielding to the event loop
ACK_TIMEOUT_S = 10.0
FRESH_PRODUCER_AFTER_S = 120.0
NO_ANSWER = "no acknowledgement"

log = structlog.get_logger("events")

Posted = dict[asyncio.Future[None], Message]


class Lane:
    """clock: monotonic seconds; sleep: takes seconds; backoff: after a failure of the topic or the link."""

    def __init__(
        self,
        event: ProcessingEvent,
        queue: EventQueue,
        connection: KafkaConnection,
        *,
        clock: ClockProtocol,
        sleep: SleepProtocol,
        backoff: Backoff,
    ) -> None:
        self._event = event
        self._queue = queue
        self._connection = connection
        self._clock = clock
        self._sleep = sleep
        self._backoff = backoff
        self.hurry = backoff.hurry
        self._chunk_size = CHUNK
        self._permit: Permit | None = None  # for the chunk under way; None while the circuit is open
        self.waits_for: EventDropReason | None = None
        self.is_held_up = False  # its last events were not acknowledged in time, or not at all
        self._is_named = False  # in the log, as the one that is not acknowledged while others are

    async def run(self) -> None:
        """Send in a loop, forever."""
        while True:
            if not self._queue.has_waiting(self._event):  # the messages that had to wait have expired
                self._note_flow()
            await self._queue.wait(self._event)
            session = await self._connection.session()
            self._permit = await self._connection.permit()
            try:
                if session.broken.is_set():  # while the circuit was open
                    continue
                failure = await self._send(session)
            finally:  # what has reported nothing by now says nothing about Kafka, and frees the place of a probe
                self._ignore_permit()
            if failure is None:
                self._note_flow()
                self._backoff.reset()
                continue
            self._note(failure)
            if not isinstance(failure, TooLarge):
                self.is_held_up = True
                await self._backoff.wait()

    def _note_flow(self) -> None:
        self.waits_for, self.is_held_up, self._is_named = None, False, False

    def _note(self, failure: LinkFailure) -> None:
        """Note what the topic lacks; log it once, since the degraded mode names the reason and not the topic."""
        cause = failure.waits_for
        if cause not in {None, self.waits_for}:
            log.error("topic_takes_no_events", topic=self._event.topic, waits_for=cause, reason=failure.reason)
        self.waits_for = cause

    def _ignore_permit(self) -> None:
        if self._permit is not None:
            self._permit.ignored()

    async def _send(self, session: Session) -> LinkFailure | None:
        """Send one chunk; whatever happens, each message ends up delivered, dropped or back in the line."""
        chunk, posted = self._queue.take(self._event, self._chunk_size), Posted()
        try:
            refusal = await self._post_all(chunk, session, posted)
            await self._await_acknowledgements(set(posted), session)
        finally:
            reported = self._settle(chunk, posted)
        if not posted:
            self._ignore_permit()  # also where the link refused: its topic backs off, the others need not wait
        failure = reported or (refusal if isinstance(refusal, LinkDown) and not posted else None)
        if failure is not None:
            self._react_to(failure, session)
            return failure
        if any(map(_is_acknowledged, posted)):
            self._connection.delivered(self._permit)
        return None if isinstance(refusal, LinkDown) else refusal

    async def _post_all(self, chunk: list[Message], session: Session, posted: Posted) -> LinkFailure | None:
        """Send until the session refuses a message; removes dropped messages from the chunk."""
        for count, message in enumerate(tuple(chunk), start=1):
            try:
                future = await self._post(message, session)
            except LinkFailure as failure:
                return failure
            if future is None:
                chunk.remove(message)
            else:
                posted[future] = message
            if count % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return None

    async def _post(self, message: Message, session: Session) -> asyncio.Future[None] | None:
        """Send one message: its future, or None if it had to be dropped."""
        try:
            message.encoded()
            return await session.post(message)
        except TypeError:
            self._queue.drop([message], EventDropReason.DEFECT)
            return None
        except TooLarge:
            return await self._post(message, session) if self._shrink(message) else None

    def _shrink(self, message: Message) -> bool:
        """Truncate an oversized message for one more try, or drop it if it was truncated before (False)."""
        if message.is_truncated:
            self._queue.drop([message], EventDropReason.TOO_LARGE)
            return False
        message.truncate()
        return True

    async def _await_acknowledgements(self, futures: set[asyncio.Future[None]], session: Session) -> None:
        """Wait for all of them, unless the session ends; each ACK_TIMEOUT_S without an end counts as a failure.

        It is Kafka's failure, and not only this topic's, if no other topic was acknowledged meanwhile. The producer
        retries them itself, without duplicates; only after two minutes is it replaced.
        """
        if not futures:
            return
        began_s = self._clock()
        ends = [asyncio.ensure_future(asyncio.wait(futures)), asyncio.ensure_future(session.over.wait())]
        try:
            while True:
                deliveries = self._connection.deliveries
                bound = asyncio.ensure_future(self._sleep(ACK_TIMEOUT_S))
                try:
                    await asyncio.wait([*ends, bound], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    bound.cancel()
                if any(end.done() for end in ends):
                    return
                if self._connection.deliveries == deliveries:
                    self._connection.failed(self._permit, NO_ANSWER)
                    self._permit = self._connection.try_permit()
                elif not self._is_named:
                    self._is_named = True
                    log.error("topic_takes_no_events", topic=self._event.topic, reason=NO_ANSWER)
                self.is_held_up = True
                if self._clock() - began_s >= FRESH_PRODUCER_AFTER_S:
                    session.broken.set()
        finally:
            for end in ends:
                end.cancel()

    def _settle(self, chunk: Sequence[Message], posted: Posted) -> LinkFailure | None:
        """Count what was delivered, give back the rest; return the first reported failure.

        A topic that found something too large gets one message at a time from then on: a refusal then concerns that
        message, and nothing overtakes it.
        """
        failures: list[LinkFailure] = []
        settled: set[int] = set()
        delivered: list[Message] = []
        for future, message in posted.items():
            if future.cancelled():
                continue
            if not future.done():
                future.add_done_callback(_read)
                continue
            error = future.exception()
            if error is None:
                delivered.append(message)
                settled.add(id(message))
                continue
            failures.append(link_failure(error))
            if isinstance(failures[-1], TooLarge):
                self._chunk_size = 1
                if len(posted) == 1 and not self._shrink(message):
                    settled.add(id(message))
        self._queue.delivered(delivered)
        self._queue.give_back(self._event, [message for message in chunk if id(message) not in settled])
        return failures[0] if failures else None

    def _react_to(self, failure: LinkFailure, session: Session) -> None:
        """Replace a producer that reported a failure: its sequence has a gap. It counts once per session.

        One that took nothing because no broker answered keeps what it has from other topics, like any that hangs.
        """
        if isinstance(failure, LinkDown) and not session.broken.is_set():  # any other is the topic's
            self._connection.failed(self._permit, failure.reason)
        if not isinstance(failure, Unanswered):
            session.broken.set()


def _is_acknowledged(future: asyncio.Future[None]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _read(future: asyncio.Future[None]) -> None:
    """Retrieve a late exception, so that asyncio does not log it: the message is back in the line."""
    if not future.cancelled():
        future.exception()
