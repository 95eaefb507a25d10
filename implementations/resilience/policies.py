"""The policies around a metered judge: each is a provider itself. Their order is the business of `di.py`."""

from dataclasses import replace

from api_models import CircuitState
from exceptions import (
    CircuitOpenError,
    ProviderError,
    ServiceOverloadedError,
    ThrottlePausedError,
    TruncatedReplyError,
)
from implementations.resilience.bulkhead import Bulkhead
from implementations.resilience.call import SHORTEST_ATTEMPT_S, current_call
from implementations.resilience.circuit_breaker import CircuitBreaker, Refused
from implementations.resilience.throttle_gate import ThrottleGate
from protocols import (
    ClockProtocol,
    LLMProviderProtocol,
    LLMRetryManagerProtocol,
    ProviderReply,
    ProviderRequest,
    SleepProtocol,
)

REPROBE_S = 300.0
OWN_DECISION = "service"


class Retrying:
    """Repeats what may be repeated; the retry manager decides."""

    def __init__(self, provider: LLMProviderProtocol, *, retries: LLMRetryManagerProtocol) -> None:
        self._provider = provider
        self._retries = retries

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The first good reply, or the last failure. What was cut off is asked again with more room."""
        asked = request

        async def attempt() -> ProviderReply:
            nonlocal asked
            try:
                return await self._provider.generate_comparison(asked)
            except TruncatedReplyError as cut:
                asked = replace(asked, max_tokens=cut.larger_max_tokens or asked.max_tokens)
                raise

        return await self._retries.run(attempt)


class FailingFast:
    """Only looks: an open circuit answers before any queue. The permit is taken with the slot in hand, further in."""

    def __init__(self, provider: LLMProviderProtocol, *, circuit: CircuitBreaker) -> None:
        self._provider = provider
        self._circuit = circuit

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply, or CircuitOpenError at once."""
        refusal = self._circuit.refusal()
        if refusal is not None:
            raise circuit_open(refusal, request)
        return await self._provider.generate_comparison(request)


class Throttled:
    """Waits out the pause that the provider asked for; nobody holds a slot meanwhile."""

    def __init__(
        self,
        provider: LLMProviderProtocol,
        *,
        gate: ThrottleGate,
        clock: ClockProtocol,
        sleep: SleepProtocol,
    ) -> None:
        self._provider = provider
        self._gate = gate
        self._clock = clock
        self._sleep = sleep

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply; ThrottlePausedError when the pause outlasts the request, or too many wait for its end."""
        while (pause_s := self._gate.remaining_s) > 0:
            if self._gate.is_crowded or pause_s + SHORTEST_ATTEMPT_S > current_call().deadline.remaining_s():
                raise ThrottlePausedError("it asked for a pause", provider=request.provider, retry_after_s=pause_s)
            began_s = self._clock()
            try:
                with self._gate.waiting():
                    await self._sleep(pause_s)
            finally:
                current_call().record.queued_s += self._clock() - began_s
        try:
            return await self._provider.generate_comparison(request)
        except ProviderError as failure:
            if failure.throttles and failure.retry_after_s:
                self._gate.pause(failure.retry_after_s)
            raise


class ConcurrencyLimited:
    """Keeps a hanging provider from taking everybody in: so many calls at once, the others wait within their time."""

    def __init__(self, provider: LLMProviderProtocol, *, bulkhead: Bulkhead, clock: ClockProtocol) -> None:
        self._provider = provider
        self._bulkhead = bulkhead
        self._clock = clock

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply; ServiceOverloadedError when the request's time ends in the queue."""
        call, began_s = current_call(), self._clock()
        try:
            place = await self._bulkhead.enter(within_s=call.deadline.remaining_s() - SHORTEST_ATTEMPT_S)
        except ServiceOverloadedError as failure:
            failure.provider = request.provider
            raise
        finally:
            call.record.queued_s += self._clock() - began_s
        try:
            return await self._provider.generate_comparison(request)
        finally:
            place.leave()


class CircuitBroken:
    """Reports every attempt to the circuit, as the class of its failure says, exactly once."""

    def __init__(self, provider: LLMProviderProtocol, *, circuit: CircuitBreaker) -> None:
        self._provider = provider
        self._circuit = circuit

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply; CircuitOpenError when the circuit opened while the call was queued."""
        try:
            permit = self._circuit.acquire()
        except Refused as refusal:
            raise circuit_open(refusal, request) from None
        try:
            reply = await self._provider.generate_comparison(request)
            permit.succeeded()
        except ProviderError as failure:
            if failure.trips_circuit:
                failure.opened_circuit = permit.failed(retry_after_s=failure.retry_after_s or 0.0)
            elif failure.forces_open:
                failure.opened_circuit = self._force_open(failure)
            raise
        finally:
            permit.ignored()
        return reply

    def _force_open(self, failure: ProviderError) -> bool:
        """A key or an account does not mend itself within seconds; what an operator forced goes before."""
        if self._circuit.override is not None:
            return False
        was_open = self._circuit.state is CircuitState.OPEN
        self._circuit.force(CircuitState.OPEN, reason=failure.outcome, actor=OWN_DECISION, for_s=REPROBE_S)
        return not was_open


def circuit_open(refusal: Refused, request: ProviderRequest) -> CircuitOpenError:
    """What a caller is told."""
    details = "it failed too often lately" if refusal.reason is None else f"its circuit is held open: {refusal.reason}"
    return CircuitOpenError(details, provider=request.provider, retry_after_s=refusal.retry_after_s)
