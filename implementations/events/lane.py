"""Sends the events of one topic, in order: a topic that is missing or a message that is too large stops no other."""

import asyncio
from collections.abc import Sequence

from api_models import EventDropReason, ProcessingEvent
from implementations.events.connection import Backoff, KafkaConnection, Session
from implementations.events.event_queue import EventQueue
from implementations.events.kafka_link import Forbidden, LinkDown, LinkFailure, TooLarge, TopicMissing, link_failure
from implementations.events.message import Message
from implementations.resilience.circuit_breaker import Permit
from protocols import ClockProtocol, SleepProtocol

CHUNK = 100  # messages under way at once; what paces a replay
BREATH = 20  # messages handed over before others may run
ACK_TIMEOUT_S = 10.0
FRESH_PRODUCER_AFTER_S = 120.0

Posted = dict[asyncio.Future[None], Message]


class Lane:
    """clock: monotonic seconds; sleep, backoff: how long to leave a topic or a link alone that failed."""

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
        self.waits_for: EventDropReason | None = None

    async def run(self) -> None:
        """Run for as long as the service does."""
        while True:
            if not self._queue.waits(self._event):  # what it waited with has expired
                self.waits_for = None
            await self._queue.wait(self._event)
            session = await self._connection.session()
            failure = await self._send(session, await self._connection.permit())
            self.waits_for = _reason(failure)
            if failure is None:
                self._backoff.reset()
            elif not isinstance(failure, TooLarge):
                await self._sleep(self._backoff.next_s())

    async def _send(self, session: Session, permit: Permit) -> LinkFailure | None:
        """One chunk; whatever happens, each of its messages is delivered, dropped or back in the line."""
        chunk, posted = self._queue.take(self._event, CHUNK), Posted()
        held: Permit | None = permit
        refusal: LinkFailure | None = None
        reported: LinkFailure | None = None
        try:
            refusal = await self._post(chunk, session, posted)
            held = await self._acknowledged(set(posted), session, permit)
        finally:
            reported = self._settle(chunk, posted)
            if not posted:
                permit.ignored()
        if reported is not None or (isinstance(refusal, LinkDown) and not posted):
            self._broken(reported or LinkDown(), session, held)
            return reported or refusal
        if posted:
            self._connection.delivered(held)
        return None if isinstance(refusal, LinkDown) else refusal

    async def _post(self, chunk: list[Message], session: Session, posted: Posted) -> LinkFailure | None:
        """Hand over as much as is taken; what stays behind is what the session does not take now."""
        for count, message in enumerate(tuple(chunk), start=1):
            try:
                future = await self._posted(message, session)
            except LinkFailure as failure:
                return failure
            if future is None:
                chunk.remove(message)
            else:
                posted[future] = message
            if count % BREATH == 0:
                await asyncio.sleep(0)
        return None

    async def _posted(self, message: Message, session: Session) -> asyncio.Future[None] | None:
        """The future of a message, or None for one that had to be dropped."""
        try:
            message.encoded()
            return await session.post(message)
        except TypeError:
            self._queue.drop(message, EventDropReason.DEFECT)
            return None
        except TooLarge:
            return await self._posted(message, session) if self._shrunk(message) else None

    def _shrunk(self, message: Message) -> bool:
        """Whether a message that is too large may try again, without its metadata; once."""
        if message.is_truncated:
            self._queue.drop(message, EventDropReason.TOO_LARGE)
            return False
        message.truncate()
        return True

    async def _acknowledged(
        self, futures: set[asyncio.Future[None]], session: Session, permit: Permit
    ) -> Permit | None:
        """Wait for all of them, however long the outage, unless the session ends; a long wait counts as a failure.

        The producer repeats them by itself, without doubling any; only after two minutes it is given up.
        """
        held: Permit | None = permit
        if not futures:
            return held
        began_s = self._clock()
        ends = [asyncio.ensure_future(asyncio.wait(futures)), asyncio.ensure_future(session.over.wait())]
        try:
            while True:
                bound = asyncio.ensure_future(self._sleep(ACK_TIMEOUT_S))
                try:
                    await asyncio.wait([*ends, bound], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    bound.cancel()
                if any(end.done() for end in ends):
                    return held
                self._connection.failed(held)
                held = self._connection.try_permit()
                if self._clock() - began_s >= FRESH_PRODUCER_AFTER_S:
                    session.broken.set()
        finally:
            for end in ends:
                end.cancel()

    def _settle(self, chunk: Sequence[Message], posted: Posted) -> LinkFailure | None:
        """Count what was delivered, give back the rest; the first failure that was reported."""
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
            alone = isinstance(failures[-1], TooLarge) and self._connection.one_by_one
            if alone and not self._shrunk(message):
                settled.add(id(message))
        self._queue.delivered(delivered)
        self._queue.give_back(self._event, [message for message in chunk if id(message) not in settled])
        return failures[0] if failures else None

    def _broken(self, failure: LinkFailure, session: Session, held: Permit | None) -> None:
        """A producer that reported a failure has a gap in its sequence and is of no more use. Told once a session."""
        if session.broken.is_set():
            return
        if isinstance(failure, TooLarge):
            self._connection.one_by_one = not self._connection.one_by_one
        else:
            self._connection.failed(held)
        session.broken.set()


def _read(future: asyncio.Future[None]) -> None:
    """What fails when nobody waits for it any more is no news: its message is back in the line."""
    if not future.cancelled():
        future.exception()


def _reason(failure: LinkFailure | None) -> EventDropReason | None:
    if isinstance(failure, TopicMissing):
        return EventDropReason.UNKNOWN_TOPIC
    return EventDropReason.AUTH if isinstance(failure, Forbidden) else None
