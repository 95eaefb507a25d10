"""Keeps one link to Kafka open, behind a circuit and with back-off. It starts unconnected: start-up does not wait."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from api_models import EventDropReason
from implementations.events.kafka_failures import LinkFailure
from implementations.events.message import Message
from implementations.resilience.circuit_breaker import CircuitBreaker, Permit, Refused
from metrics import Metrics
from protocols import SleepProtocol

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
CIRCUIT_POLL_S = 1.0

log = structlog.get_logger("events")

Jitter = Callable[[float, float], float]


class Link(Protocol):
    """The interface of `KafkaLink`; tests use fakes."""

    async def open(self) -> None:
        """Connect, or raise a LinkFailure."""
        ...

    async def post(self, message: Message) -> asyncio.Future[None]:
        """Send one message, or raise a LinkFailure; the future ends with its acknowledgement."""
        ...

    async def close(self) -> None:
        """Disconnect in bounded time."""
        ...


class Backoff:
    """Exponential back-off from one second to half a minute, jittered within the upper half. sleep: takes seconds."""

    def __init__(self, jitter: Jitter, sleep: SleepProtocol) -> None:
        self._jitter = jitter
        self._sleep = sleep
        self._wait_s = FIRST_WAIT_S
        self._wait: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """The next wait."""
        wait_s, self._wait_s = self._wait_s, min(self._wait_s * 2, LONGEST_WAIT_S)
        self._wait = asyncio.ensure_future(self._sleep(self._jitter(wait_s / 2, wait_s)))
        try:
            await asyncio.wait([self._wait])
        finally:
            self._wait.cancel()

    def hurry(self) -> None:
        """End the wait under way, and start over."""
        self.reset()
        if self._wait is not None:
            self._wait.cancel()

    def reset(self) -> None:
        """Start over from the first wait."""
        self._wait_s = FIRST_WAIT_S


class Session:
    """One open period of the link. broken: set when the link must be reopened; over: set when it is closed."""

    def __init__(self, link: Link) -> None:
        self.post = link.post
        self.broken = asyncio.Event()
        self.over = asyncio.Event()


class KafkaConnection:
    """link: opened by `keep_open`, and reopened when a session is broken.

    waits_for: why it was refused last, if so. deliveries: how often Kafka acknowledged something.
    """

    def __init__(
        self, link: Link, circuit: CircuitBreaker, *, metrics: Metrics, sleep: SleepProtocol, backoff: Backoff
    ) -> None:
        self._link = link
        self._circuit = circuit
        self._metrics = metrics
        self._sleep = sleep
        self._backoff = backoff
        self._up = asyncio.Event()
        self._session: Session | None = None
        self._healthy: bool | None = None
        self._reason: str | None = None
        self.waits_for: EventDropReason | None = None
        self.deliveries = 0

    def hurry(self) -> None:
        """Try Kafka at once, even if its circuit is open."""
        self._circuit.reset()
        self._backoff.hurry()

    @property
    def is_healthy(self) -> bool:
        """Whether the last operation succeeded; False before the first."""
        return self._healthy is True

    async def session(self) -> Session:
        """The open session; waits until there is one."""
        while self._session is None or self._session.broken.is_set():
            await self._up.wait()
            if self._session is not None and self._session.broken.is_set():
                await self._session.over.wait()
        return self._session

    async def permit(self) -> Permit:
        """A permit to send; waits while the circuit is open."""
        while True:
            try:
                return self._circuit.acquire()
            except Refused as refused:
                await self._sleep(min(refused.wait_s, CIRCUIT_POLL_S))

    def try_permit(self) -> Permit | None:
        """A permit for continuing to wait for acknowledgements, None while the circuit is open."""
        return None if self._circuit.refusal() else self._circuit.acquire()

    def delivered(self, permit: Permit | None) -> None:
        """Kafka acknowledged the messages. Without a permit (open circuit) that is better proof than any probe."""
        self.deliveries += 1
        if permit is None:
            self._circuit.reset()
        else:
            permit.succeeded()
        self._note_state(healthy=True)

    def failed(self, permit: Permit | None, reason: str) -> None:
        """Kafka did not acknowledge, or not in time. reason: for the log, without any text of Kafka's."""
        if permit is not None:
            permit.failed()
        self._note_state(healthy=False, reason=reason)

    async def keep_open(self) -> None:
        """Keep a session open, forever."""
        while True:
            if await self._open():
                await self._run_session()
            else:
                await self._backoff.wait()

    async def _open(self) -> bool:
        permit = await self.permit()
        try:
            await self._link.open()
        except LinkFailure as failure:
            self.waits_for = failure.waits_for
            self.failed(permit, failure.reason)
            return False
        except BaseException:  # a cancellation or a defect says nothing about Kafka
            permit.ignored()
            raise
        permit.succeeded()
        self.waits_for = None
        self._backoff.reset()
        self._note_state(healthy=True)
        return True

    async def _run_session(self) -> None:
        self._session = session = Session(self._link)
        self._up.set()
        try:
            await session.broken.wait()
        finally:
            self._up.clear()
            await self._link.close()
            session.over.set()

    def _note_state(self, *, healthy: bool, reason: str | None = None) -> None:
        """Set the gauge; log changes, also those of the reason."""
        self._metrics.kafka_up.set(healthy)
        if (healthy, reason) != (self._healthy, self._reason):
            if healthy:
                log.info("kafka_takes_events")
            else:
                log.error("kafka_takes_no_events", reason=reason)
        self._healthy, self._reason = healthy, reason
