"""The guards in front of one provider (circuit, throttle gate, bulkhead, retry budget), as one inspectable object."""

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import structlog

from api_models import CircuitState, HoldReason, ProviderName
from implementations.resilience.bulkhead import Bulkhead
from implementations.resilience.call import SHORTEST_ATTEMPT_S
from implementations.resilience.circuit_breaker import OWN_DECISION, CircuitBreaker, CircuitRules
from implementations.resilience.retry_budget import RetryBudget
from implementations.resilience.throttle_gate import ThrottleGate
from metrics import Metrics
from protocols import ClockProtocol

log = structlog.get_logger("circuit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """One provider's circuit, throttle gate, bulkhead and retry budget."""

    circuit: CircuitBreaker
    gate: ThrottleGate
    bulkhead: Bulkhead
    retry_budget: RetryBudget

    def may_be_asked(self, half_s: float) -> bool:
        """Whether a call that comes after half_s, with as much left, would pass circuit and gate, as far as known.

        A half-open circuit will soon be open or closed; a call waits at the gate as long as an attempt fits in then.
        Without the time for an attempt it is not made.
        """
        refusal = self.circuit.refusal()
        if refusal is not None and not refusal.is_probed and refusal.wait_s > half_s:
            return False
        return max(half_s, self.gate.remaining_s) + SHORTEST_ATTEMPT_S <= 2 * half_s


ProviderGuards = Mapping[ProviderName, Guards]


def guards_of(
    name: ProviderName,
    rules: CircuitRules,
    *,
    slots: int,
    queue_limit: int,
    metrics: Metrics,
    clock: ClockProtocol,
    queueing: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Guards:
    """The guards of one provider, with their metrics. Each transition is one log line and one metric update.

    slots: concurrent calls; queue_limit: how many may wait for a slot, and how many for the end of a pause.
    queueing: entered while waiting for either.
    """

    def log_change(before: CircuitState, after: CircuitState) -> None:
        metrics.circuit_changed(name, after)
        hold = guards.circuit.hold
        write = log.warning if after is CircuitState.OPEN else log.info
        write(
            "circuit_changed", provider=name, before=before, after=after, reason=None if hold is None else hold.reason
        )

    guards = Guards(
        circuit=CircuitBreaker(rules, clock=clock, jitter=random.uniform, on_transition=log_change),
        gate=ThrottleGate(queue_limit=queue_limit, clock=clock, queueing=queueing),
        bulkhead=Bulkhead(limit=slots, queue_limit=queue_limit, queueing=queueing),
        retry_budget=RetryBudget(),
    )
    metrics.throttle_paused.of(name).set_function(lambda: guards.gate.remaining_s)
    metrics.retry_budget.of(name).set_function(lambda: guards.retry_budget.tokens)
    metrics.queued.of(name).set_function(lambda: guards.bulkhead.waiting)
    for reason in HoldReason:
        metrics.circuit_held.of(name, reason).set_function(partial(_is_held, guards.circuit, reason))
    return guards


def _is_held(circuit: CircuitBreaker, reason: HoldReason) -> float:
    hold = circuit.hold
    if hold is None:
        return 0.0
    return float(reason == (hold.reason if hold.actor == OWN_DECISION else HoldReason.OPERATOR))
