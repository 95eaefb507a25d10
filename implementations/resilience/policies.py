"""The policies around a metered provider, each a provider itself. `di.py` defines their order."""

from dataclasses import replace
from math import isfinite

from api_models import ShedReason
from exceptions import (
    CircuitOpenError,
    ContextTooLongError,
    OverloadPausedError,
    ProviderError,
    RequestRejectedError,
    ServiceOverloadedError,
    ThrottlePausedError,
    TruncatedReplyError,
)
from implementations.resilience.bulkhead import Bulkhead
from implementations.resilience.call import Record, current_call
from implementations.resilience.circuit_breaker import CircuitBreaker, Refused
from implementations.resilience.throttle_gate import ThrottleGate
from protocols import (
    LLMAccountingProtocol,
    LLMProviderProtocol,
    LLMRetryManagerProtocol,
    ProviderReply,
    ProviderRequest,
    SleepProtocol,
)

REPROBE_S = 300.0
LARGER_CAP_FACTOR = 2
LONG_WAIT_S = 1.0  # in which another replica may have bought the answer
PROBED_S = 5.0  # when to come back while a probe is under way, which may end at any moment


class Retrying:
    """Retries as the retry manager decides."""

    def __init__(self, provider: LLMProviderProtocol, *, retries: LLMRetryManagerProtocol) -> None:
        self._provider = provider
        self._retries = retries

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The first good reply, or the last failure.

        A truncated reply is retried with twice the token limit, as far as the model allows. If the provider rejects
        that, the failure is still the truncation: the question itself is valid.
        """
        asked = request
        truncation: TruncatedReplyError | None = None

        async def attempt() -> ProviderReply:
            nonlocal asked, truncation
            try:
                return await self._provider.generate_comparison(asked)
            except TruncatedReplyError as failure:
                larger = min(asked.max_tokens * LARGER_CAP_FACTOR, asked.max_tokens_limit)
                failure.is_final |= larger <= asked.max_tokens
                asked, truncation = replace(asked, max_tokens=larger), failure
                raise
            except (RequestRejectedError, ContextTooLongError):
                if truncation is None:
                    raise
                raise truncation from None

        try:
            return await self._retries.run(attempt)
        finally:
            truncation = None  # breaks a reference cycle: its traceback holds the frame of `attempt`


class FailingFast:
    """Fails fast on an open circuit, before any queue. The permit is acquired further in, once a slot is held."""

    def __init__(self, provider: LLMProviderProtocol, *, circuit: CircuitBreaker) -> None:
        self._provider = provider
        self._circuit = circuit

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply, or CircuitOpenError at once."""
        refusal = self._circuit.refusal()
        if refusal is not None:
            raise _circuit_open(refusal, request)
        return await self._provider.generate_comparison(request)


class PausedMeanwhile(Exception):  # noqa: N818  not an error: the call goes back to the gate
    """The provider asked for a pause while the call waited for its slot."""


class Throttled:
    """Waits out the provider's back-off without holding a slot."""

    def __init__(self, provider: LLMProviderProtocol, *, gate: ThrottleGate, sleep: SleepProtocol) -> None:
        self._provider = provider
        self._gate = gate
        self._sleep = sleep

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply; ThrottlePausedError if the turn after the pause comes too late, or too many are waiting."""
        while True:
            await self._wait_for_end_of_pause(request)
            try:
                return await self._provider.generate_comparison(request)
            except PausedMeanwhile:
                continue
            except ProviderError as failure:
                if failure.pause_s:
                    self._gate.pause(failure.pause_s, is_overload=failure.trips_circuit)
                raise

    async def _wait_for_end_of_pause(self, request: ProviderRequest) -> None:
        call = current_call()
        while (pause_s := self._gate.remaining_s) > 0:
            if self._gate.is_full or self._gate.next_turn_s > call.longest_pause_s():
                paused = OverloadPausedError if self._gate.is_overload else ThrottlePausedError
                refusal = paused(
                    "calls to the provider are paused at its request", provider=request.provider, retry_after_s=pause_s
                )
                refusal.ran_out_of_time = not self._gate.is_full
                raise refusal
            began_s = call.deadline.clock()
            try:
                with self._gate.waiting() as turn_s:
                    await self._sleep(turn_s)
            finally:
                call.record.queued_s += call.deadline.clock() - began_s


class ConcurrencyLimited:
    """Bulkhead: bounds concurrent calls, so a hanging provider cannot absorb every request; others wait in a queue.

    A request leaves the queue while there is still time for a call. Otherwise, in a long queue, every call would start
    too late to finish: all would be paid for, and none answered.
    """

    def __init__(
        self,
        provider: LLMProviderProtocol,
        *,
        bulkhead: Bulkhead,
        gate: ThrottleGate,
        accounting: LLMAccountingProtocol,
    ) -> None:
        self._provider = provider
        self._bulkhead = bulkhead
        self._gate = gate
        self._accounting = accounting

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply; ServiceOverloadedError if the queue is full or takes too long.

        Raises PausedMeanwhile to `Throttled`.
        """
        call = current_call()
        began_s = call.deadline.clock()
        within_s = call.longest_queue_s(self._usual_s(request)) if self._bulkhead.is_full else 0.0
        try:
            slot = await self._bulkhead.enter(within_s=within_s)
        except ServiceOverloadedError as failure:
            failure.provider = request.provider
            failure.ran_out_of_time = failure.shed is ShedReason.QUEUE_TIMEOUT
            raise
        finally:
            call.record.queued_s += call.deadline.clock() - began_s
        try:
            if self._gate.remaining_s > 0:
                raise PausedMeanwhile
            known = await _bought_meanwhile(call.record) if call.record.queued_s >= LONG_WAIT_S else None
            return known or await self._provider.generate_comparison(request)
        finally:
            slot.leave()

    def _usual_s(self, request: ProviderRequest) -> float:
        return self._accounting.activity(request.provider).average_response_s or 0.0


async def _bought_meanwhile(record: Record) -> ProviderReply | None:
    """The answer, if another replica that was asked the same has bought it by now."""
    known = await record.look_again() if record.look_again else None
    record.has_found_it = known is not None
    return None if known is None else known.reply


class CircuitBroken:
    """Reports every attempt to the circuit exactly once, by the class of its failure."""

    def __init__(self, provider: LLMProviderProtocol, *, circuit: CircuitBreaker) -> None:
        self._provider = provider
        self._circuit = circuit

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply; CircuitOpenError if the circuit opened while the call was queued."""
        try:
            permit = self._circuit.acquire()
        except Refused as refusal:
            raise _circuit_open(refusal, request) from None
        try:
            reply = await self._provider.generate_comparison(request)
            permit.succeeded()
        except ProviderError as failure:
            if failure.trips_circuit:
                failure.opened_circuit = permit.failed(retry_after_s=failure.retry_after_s or 0.0)
            elif failure.forces_open:
                # A key or an account does not recover within seconds.
                failure.opened_circuit = permit.failed_lastingly(reason=failure.outcome, for_s=REPROBE_S)
            raise
        finally:
            permit.ignored()
        return reply


def _circuit_open(refusal: Refused, request: ProviderRequest) -> CircuitOpenError:
    """The error for the caller."""
    details = (
        "it has failed too often recently" if refusal.reason is None else f"its circuit is held open: {refusal.reason}"
    )
    wait_s = min(refusal.wait_s, PROBED_S) if refusal.is_probed else refusal.wait_s
    return CircuitOpenError(details, provider=request.provider, retry_after_s=wait_s if isfinite(wait_s) else None)
