"""Access to a Redis that may fail: every exchange has a timeout, and circuits stop asking after repeated failures.

Two circuits, one for reading and one for writing, make three modes: up, read only, down. Traffic and probes open them;
only the prober closes them (`prober.py`), so no caller waits to find out. A caller's cancellation does not reach a
command: redis-py once returned a cancelled command's reply to the next one, so each runs to its end in its own task,
for at most as long as its caller would have waited.
"""

import asyncio
from enum import StrEnum
from typing import Any

import structlog
from redis.exceptions import ResponseError

from api_models import CircuitState
from implementations.resilience.call import REDIS_TIMEOUT_S
from implementations.resilience.circuit_breaker import CircuitBreaker, CircuitRules, Permit
from implementations.resilience.stalls import within
from implementations.shared_state.connections import Command, ConnectionsProtocol
from implementations.shared_state.faults import (
    OF_ONE_COMMAND,
    OF_ONE_MOMENT,
    Fault,
    RedisAwayError,
    fault_of,
    is_about_the_value,
)
from implementations.shared_state.lateness import Lateness, Timing
from metrics import Metrics
from protocols import ClockProtocol
from value_object import value_object

FAILURE_THRESHOLD = 3

log = structlog.get_logger("redis")


class Access(StrEnum):
    """What a command does to the data."""

    READ = "read"
    WRITE = "write"


class RedisMode(StrEnum):
    """How much of Redis works, from all to nothing."""

    UP = "up"
    READ_ONLY = "read_only"
    DOWN = "down"


@value_object
class Exchange:
    """Replies, and whether they came as fast as from a healthy Redis."""

    replies: list[Any]
    in_time: bool


