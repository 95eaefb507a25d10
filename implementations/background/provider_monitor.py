"""Probes providers for free when there is no traffic to judge by: the circuit is not closed, or the provider was idle.

Findings are only displayed: only real calls move a circuit.
"""

import random
from collections.abc import Callable
from datetime import datetime

from api_models import CircuitState, ProviderName
from exceptions import ServiceError
from implementations.resilience.call import brief_call
from protocols import (
    ClockProtocol,
    Judges,
    LLMProviderSelectorProtocol,
    ProbeFinding,
    ProviderFindings,
    ProviderStatus,
    RuntimeSettingsProtocol,
    SleepProtocol,
)

PROBE_TIMEOUT_S = 10.0
JITTER = 0.1


class ProviderMonitor:
    """interval_s: seconds between two rounds, and how long a provider must be idle to be probed."""

    def __init__(
        self,
        *,
        judges: Judges,
        selector: LLMProviderSelectorProtocol,
        findings: ProviderFindings,
        runtime_settings: RuntimeSettingsProtocol,
        interval_s: float,
        clock: ClockProtocol,
        sleep: SleepProtocol,
        now: Callable[[], datetime],
    ) -> None:
        self._judges = judges
        self._selector = selector
        self._findings = findings
        self._runtime_settings = runtime_settings
        self._interval_s = interval_s
        self._clock = clock
        self._sleep = sleep
        self._now = now

    async def run(self) -> None:
        """Run forever, probing one provider at a time to avoid bursts."""
        while True:
            await self._sleep(self._interval_s * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311  spreads replicas
            settings = self._runtime_settings.current()
            for listed in self._selector.statuses(settings):
                status = self._selector.status(listed.name, settings)  # by now: the probe before took its time
                if status.name is not ProviderName.MOCK and self._is_due(status):
                    self._findings[status.name] = await self._probe(status)

    def _is_due(self, status: ProviderStatus) -> bool:
        """Usable, and either its circuit is not closed or it was idle for an interval."""
        if not status.is_usable:
            return False
        heard_s = status.activity.last_heard_s
        is_idle = heard_s is None or self._clock() - heard_s >= self._interval_s
        return status.circuit_state is not CircuitState.CLOSED or is_idle

    async def _probe(self, status: ProviderStatus) -> ProbeFinding:
        last_success = status.activity.last_success  # of before: a call that succeeds meanwhile refutes a failed probe
        success, message = False, "It did not answer within ten seconds."
        try:
            async with brief_call(PROBE_TIMEOUT_S, self._clock):
                message = await self._judges[status.name].probe.probe()
            success = True
        except TimeoutError:
            pass
        except ServiceError as failure:
            message = failure.in_words
        return ProbeFinding(at=self._now(), success=success, message=message, last_success=last_success)
