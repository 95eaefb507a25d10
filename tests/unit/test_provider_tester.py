"""The operator's test of one provider: the free look-up, or one paid verdict a minute."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import pytest

import exceptions  # as a module: pytest would collect a class called Tested...
from api_models import ANONYMOUS, CostTracked, ProviderName, ProviderTestResponse, Winner
from exceptions import ProviderTimeoutError, ProviderUnavailableError
from implementations import provider_tester_impl
from implementations.provider_tester_impl import ProviderTesterImpl
from implementations.request_builder_impl import RequestBuilderImpl
from implementations.resilience.call import current_call
from implementations.resilience.metering import Metered
from implementations.resilience.single_flight import SingleFlight
from protocols import (
    Candidate,
    ComparisonQuery,
    CurrentSettings,
    Judge,
    MockKnobs,
    ProviderReply,
    ProviderRequest,
    ProviderStatus,
)
from tests.fakes import (
    KNOBS,
    KNOWN_MODEL,
    Calendar,
    Clock,
    FakeProvider,
    FixedPrices,
    FixedSettings,
    Held,
    Recorder,
    Step,
    accounting_of,
    current_settings,
    new_metrics,
    provider_status,
    receipts,
    reply,
    tolerant_catalogue,
    unlimited,
)

ANTHROPIC, OPENAI, MOCK = ProviderName.ANTHROPIC, ProviderName.OPENAI, ProviderName.MOCK
TOO_LATE = "The provider did not answer within ten seconds."


class HeldLookUp(FakeProvider):
    """A judge whose look-up goes on when it is told to."""

    def __init__(self, *script: Step) -> None:
        super().__init__(*script)
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def probe(self) -> str:
        self.reached.set()
        await self.go.wait()
        return await super().probe()


class OneStatus:
    """A selector that says the same about everybody."""

    def __init__(self, *, enabled: bool, configured: bool, reason: str | None) -> None:
        self._enabled, self._configured, self._reason = enabled, configured, reason

    def candidates(self, query: ComparisonQuery, settings: CurrentSettings) -> Sequence[Candidate]:
        raise NotImplementedError

    def statuses(self, settings: CurrentSettings) -> Sequence[ProviderStatus]:
        raise NotImplementedError

    def status(self, name: ProviderName, settings: CurrentSettings) -> ProviderStatus:
        return provider_status(name=name, enabled=self._enabled, configured=self._configured, reason=self._reason)


class Harness:
    """A tester with judges whose stack of policies must never be asked."""

    def __init__(
        self,
        judges: dict[ProviderName, FakeProvider],
        *,
        enabled: bool = True,
        configured: bool = True,
        reason: str | None = None,
        mock: MockKnobs | None = None,
    ) -> None:
        self.clock = Clock()
        self.stack = FakeProvider()
        self.events = Recorder()
        self.metrics = new_metrics()
        accounting = accounting_of(FixedPrices(), metrics=self.metrics, now=Calendar())
        self.flights = SingleFlight[ProviderReply]()
        self.tester = ProviderTesterImpl(
            judges={
                name: Judge(
                    provider=self.stack,
                    metered=Metered(one, budget=unlimited(), accounting=accounting),
                    probe=one,
                )
                for name, one in judges.items()
            },
            selector=OneStatus(enabled=enabled, configured=configured, reason=reason),
            builder=RequestBuilderImpl(catalogue=tolerant_catalogue(), base_urls={}),
            runtime_settings=FixedSettings(current_settings(mock=mock)),
            flights=self.flights,
            receipts=receipts(self.events, self.metrics),
            clock=self.clock,
        )

    async def test(self, provider: ProviderName = ANTHROPIC, *, deep: bool = False) -> ProviderTestResponse:
        return await self.tester.test(provider, deep=deep, caller=ANONYMOUS, correlation_id=uuid4())


async def test_a_look_up_that_goes_well_is_reported_and_buys_nothing() -> None:
    judge = FakeProvider()
    report = await Harness({ANTHROPIC: judge}).test()

    assert report == ProviderTestResponse(
        success=True, provider=ANTHROPIC, message="The key is accepted.", response_time_ms=0, model=None
    )
    assert (judge.probes, judge.requests) == (1, [])


async def test_a_report_tells_how_long_the_test_took() -> None:
    async def slowly(_: ProviderRequest) -> ProviderReply:
        harness.clock.advance(2.0)
        return reply()

    harness = Harness({ANTHROPIC: FakeProvider(slowly)})
    assert (await harness.test(deep=True)).response_time_ms == 2000


async def test_a_look_up_is_allowed_as_often_as_wanted() -> None:
    judge = FakeProvider()
    harness = Harness({ANTHROPIC: judge})
    for _ in range(5):
        assert (await harness.test()).success

    assert judge.probes == 5


async def test_look_ups_that_are_asked_for_together_are_one_at_each_provider() -> None:
    held, other = HeldLookUp(), FakeProvider()
    harness = Harness({ANTHROPIC: held, OPENAI: other})
    first, *rest = [asyncio.create_task(harness.test()) for _ in range(3)]
    await held.reached.wait()
    assert (await harness.test(OPENAI)).success
    first.cancel()
    await asyncio.wait([first])
    held.go.set()

    assert [(await one).success for one in rest] == [True, True]
    assert (held.probes, other.probes) == (1, 1)


@pytest.mark.parametrize("deep", [False, True])
async def test_an_open_circuit_blocks_no_test(*, deep: bool) -> None:
    assert (await Harness({ANTHROPIC: FakeProvider(reply())}, reason="circuit open").test(deep=deep)).success


async def test_a_failure_is_reported_with_its_sentence_and_raises_nothing() -> None:
    failure = ProviderUnavailableError("the connection was refused", provider=ANTHROPIC)
    report = await Harness({ANTHROPIC: FakeProvider(probe=failure)}).test()

    assert (report.success, report.model) == (False, None)
    assert report.message == "The provider is not available. (the connection was refused)"


async def test_a_verdict_that_fails_is_reported_with_its_sentence() -> None:
    judge = FakeProvider(ProviderUnavailableError("the connection was refused", provider=ANTHROPIC))
    report = await Harness({ANTHROPIC: judge}).test(deep=True)

    assert not report.success
    assert report.message.startswith(ProviderUnavailableError.sentence)


async def test_a_look_up_that_runs_out_of_time_by_itself_is_told_as_such() -> None:
    report = await Harness({ANTHROPIC: FakeProvider(probe=TimeoutError())}).test()

    assert (report.success, report.message) == (False, TOO_LATE)


async def test_a_deep_test_blames_its_own_time_and_not_the_attempt_timeout_of_comparisons() -> None:
    failure = ProviderTimeoutError("no answer within the attempt timeout", provider=ANTHROPIC)
    report = await Harness({ANTHROPIC: FakeProvider(failure)}).test(deep=True)

    assert (report.success, report.message) == (False, TOO_LATE)


async def test_a_test_that_hangs_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider_tester_impl.TEST_TIMEOUT_S < 10.0
    monkeypatch.setattr(provider_tester_impl, "TEST_TIMEOUT_S", 0.01)
    harness = Harness({ANTHROPIC: HeldLookUp(Held(reply()))})
    async with asyncio.timeout(30):
        reports = [await harness.test(deep=False), await harness.test(deep=True)]

    assert [(report.success, report.message) for report in reports] == [(False, TOO_LATE)] * 2


async def test_the_attempt_of_a_deep_test_ends_a_little_before_the_test() -> None:
    left_s: list[float] = []

    async def asked(_: ProviderRequest) -> ProviderReply:
        left_s.append(current_call().deadline.attempt_s())
        return reply()

    await Harness({ANTHROPIC: FakeProvider(asked)}).test(deep=True)
    assert 0.9 < left_s[0] / provider_tester_impl.TEST_TIMEOUT_S < 1.0


async def test_a_deep_test_buys_one_verdict_past_the_policies_and_tells_the_model() -> None:
    judge = FakeProvider(reply())
    harness = Harness({ANTHROPIC: judge})
    report = await harness.test(deep=True)

    assert (report.success, report.model) == (True, KNOWN_MODEL)
    assert report.message == "The provider judged a pair: Essay A."
    assert len(judge.requests) == 1
    assert (judge.probes, harness.stack.requests) == (0, [])


async def test_what_a_deep_test_pays_for_is_told_though_whoever_asked_has_left() -> None:
    held = Held(reply())
    harness = Harness({ANTHROPIC: FakeProvider(held)})
    asked = asyncio.create_task(harness.test(deep=True))
    await held.reached.wait()
    asked.cancel()
    await asyncio.wait([asked])
    assert len(harness.flights.tasks) == 1
    await held.goes_on()
    assert not harness.flights.tasks
    assert [event.cost_estimate_usd for event in harness.events.of(CostTracked)] == [reply().purchase.cost_usd]


async def test_a_deep_test_is_allowed_once_a_minute() -> None:
    judge = FakeProvider(reply(), reply())
    harness = Harness({ANTHROPIC: judge})
    await harness.test(deep=True)
    harness.clock.advance(45)
    with pytest.raises(exceptions.TestedTooOftenError) as refused:
        await harness.test(deep=True)
    assert (refused.value.provider, refused.value.retry_after_s) == (ANTHROPIC, 15.0)
    assert len(judge.requests) == 1
    assert (await harness.test(deep=False)).success
    harness.clock.advance(15)

    assert (await harness.test(deep=True)).success


async def test_a_deep_test_that_failed_counts_as_well() -> None:
    harness = Harness({ANTHROPIC: FakeProvider(ProviderUnavailableError("it was down", provider=ANTHROPIC))})
    await harness.test(deep=True)

    with pytest.raises(exceptions.TestedTooOftenError):
        await harness.test(deep=True)


async def test_deep_tests_that_arrive_together_buy_one_verdict() -> None:
    held = Held(reply())
    judge = FakeProvider(held)
    harness = Harness({ANTHROPIC: judge})
    first = asyncio.create_task(harness.test(deep=True))
    await held.reached.wait()
    with pytest.raises(exceptions.TestedTooOftenError):
        await harness.test(deep=True)
    held.go.set()

    assert (await first).success
    assert len(judge.requests) == 1


async def test_every_provider_has_a_minute_and_a_verdict_of_its_own() -> None:
    held = Held(reply())
    harness = Harness(
        {
            ANTHROPIC: FakeProvider(held),
            OPENAI: FakeProvider(reply(verdict=replace(reply().verdict, winner=Winner.ESSAY_B))),
        }
    )
    first = asyncio.create_task(harness.test(ANTHROPIC, deep=True))
    await held.reached.wait()
    second = await harness.test(OPENAI, deep=True)
    held.go.set()

    assert second.message == "The provider judged a pair: Essay B."
    assert (await first).message == "The provider judged a pair: Essay A."
    assert len({event.correlation_id for event in harness.events.of(CostTracked)}) == 2


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("enabled", "configured", "reason"),
    [(False, True, "disabled"), (True, False, "not configured"), (False, False, "disabled")],
)
async def test_a_provider_that_is_disabled_or_not_configured_is_never_asked(
    *, enabled: bool, configured: bool, reason: str, deep: bool
) -> None:
    judge = FakeProvider()
    harness = Harness({ANTHROPIC: judge}, enabled=enabled, configured=configured, reason=reason)
    reports = [await harness.test(deep=deep) for _ in range(2)]

    assert [report.message for report in reports] == [f"The provider cannot be asked: {reason}."] * 2
    assert not any(report.success for report in reports)
    assert (judge.probes, judge.requests) == (0, [])


async def test_while_the_mock_judges_it_is_the_one_that_is_tested() -> None:
    real, mock = FakeProvider(), FakeProvider()
    report = await Harness({ANTHROPIC: real, MOCK: mock}, mock=KNOBS).test(ANTHROPIC)

    assert (report.success, report.provider) == (True, MOCK)
    assert (real.probes, mock.probes) == (0, 1)
