"""What the gauges say of the providers: who can be asked, who is left alone, and who holds a circuit and why."""

import pytest

from api_models import CircuitState, HoldReason, ProviderName
from exceptions import ProviderError, failures
from implementations.resilience.circuit_breaker import OWN_DECISION
from implementations.selection.standing import show_standing
from metrics import Metrics
from protocols import ProviderStatus
from tests.fakes import Clock, guards, new_metrics, provider_status, sample

OPENAI = ProviderName.OPENAI


def open_mode(metrics: Metrics) -> float | None:
    return sample(metrics, "llm_provider_degraded_mode", mode="provider_open")


def held(metrics: Metrics) -> set[str]:
    name = "llm_provider_circuit_breaker_held"
    return {reason for reason in HoldReason if sample(metrics, name, provider=OPENAI, reason=reason)}


def test_a_usable_provider_is_one_that_is_enabled_and_configured() -> None:
    metrics = new_metrics()
    statuses = [provider_status(), provider_status(name=OPENAI, configured=False)]
    show_standing(lambda: statuses, metrics)

    usable = {name for name in ProviderName if sample(metrics, "llm_provider_usable_providers", provider=name)}
    assert usable == {ProviderName.ANTHROPIC}
    statuses[0] = provider_status(enabled=False)
    assert sample(metrics, "llm_provider_usable_providers", provider=ProviderName.ANTHROPIC) == 0.0


@pytest.mark.parametrize(
    ("status", "is_on"),
    [
        (provider_status(circuit_state=CircuitState.OPEN), 1.0),
        (provider_status(circuit_state=CircuitState.OPEN, enabled=False), 0.0),
        (provider_status(circuit_state=CircuitState.HALF_OPEN), 0.0),
        (provider_status(), 0.0),
    ],
)
def test_an_open_circuit_is_a_degraded_mode_when_the_provider_is_of_use(status: ProviderStatus, is_on: float) -> None:
    metrics = new_metrics()
    show_standing(lambda: [status, provider_status(name=OPENAI)], metrics)

    assert open_mode(metrics) == is_on


def test_a_held_circuit_says_why_and_no_word_of_the_operator_s() -> None:
    metrics, clock = new_metrics(), Clock()
    circuit = guards(metrics, clock)[OPENAI].circuit
    assert held(metrics) == set()
    for outcome in {kind.outcome for kind in failures() if issubclass(kind, ProviderError) and kind.forces_open}:
        circuit.force(CircuitState.OPEN, reason=outcome, actor=OWN_DECISION, for_s=300.0)
        assert held(metrics) == {outcome}, "a member of HoldReason in api_models.py"
    clock.advance(300.0)
    assert held(metrics) == set()
    circuit.force(CircuitState.CLOSED, reason="quota", actor="admin@127.0.0.1")
    assert held(metrics) == {"operator"}
