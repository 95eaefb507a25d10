"""Who is looked up while nobody asks, and what comes of it: it is shown, and changes nothing."""

import asyncio
from datetime import timedelta

import pytest

from api_models import AttemptOutcome, CircuitState, ProviderName
from exceptions import ProviderAuthenticationError
from implementations.accounting.ledger import Ledger
from implementations.background.provider_monitor import ProviderMonitor
from implementations.provider_selector_impl import ProviderSelectorImpl
from implementations.request_builder_impl import RequestBuilderImpl
from protocols import Judge, ProbeFinding
from tests.fakes import (
    KNOBS,
    NOON,
    Calendar,
    FakeProvider,
    FixedPrices,
    FixedSettings,
    Timeline,
    booked_today,
    books,
    current_settings,
    guards,
    new_metrics,
    ranking,
    reply,
    request,
    tolerant_catalogue,
)

ANTHROPIC, OPENAI = ProviderName.ANTHROPIC, ProviderName.OPENAI
INTERVAL_S = 60.0
A_ROUND_S = INTERVAL_S * 1.1


class Watch:
    """A monitor of two providers, in virtual time."""

    def __init__(self, anthropic: FakeProvider, openai: FakeProvider, **settings: object) -> None:
        self.time, self.calendar = Timeline(), Calendar()
        self.settings = current_settings(**settings)
        self.findings: dict[ProviderName, ProbeFinding] = {}
        metrics = new_metrics()
        judges = {
            name: Judge(provider=one, metered=one, probe=one)
            for name, one in ((ANTHROPIC, anthropic), (OPENAI, openai))
        }
        self.ledger = Ledger(now=self.calendar)
        self.accounting = books(FixedPrices(), metrics=metrics, now=self.calendar, clock=self.time, ledger=self.ledger)
        self.guards = guards(metrics, self.time)
        self.selector = selector = ProviderSelectorImpl(
            judges=judges,
            guards=self.guards,
            configured=frozenset(judges),
            catalogue=tolerant_catalogue(),
            ranking=ranking(self.accounting),
            builder=RequestBuilderImpl(catalogue=tolerant_catalogue()),
            accounting=self.accounting,
            findings=self.findings,
        )
        self.monitor = ProviderMonitor(
            judges=judges,
            selector=selector,
            findings=self.findings,
            runtime_settings=FixedSettings(self.settings),
            interval_s=INTERVAL_S,
            clock=self.time,
            sleep=self.time.sleep,
            now=self.calendar,
        )

    def shown(self, name: ProviderName) -> ProbeFinding | None:
        return self.selector.status(name, self.settings).last_probe

    async def rounds(self, number: int) -> None:
        """Let so many rounds happen."""
        task = asyncio.create_task(self.monitor.run())
        for _ in range(number):
            await self.time.pass_until(self.time() + A_ROUND_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_whom_nobody_asks_is_looked_up_once_a_round() -> None:
    anthropic, openai = FakeProvider(), FakeProvider(probe=ProviderAuthenticationError("401"))
    watch = Watch(anthropic, openai)
    await watch.rounds(1)
    assert (anthropic.probes, openai.probes) == (1, 1)
    assert watch.findings == {
        ANTHROPIC: ProbeFinding(at=NOON, success=True, message="The key is accepted."),
        OPENAI: ProbeFinding(at=NOON, success=False, message="The provider refused our key."),
    }


async def test_a_failed_look_up_is_forgotten_once_a_call_succeeds() -> None:
    watch = Watch(FakeProvider(), FakeProvider(probe=ProviderAuthenticationError("401")))
    watch.accounting.started(request(provider=OPENAI))
    watch.accounting.succeeded(request(provider=OPENAI), reply(), 1.0)
    await watch.time.pass_until(watch.time() + INTERVAL_S)
    watch.calendar.now += timedelta(seconds=INTERVAL_S)
    await watch.rounds(1)
    assert watch.shown(OPENAI) == watch.findings[OPENAI]
    watch.calendar.now += timedelta(seconds=1)
    watch.accounting.started(request(provider=OPENAI))
    watch.accounting.failed(request(provider=OPENAI), AttemptOutcome.TIMEOUT, 1.0, None)
    assert watch.shown(OPENAI) == watch.findings[OPENAI]
    watch.accounting.started(request(provider=OPENAI))
    watch.accounting.succeeded(request(provider=OPENAI), reply(), 1.0)
    assert watch.shown(OPENAI) is None
    assert watch.shown(ANTHROPIC) == watch.findings[ANTHROPIC]


async def test_nobody_is_looked_up_at_the_start() -> None:
    anthropic, openai = FakeProvider(), FakeProvider()
    await Watch(anthropic, openai).rounds(0)
    assert (anthropic.probes, openai.probes) == (0, 0)


async def test_who_was_heard_lately_is_left_alone_until_silent_whatever_the_wall_clock_does() -> None:
    anthropic, openai = FakeProvider(), FakeProvider()
    watch = Watch(anthropic, openai)
    watching = asyncio.create_task(watch.monitor.run())
    await watch.time.pass_until(watch.time() + INTERVAL_S / 2)
    watch.accounting.started(request())
    watch.accounting.succeeded(request(), reply(), 1.0)
    watch.calendar.now -= timedelta(days=366)
    await watch.time.pass_until(watch.time() + A_ROUND_S - INTERVAL_S / 2)
    assert (anthropic.probes, openai.probes) == (0, 1)
    await watch.time.pass_until(watch.time() + A_ROUND_S)
    assert (anthropic.probes, openai.probes) == (1, 2)
    watching.cancel()


async def test_an_open_circuit_is_looked_up_and_stays_open_whatever_is_found() -> None:
    anthropic, openai = FakeProvider(), FakeProvider()
    watch = Watch(anthropic, openai)
    watch.accounting.started(request())
    watch.accounting.succeeded(request(), reply(), 1.0)
    watch.guards[ANTHROPIC].circuit.force(CircuitState.OPEN, reason="maintenance", actor="somebody")
    await watch.rounds(1)
    assert watch.findings[ANTHROPIC].success
    assert watch.guards[ANTHROPIC].circuit.state is CircuitState.OPEN
    assert booked_today(watch.ledger, ANTHROPIC).requests == 1


async def test_who_may_not_be_asked_is_not_looked_up() -> None:
    anthropic, openai = FakeProvider(), FakeProvider()
    await Watch(anthropic, openai, enabled_providers=frozenset({OPENAI})).rounds(1)
    assert (anthropic.probes, openai.probes) == (0, 1)


async def test_while_the_mock_judges_nobody_is_looked_up() -> None:
    anthropic, openai = FakeProvider(), FakeProvider()
    await Watch(anthropic, openai, mock=KNOBS).rounds(1)
    assert (anthropic.probes, openai.probes) == (0, 0)
