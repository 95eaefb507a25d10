"""A circuit breaker in time that passes only when told to."""

from collections.abc import Callable

import pytest

from api_models import CircuitState
from implementations.resilience.circuit_breaker import CircuitBreaker, CircuitRules, Permit, Refused
from tests.fakes import Clock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

Report = Callable[[Permit], object]

REPORTS = [
    pytest.param(Permit.succeeded, id="succeeded"),
    pytest.param(Permit.failed, id="failed"),
    pytest.param(Permit.ignored, id="ignored"),
]


class Circuit:
    """A circuit breaker with what surrounds it. luck: where between its bounds the jitter falls."""

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        luck: float = 1.0,
        failure_threshold: int = 5,
        longest_open_s: float = 300.0,
        counts: bool = True,
    ) -> None:
        self.clock = clock or Clock()
        self.luck = luck
        self.bounds: list[tuple[float, float]] = []
        self.told: list[tuple[CircuitState, CircuitState]] = []
        self.breaker = CircuitBreaker(
            CircuitRules(
                counts=counts,
                failure_threshold=failure_threshold,
                recovery_s=30.0,
                longest_open_s=longest_open_s,
                success_threshold=2,
                probe_s=20.0,
            ),
            clock=self.clock,
            jitter=self._jitter,
            on_transition=self._tell,
        )

    def _tell(self, before: CircuitState, after: CircuitState) -> None:
        assert self.breaker.state is after, "whoever is told sees the new state already"
        self.told.append((before, after))

    def _jitter(self, low: float, high: float) -> float:
        self.bounds.append((low, high))
        return low + (high - low) * self.luck

    def good(self, calls: int = 1) -> None:
        for _ in range(calls):
            self.breaker.acquire().succeeded()

    def bad(self, calls: int = 1, *, retry_after_s: float = 0.0) -> None:
        for _ in range(calls):
            self.breaker.acquire().failed(retry_after_s=retry_after_s)

    def force(self, state: CircuitState, for_s: float | None = None) -> None:
        self.breaker.force(state, reason="maintenance", actor="operator", for_s=for_s)

    def wait(self) -> None:
        """Until the next call may pass, and not a moment longer."""
        self.clock.advance(self.wait_s)

    @property
    def state(self) -> CircuitState:
        return self.breaker.state

    @property
    def wait_s(self) -> float:
        refusal = self.breaker.refusal()
        return 0.0 if refusal is None else refusal.wait_s

    @property
    def refuses(self) -> bool:
        """What it says and what it does are the same."""
        says = self.breaker.refusal() is not None
        if says:
            with pytest.raises(Refused):
                self.breaker.acquire()
        return says


def opened(*, luck: float = 1.0) -> Circuit:
    circuit = Circuit(luck=luck)
    circuit.bad(5)
    assert circuit.state is OPEN
    return circuit


def half_open() -> tuple[Circuit, Permit]:
    """A circuit with its first probe under way."""
    circuit = opened()
    circuit.wait()
    probe = circuit.breaker.acquire()
    assert circuit.state is HALF_OPEN
    return circuit, probe
