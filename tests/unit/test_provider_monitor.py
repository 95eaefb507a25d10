"""Who is looked up while nobody asks, and what comes of it: it is shown, and changes nothing."""

import asyncio
import random
from datetime import timedelta

import pytest

from api_models import AttemptOutcome, CircuitState, ProviderName
from exceptions import ProviderAuthenticationError
from implementations.accounting.ledger import Ledger
from implementations.background import provider_monitor
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
    accounting_of,
    booked_today,
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


class Harness:
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
        self.accounting = accounting_of(
            FixedPrices(), metrics=metrics, now=self.calendar, clock=self.time, ledger=self.ledger
        )
        self.guards = guards(metrics, self.time)
        self.selector = selector = ProviderSelectorImpl(
            judges=judges,
            guards=self.guards,
            configured=frozenset(judges),
            catalogue=tolerant_catalogue(),
            ranking=ranking(self.accounting),
            builder=RequestBuilderImpl(catalogue=tolerant_catalogue(), base_urls={}),
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

    def succeeds(self, name: ProviderName = ANTHROPIC) -> None:
        self.accounting.started(request(provider=name))
        self.accounting.succeeded(request(provider=name), reply(), 1.0)

    def fails(self, name: ProviderName) -> None:
        self.accounting.started(request(provider=name))
        self.accounting.failed(request(provider=name), AttemptOutcome.UNAVAILABLE, 1.0, None)

    async def rounds(self, number: int) -> None:
        """Let so many rounds happen."""
        task = asyncio.create_task(self.monitor.run())
        for _ in range(number):
            await self.time.pass_until(self.time() + A_ROUND_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_whom_nobody_asks_is_looked_up_once_a_round() -> None:
    anthropic, openai = FakeProvider(), FakeProvider(probe=ProviderAuthenticationError("it answered 401"))
    harness = Harness(anthropic, openai)
    await harness.rounds(1)
    assert (anthropic.probes, openai.probes) == (1, 1)
    assert harness.findings == {
        ANTHROPIC: ProbeFinding(at=NOON, success=True, message="The key is accepted."),
        OPENAI: ProbeFinding(at=NOON, success=False, message="The provider refused our key. (it answered 401)"),
    }


@pytest.mark.parametrize("later_s", [1.0, -86_400.0])
async def test_a_failed_look_up_is_forgotten_once_a_call_succeeds_whatever_the_wall_clock_does(later_s: float) -> None:
    harness = Harness(FakeProvider(), FakeProvider(probe=ProviderAuthenticationError("401")))
    harness.succeeds(OPENAI)
    await harness.time.pass_until(harness.time() + INTERVAL_S)
    harness.calendar.now += timedelta(seconds=INTERVAL_S)
    await harness.rounds(1)
    assert harness.shown(OPENAI) == harness.findings[OPENAI]
    harness.calendar.now += timedelta(seconds=later_s)
    harness.fails(OPENAI)
    assert harness.shown(OPENAI) == harness.findings[OPENAI]
    harness.succeeds(OPENAI)
    assert harness.shown(OPENAI) is None
    assert harness.shown(ANTHROPIC) == harness.findings[ANTHROPIC]


async def test_a_call_that_succeeds_during_a_failed_look_up_refutes_it() -> None:
    class Probed(FakeProvider):
        async def probe(self) -> str:
            harness.succeeds(OPENAI)
            raise ProviderAuthenticationError("401")

    harness = Harness(FakeProvider(), Probed())
    await harness.rounds(1)
    assert not harness.findings[OPENAI].success
    assert harness.shown(OPENAI) is None


async def test_nobody_is_looked_up_at_the_start() -> None:
    anthropic, openai = FakeProvider(), FakeProvider()
    await Harness(anthropic, openai).rounds(0)
    assert (anthropic.probes, openai.probes) == (0, 0)


async def test_who_was_heard_lately_is_left_alone_until_silent_whatever_the_wall_clock_does() -> None:
    anthropic, openai = FakeProvider(), FakeProvider()
    harness = Harness(anthropic, openai)
    watching = asyncio.create_task(harness.monitor.run())
    await harness.time.pass_until(harness.time() + INTERVAL_S / 2)
    harness.succeeds()
    harness.calendar.now -= timedelta(days=366)
    await harness.time.pass_until(harness.time() + A_ROUND_S - INTERVAL_S / 2)
    assert (anthropic.probes, openai.probes) == (0, 1)
    await harness.time.pass_until(harness.time() + A_ROUND_S)
    assert (anthropic.probes, openai.probes) == (1, 2)
    watching.cancel()


async def test_an_open_circuit_is_looked_up_and_stays_open_whatever_is_found() -> None:
    anthropic, openai = FakeProvider(), FakeProvider()
    harness = Harness(anthropic, openai)
    harness.succeeds()
    harness.guards[ANTHROPIC].circuit.force(CircuitState.OPEN, reason="maintenance", actor="somebody")
    await harness.rounds(1)
    assert harness.findings[ANTHROPIC].success
    assert harness.guards[ANTHROPIC].circuit.state is CircuitState.OPEN
    assert booked_today(harness.ledger, ANTHROPIC).requests == 1


async def test_an_open_circuit_is_looked_up_though_the_provider_was_heard_a_moment_ago() -> None:
    anthropic, openai = FakeProvider(), FakeProvider()
    harness = Harness(anthropic, openai)
    watching = asyncio.create_task(harness.monitor.run())
    await harness.time.pass_until(harness.time() + INTERVAL_S / 2)
    for name in (ANTHROPIC, OPENAI):
        harness.fails(name)
    harness.guards[ANTHROPIC].circuit.force(CircuitState.OPEN, reason="maintenance", actor="somebody")
    await harness.time.pass_until(harness.time() + A_ROUND_S - INTERVAL_S / 2)
    assert (anthropic.probes, openai.probes) == (1, 0)
    watching.cancel()


async def test_a_look_up_that_hangs_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider_monitor.PROBE_TIMEOUT_S <= 10.0
    monkeypatch.setattr(provider_monitor, "PROBE_TIMEOUT_S", 0.01)
    reached = asyncio.Event()

    class Hanging(FakeProvider):
        async def probe(self) -> str:
            await asyncio.Event().wait()
            return await super().probe()

    class Next(FakeProvider):
        async def probe(self) -> str:
            reached.set()
            return await super().probe()

    harness = Harness(Hanging(), Next())
    watching = asyncio.create_task(harness.monitor.run())
    await harness.time.pass_until(harness.time() + A_ROUND_S)
    await reached.wait()
    assert harness.findings[ANTHROPIC] == ProbeFinding(
        at=NOON, success=False, message="It did not answer within ten seconds."
    )
    watching.cancel()


async def test_replicas_that_started_together_do_not_look_up_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, high: high)
    anthropic, openai = FakeProvider(), FakeProvider()
    harness = Harness(anthropic, openai)
    watching = asyncio.create_task(harness.monitor.run())
    await harness.time.pass_until(harness.time() + INTERVAL_S)
    assert (anthropic.probes, openai.probes) == (0, 0)
    await harness.time.pass_until(harness.time() + A_ROUND_S - INTERVAL_S)
    assert (anthropic.probes, openai.probes) == (1, 1)
    watching.cancel()


@pytest.mark.parametrize(
    ("settings", "probes"), [({"enabled_providers": frozenset({OPENAI})}, (0, 1)), ({"mock": KNOBS}, (0, 0))]
)
async def test_who_may_not_be_asked_is_not_looked_up(settings: dict[str, object], probes: tuple[int, int]) -> None:
    anthropic, openai = FakeProvider(), FakeProvider()
    await Harness(anthropic, openai, **settings).rounds(1)
    assert (anthropic.probes, openai.probes) == probes