class SharedRedis:
    """clock: monotonic seconds."""

    def __init__(self, connections: ConnectionsProtocol, *, metrics: Metrics, clock: ClockProtocol) -> None:
        self._connections = connections
        self._metrics = metrics
        rules = CircuitRules(counts_overtaken=True, failure_threshold=FAILURE_THRESHOLD)
        self._circuits = {  # which the prober closes, however long a circuit would have itself stay open
            access: CircuitBreaker(rules, clock=clock, jitter=max, on_transition=lambda *_: self._log_mode())
            for access in Access
        }
        self._running: set[asyncio.Task[Exchange]] = set()
        self._logged = RedisMode.UP
        self._lateness = Lateness(clock)
        self.failures = 0
        self.cause: Fault | None = None
        for fault in Fault:  # rates need a first zero
            metrics.redis_failures.of(fault)
        for mode in RedisMode:
            metrics.redis_transitions.of(mode)
        metrics.redis_up.set_function(lambda: float(self.mode is not RedisMode.DOWN))

    @property
    def mode(self) -> RedisMode:
        """Which operations are possible now."""
        if not self.works(Access.READ):
            return RedisMode.DOWN
        return RedisMode.UP if self.works(Access.WRITE) else RedisMode.READ_ONLY

    def works(self, access: Access) -> bool:
        """Whether this circuit is closed."""
        return self._circuits[access].state is CircuitState.CLOSED

    async def read(self, *commands: Command, timeout_s: float = REDIS_TIMEOUT_S, time_counts: bool = True) -> list[Any]:
        """The replies; one about what the key holds is an exception. Raises RedisAwayError, within timeout_s.

        time_counts: False for a large reply, whose time says nothing about Redis: other exchanges notice a hang.
        """
        if not self.works(Access.READ) or timeout_s <= 0:
            raise RedisAwayError(Fault.AWAY)
        return (await self._exchange(Access.READ, commands, timeout_s, time_counts=time_counts)).replies

    async def write(self, *commands: Command) -> list[Any]:
        """Likewise, within REDIS_TIMEOUT_S. A write that failed may still have been executed."""
        if self.mode is not RedisMode.UP:
            raise RedisAwayError(Fault.AWAY)
        return (await self._exchange(Access.WRITE, commands, REDIS_TIMEOUT_S)).replies

    async def probe(self, access: Access, *commands: Command) -> list[Any]:
        """Send in any mode. A slow answer counts as a failure, a refused command opens. Raises RedisAwayError."""
        try:
            exchange = await self._exchange(access, commands, REDIS_TIMEOUT_S)
        except RedisAwayError as away:
            if away.fault in OF_ONE_COMMAND:
                self._force_open(access, away.fault)
            raise
        if not exchange.in_time:
            raise RedisAwayError(Fault.SLOW)
        return exchange.replies

    def use_again(self, access: Access) -> None:
        """Close the circuit again. Older connections may lead to a server that the address no longer names."""
        self._connections.renew()
        self._circuits[access].reset()

    async def close(self) -> None:
        """Wait for running commands, which are bounded, and close the connections."""
        if self._running:
            await asyncio.wait(self._running, timeout=REDIS_TIMEOUT_S)
        await self._connections.close()

    async def _exchange(
        self, access: Access, commands: tuple[Command, ...], timeout_s: float, *, time_counts: bool = True
    ) -> Exchange:
        permit = self._circuits[access].acquire() if self.works(access) else Permit(None, 0)
        task = asyncio.create_task(self._bounded(access, permit, commands, timeout_s, time_counts=time_counts))
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait((task,))  # no `shield`, which logs its exception from Python 3.14 on if the caller has gone
        return task.result()

    def _ended(self, task: asyncio.Task[Exchange]) -> None:
        """Retrieve the exception, which was counted already: asyncio must not log it if the caller has gone."""
        self._running.discard(task)
        if not task.cancelled():
            task.exception()

    async def _bounded(
        self,
        access: Access,
        permit: Permit,
        commands: tuple[Command, ...],
        timeout_s: float,
        *,
        time_counts: bool,
    ) -> Exchange:
        timing = Timing(self._lateness, timeout_s)
        try:
            async with within(timeout_s):
                replies = await self._connections.send(*commands, on_turn=timing.turn)
            _raise_refusal(replies)
            if any(map(is_about_the_value, replies)):
                self._metrics.redis_failures.of(Fault.WRONG_TYPE).inc()
        except Exception as error:  # noqa: BLE001  the boundary to a library: `fault_of` classifies it
            fault = fault_of(error)
            if fault is Fault.TIMEOUT and timing.had_no_turn:
                fault = Fault.POOL
            if fault is not Fault.TIMEOUT or (time_counts and timing.tells_of_redis):
                self._failed(access, permit, fault)
            raise RedisAwayError(fault) from None
        finally:
            self._metrics.redis_command_duration.of(access).observe(timing.elapsed_s)
        timing.replied()
        in_time = not timing.is_slow
        if in_time:
            permit.succeeded()
        elif time_counts:
            self._failed(access, permit, Fault.SLOW)
        return Exchange(replies=replies, in_time=in_time)

    def _failed(self, access: Access, permit: Permit, fault: Fault) -> None:
        """Count it. Some faults open a circuit at once.

        An exhausted pool says nothing about Redis, and a refused command nothing about the others: probes send those
        that the cache needs.
        """
        self.failures += 1
        self._metrics.redis_failures.of(fault).inc()
        is_same_moment = fault in OF_ONE_MOMENT and self._lateness.note_late(access)
        if is_same_moment or fault in OF_ONE_COMMAND or fault is Fault.POOL:
            return
        match fault:
            case Fault.READ_ONLY | Fault.OUT_OF_MEMORY:
                self._force_open(Access.WRITE, fault)
            case Fault.AUTHENTICATION:
                self._force_open(Access.READ, fault)
            case _:
                self.cause = fault
                permit.failed()

    def _force_open(self, access: Access, fault: Fault) -> None:
        self.cause = fault
        self._circuits[access].force(CircuitState.OPEN, reason=fault, actor="redis")

    def _log_mode(self) -> None:
        """Log and count each mode change once, however many circuits moved for it."""
        mode = self.mode
        if mode is self._logged:
            return
        write = log.info if mode is RedisMode.UP else log.warning
        reason = None if mode is RedisMode.UP else self.cause
        write("redis_mode_changed", before=self._logged, after=mode, reason=reason)
        self._logged = mode
        self._metrics.redis_mode.set(list(RedisMode).index(mode))
        self._metrics.redis_transitions.of(mode).inc()


def _raise_refusal(replies: list[Any]) -> None:
    """Raise an error reply, unless it is only about what the key holds."""
    for reply in replies:
        if isinstance(reply, ResponseError) and not is_about_the_value(reply):
            raise reply
