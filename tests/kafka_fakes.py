"""A fake link to Kafka that does what the test says, and a harness: the whole delivery of events on top of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # it has no py.typed

from api_models import CacheMiss, CircuitState, EventData, ProcessingEvent
from implementations.events.connection import Backoff, KafkaConnection
from implementations.events.event_queue import EventQueue
from implementations.events.kafka_failures import LinkFailure
from implementations.events.lane import ACK_TIMEOUT_S, Lane
from implementations.events.message import Message, message_of
from implementations.events.outbox import KafkaOutbox
from implementations.events.spool import Spool
from implementations.resilience.circuit_breaker import CircuitBreaker, CircuitRules
from metrics import Metrics
from protocols import SleepProtocol
from tests.fakes import NOON, Calendar, Clock, InstantSleep, Timeline, new_metrics, sample, samples_of, settle

SERVICE = "llm-provider-service"
HALF_AN_HOUR_S = 1800.0


def miss(number: int) -> CacheMiss:
    """An event of a request of its own, told apart by its key."""
    return CacheMiss(provider=None, correlation_id=UUID(int=number), cache_key=str(number))


def message(event: EventData) -> Message:
    return message_of(event, service_name=SERVICE, traceparent=None, now=NOON, now_s=0.0)


def upper(_: float, high: float) -> float:
    return high


class FakeLink:
    """Takes everything, unless told otherwise. openings: what the next calls of `open` end with."""

    def __init__(self, *openings: LinkFailure | None) -> None:
        self.openings = list(openings)
        self.opened = 0
        self.closed = 0
        self.posts: list[Message] = []
        self.refusals: dict[ProcessingEvent, LinkFailure] = {}
        self.batch_errors: list[KafkaError | None] = []
        self.acknowledges = True
        self.unacknowledged = set[ProcessingEvent]()
        self.waiting: list[asyncio.Future[None]] = []

    async def open(self) -> None:
        self.opened += 1
        failure = self.openings.pop(0) if self.openings else None
        if failure is not None:
            raise failure

    async def post(self, message: Message) -> asyncio.Future[None]:
        if message.event in self.refusals:
            raise self.refusals[message.event]
        self.posts.append(message)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        error = self.batch_errors.pop(0) if self.batch_errors else None
        if error is not None:
            future.set_exception(error)
        elif self.acknowledges and message.event not in self.unacknowledged:
            future.set_result(None)
        else:
            self.waiting.append(future)
        return future

    async def close(self) -> None:
        self.closed += 1
        await asyncio.sleep(0)  # the lanes may end before it
        for future in self.waiting:
            if not future.done():
                future.set_exception(KafkaError())

    def acknowledge(self) -> None:
        """What hung is delivered after all."""
        self.acknowledges = True
        self.unacknowledged.clear()
        for future in self.waiting:
            future.set_result(None)

    def delivered_keys(self) -> list[bytes]:
        return [posted.key for posted in self.posts]


@dataclass(kw_only=True)
class Harness:
    """The whole sender on a fake link and a clock that moves when somebody sleeps, or on the test's own time."""

    link: FakeLink = field(default_factory=FakeLink)
    clock: Clock = field(default_factory=Clock)
    time: Timeline | None = None
    calendar: Calendar = field(default_factory=Calendar)
    metrics: Metrics = field(default_factory=new_metrics)
    max_messages: int = 1000
    max_bytes: int = 10_000_000
    max_age_s: float = 3600.0
    spool_path: Path | None = None
    transitions: list[CircuitState] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Wire it."""
        self.sleep = InstantSleep(self.clock)
        self.waits: SleepProtocol = self.sleep if self.time is None else self.time.sleep
        self.spool = (
            Spool(self.spool_path, metrics=self.metrics, now=self.calendar, clock=self.clock, sleep=self.sleep)
            if self.spool_path
            else None
        )
        self.queue = EventQueue(
            max_messages=self.max_messages,
            max_bytes=self.max_bytes,
            spool=self.spool,
            metrics=self.metrics,
            clock=self.clock,
        )
        self.circuit = CircuitBreaker(
            CircuitRules(
                failure_threshold=10,
                recovery_s=30.0,
                longest_open_s=30.0,
                success_threshold=3,
                probe_s=ACK_TIMEOUT_S,
            ),
            clock=self.clock,
            jitter=upper,
            on_transition=self._changed,
        )
        self.connection = KafkaConnection(
            self.link, self.circuit, metrics=self.metrics, sleep=self.waits, backoff=Backoff(upper, self.waits)
        )
        self.outbox = KafkaOutbox(
            self.queue,
            self.connection,
            lane=self.lane,
            spool=self.spool,
            service_name=SERVICE,
            max_age_s=self.max_age_s,
            metrics=self.metrics,
            traceparent=lambda: None,
            now=self.calendar,
            clock=self.clock,
            sleep=self.waits,
        )

    def lane(self, event: ProcessingEvent) -> Lane:
        return Lane(
            event, self.queue, self.connection, clock=self.clock, sleep=self.waits, backoff=Backoff(upper, self.waits)
        )

    def publish(self, *events: EventData) -> None:
        for event in events:
            self.metrics.events.of(event.event).inc()
            self.outbox.put(event)

    async def let_pass(self, seconds: float) -> None:
        """Let them sleep, one nap after the other, for so long; not on the test's own time."""
        until_s = self.clock() + seconds
        while self.clock() < until_s:
            await settle()

    def counts(self) -> dict[str, float]:
        """Taken, restored, delivered, dropped, pending and lost, from the metrics."""
        names = {
            "taken": "llm_provider_events_total",
            "restored": "llm_provider_events_restored_total",
            "delivered": "llm_provider_events_delivered_total",
            "dropped": "llm_provider_events_dropped_total",
            "pending": "llm_provider_events_queue_depth",
            "lost": "llm_provider_events_lost_at_exit_total",
        }
        return {key: sum(one.value for one in samples_of(self.metrics, name)) for key, name in names.items()}

    def balances(self) -> bool:
        """Whether nothing left the queue uncounted."""
        known = self.counts()
        came = known["taken"] + known["restored"]
        return came == known["delivered"] + known["dropped"] + known["pending"] + known["lost"]

    def dropped(self, event: ProcessingEvent, reason: str) -> float | None:
        return sample(self.metrics, "llm_provider_events_dropped_total", topic=event.topic, reason=reason)

    def _changed(self, _: CircuitState, after: CircuitState) -> None:
        self.metrics.kafka_circuit_transitions.of(after).inc()
        self.transitions.append(after)


@asynccontextmanager
async def running(harness: Harness) -> AsyncIterator[Harness]:
    """Send in the background; at the end, it has not failed, and every event must be accounted for."""
    sender = asyncio.create_task(harness.outbox.run())
    try:
        await settle()
        yield harness
        assert harness.balances()
    finally:
        sender.cancel()
        await asyncio.wait([sender])
    assert sender.cancelled()
    assert harness.balances()


def keys(numbers: Sequence[int]) -> list[bytes]:
    return [str(UUID(int=number)).encode() for number in numbers]
