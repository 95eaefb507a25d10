"""Stand-ins for what surrounds a unit, and examples of the nouns that travel between units."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, TypeVar, get_type_hints
from uuid import UUID

import pytest
from prometheus_client.samples import Sample

from api_models import (
    AttemptOutcome,
    CircuitState,
    CostTracked,
    DependencyStatus,
    EventData,
    ProcessingEvent,
    ProviderName,
    Purchase,
    ReasoningEffort,
    TemperatureUse,
    Usage,
    UsageScope,
    Winner,
)
from config import Settings
from implementations.accounting.alerts import Alerts, Marks
from implementations.accounting.budget import Budget
from implementations.accounting.ceilings import Ceilings
from implementations.accounting.ledger import Ledger
from implementations.accounting.local_budget import LocalBudget
from implementations.accounting.shared_budget import SharedBudget, SharedBudgetStore
from implementations.accounting_impl import AccountingImpl
from implementations.cache.local_cache import LocalCache
from implementations.events import request_events
from implementations.events.receipts import Receipts
from implementations.judging.catalogue import ModelCatalogue
from implementations.judging.essay import Essay
from implementations.judging.prompt import Prompt
from implementations.resilience.call import Call, Deadline
from implementations.resilience.circuit_breaker import CircuitRules
from implementations.resilience.provider_guards import ProviderGuards, guards_of
from implementations.selection.ranking import Ranking
from implementations.steering.snapshot import snapshot_of
from metrics import Metrics
from protocols import (
    Attempt,
    ClockProtocol,
    ComparisonQuery,
    CostRules,
    CurrentSettings,
    EventHealth,
    LLMAccountingProtocol,
    LLMEventPublisherProtocol,
    MockKnobs,
    ModelTraits,
    PricesProtocol,
    ProviderActivity,
    ProviderReply,
    ProviderRequest,
    ProviderStatus,
    Rates,
    UsageRows,
    UsageTotals,
    Verdict,
)

Event = TypeVar("Event", bound=EventData)
Result = TypeVar("Result")

KNOWN_MODEL = "model-of-anthropic"
CORRELATION_ID = UUID("11111111-2222-4333-8444-555555555555")
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PROMPT_SHA256 = "5e" * 32
VERDICT = '{"justification": "It gives reasons.", "winner": "Essay A", "confidence": 4}'  # as a model writes it
KNOBS = MockKnobs(seed=1, error_rate=0.0, latency_ms=0, latency_jitter_ms=0, position_bias=0.0)
REAL_PROVIDERS = tuple(name for name in ProviderName if name is not ProviderName.MOCK)
DEFAULTS = snapshot_of(Settings.model_construct())  # whatever the environment says

Step = ProviderReply | BaseException | Callable[[ProviderRequest], Awaitable[ProviderReply]]


def comparisons(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """What is compared in constant time from now on."""
    compared: list[tuple[bytes, bytes]] = []
    original = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return original(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    return compared


class Clock:
    """Monotonic seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class Calendar:
    """A UTC wall clock that is set by hand, in both directions."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


class InstantSleep:
    """Takes down how long it was asked to sleep and lets the others run; moves the clock when it has one."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.naps: list[float] = []
        self._clock = clock

    async def __call__(self, seconds: float) -> None:
        self.naps.append(seconds)
        if self._clock is not None:
            self._clock.advance(seconds)
        await asyncio.sleep(0)


class Timeline:
    """Virtual time in which many wait at once: a clock, and a sleep that ends when the test lets time pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float, /) -> None:
        waiting = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self.now_s + seconds, next(self._order), waiting))
        await waiting

    async def pass_until(self, moment_s: float) -> None:
        """Wake everybody whose time comes before that moment, in order."""
        await settle()
        while self._sleepers and self._sleepers[0][0] <= moment_s:
            self.now_s, _, waiting = heappop(self._sleepers)
            if not waiting.done():
                waiting.set_result(None)
            await settle()
        self.now_s = moment_s


def middle(low: float, high: float) -> float:
    """Draw nothing: jitter without any."""
    return (low + high) / 2


def local_cache(clock: Clock | None = None, *, size_bytes: int = 10_000, max_entries: int = 10) -> LocalCache:
    return LocalCache(size_bytes=size_bytes, max_entries=max_entries, clock=clock or Clock(), on_evict=lambda: None)


async def settle(times: int = 1) -> None:
    """Let every task run until it waits for something that only the test can give."""
    for _ in range(25 * times):
        await asyncio.sleep(0)


async def begun(work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    """The work's task, which has come to where it waits."""
    task = asyncio.create_task(work)
    await settle()
    return task


class FakeProvider:
    """Plays its script, one step a call; records the requests and counts the probes."""

    def __init__(self, *script: Step, probe: str | BaseException = "The key is accepted.") -> None:
        self.requests: list[ProviderRequest] = []
        self.probes = 0
        self._script = list(script)
        self._probe = probe

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        self.requests.append(request)
        assert self._script, "asked more often than the test expected"
        step = self._script.pop(0)
        if isinstance(step, ProviderReply):
            return step
        if isinstance(step, BaseException):
            raise step
        return await step(request)

    async def probe(self) -> str:
        self.probes += 1
        if isinstance(self._probe, BaseException):
            raise self._probe
        return self._probe


class Held:
    """A step of a script that waits for the test: `reached` says that it was asked, `go` lets it answer."""

    def __init__(self, outcome: ProviderReply | BaseException) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self._outcome = outcome

    async def __call__(self, request: ProviderRequest) -> ProviderReply:
        self.reached.set()
        await self.go.wait()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    async def goes_on(self) -> None:
        """Let it answer, and all who wait for that act on it."""
        self.go.set()
        await settle()


class Recorder:
    """An event publisher that keeps what it was given."""

    def __init__(self) -> None:
        self.events: list[EventData] = []
        self.stored_after: list[ProcessingEvent] = []

    def publish(self, event: EventData) -> None:
        self.events.append(event)

    async def stored(self) -> None:
        self.stored_after.append(self.names[-1])

    def health(self) -> EventHealth:
        return EventHealth(kafka=DependencyStatus.DISABLED)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def names(self) -> list[ProcessingEvent]:
        return [event.event for event in self.events]


class FixedSettings:
    """Runtime settings that change only when the test puts others in their place."""

    def __init__(self, settings: CurrentSettings) -> None:
        self.settings = settings

    def current(self) -> CurrentSettings:
        return self.settings


class FixedPrices:
    """Every purchase costs what the provider told, or else the same."""

    def __init__(self, cost_usd: float | None = None) -> None:
        self._cost_usd = cost_usd

    def cost_usd(self, provider: ProviderName, purchase: Purchase, *, asked: str) -> float | None:
        return self._cost_usd if purchase.cost_usd is None else purchase.cost_usd

    def rates(self, provider: ProviderName, model: str) -> Rates | None:
        return None


def tolerant_catalogue() -> ModelCatalogue:
    """Every model takes everything."""
    everything = ModelTraits(temperature=TemperatureUse.ALWAYS, efforts={effort: effort for effort in ReasoningEffort})
    return ModelCatalogue({name: {"*": everything} for name in ProviderName})


def accounting_of(
    prices: PricesProtocol,
    *,
    metrics: Metrics,
    now: Calendar,
    clock: ClockProtocol | None = None,
    ledger: Ledger | None = None,
) -> AccountingImpl:
    return AccountingImpl(
        prices=prices, ledger=ledger or Ledger(now=now), metrics=metrics, now=now, clock=clock or Clock()
    )


def receipts(events: LLMEventPublisherProtocol, metrics: Metrics) -> Receipts:
    return Receipts(service_name="service-under-test", events=events, metrics=metrics, now=Calendar())


def booked_today(ledger: Ledger, provider: ProviderName) -> UsageTotals:
    return UsageRows(scope=UsageScope.REPLICA, rows=ledger.rows(ledger.today, ledger.today)).of(provider)


def cost_rules(**changes: Any) -> CostRules:
    return replace(DEFAULTS.costs, **changes)


def unlimited() -> Budget:
    """A budget without limits."""
    return budget(cost_rules, metrics=new_metrics())


def budget(
    rules: Callable[[], CostRules],
    *,
    metrics: Metrics,
    prices: PricesProtocol | None = None,
    now: Calendar | None = None,
    shared: SharedBudgetStore | None = None,
    replicas: int = 1,
) -> Budget:
    """A budget of its own; with a store one that replicas share."""
    ledger = Ledger(now=now or Calendar())
    local = LocalBudget(today=lambda: ledger.today)
    return Budget(
        local=local,
        ceilings=Ceilings(prices=prices or FixedPrices(), rules=rules),
        shared=None if shared is None else SharedBudget(shared, local=local),
        rules=rules,
        replicas=replicas,
        metrics=metrics,
    )


def alerts(
    budget: Budget,
    rules: Callable[[], CostRules],
    *,
    metrics: Metrics,
    now: Calendar,
    marks: Marks | None = None,
    is_alone: bool = True,
) -> tuple[Alerts, Recorder]:
    """The alerts on this budget, and where they arrive."""
    recorder = Recorder()
    looking = Alerts(
        budget=budget,
        rules=rules,
        marks=marks,
        is_alone=is_alone,
        events=recorder,
        metrics=metrics,
        now=now,
    )
    return looking, recorder


def guards(metrics: Metrics, clock: ClockProtocol) -> ProviderGuards:
    return {
        name: guards_of(name, CircuitRules(), slots=32, queue_limit=100, metrics=metrics, clock=clock)
        for name in ProviderName
    }


def ranking(accounting: LLMAccountingProtocol) -> Ranking:
    return Ranking(prices=FixedPrices(), accounting=accounting, chance=Random(1))


# The texts of a question; other texts of a query only say who asks, and whom.
TEXTS = sorted(
    name
    for name, kind in get_type_hints(ComparisonQuery).items()
    if kind in (str, str | None) and name not in {"caller", "model", "user_id"}
)


def query(**changes: Any) -> ComparisonQuery:
    plain = ComparisonQuery(
        user_prompt="Which essay argues better?",
        essay_a="Phones disturb lessons because they ring.",
        essay_b="Phones are good.",
        correlation_id=CORRELATION_ID,
        user_id="teacher-7",
        metadata={"batch": "b-1"},
    )
    return replace(plain, **changes)


def prompt() -> Prompt:
    return Prompt(
        version="1",
        system="Judge fairly.",
        task="Which essay argues better?",
        essay_a=Essay("Essay A"),
        essay_b=Essay("Essay B"),
    )


def request(**changes: Any) -> ProviderRequest:
    plain = ProviderRequest(
        provider=ProviderName.ANTHROPIC,
        model=KNOWN_MODEL,
        prompt=prompt(),
        max_tokens=512,
        max_tokens_limit=128_000,
        temperature=None,
        reasoning=None,
        verdict_schema="1",
        replicate=0,
    )
    return replace(plain, **changes)


def reply(**changes: Any) -> ProviderReply:
    """Changes are of the reply, or of the purchase in it."""
    bought = Purchase(model=KNOWN_MODEL, usage=Usage(prompt=100, completion=20, cached=10), cost_usd=0.25)
    of_purchase = {each.name: changes.pop(each.name) for each in fields(bought) if each.name in changes}
    plain = ProviderReply(
        verdict=Verdict(winner=Winner.ESSAY_A, justification="It gives a reason.", confidence=4.0),
        provider=ProviderName.ANTHROPIC,
        purchase=replace(bought, **of_purchase),
        prompt_sha256=PROMPT_SHA256,
    )
    return replace(plain, **changes)


def caller_purchase(caller: str, *, cost_usd: float | None) -> CostTracked:
    bought = Purchase(model=KNOWN_MODEL, usage=Usage(prompt=10, completion=5), cost_usd=cost_usd)
    attempt = Attempt(
        provider=ProviderName.ANTHROPIC,
        model=KNOWN_MODEL,
        outcome=AttemptOutcome.SUCCESS,
        duration_s=1.0,
        purchase=bought,
    )
    return request_events.purchased(
        query(caller=caller), request(), attempt, bought, service_name="s", requested_at=NOON
    )


def current_settings(**changes: Any) -> CurrentSettings:
    """The defaults, but that every provider is enabled, with a model of its own."""
    plain = replace(
        DEFAULTS,
        enabled_providers=frozenset(REAL_PROVIDERS),
        default_models={name: f"model-of-{name}" for name in REAL_PROVIDERS},
    )
    return replace(plain, **changes)


def provider_status(**changes: Any) -> ProviderStatus:
    plain = ProviderStatus(
        name=ProviderName.ANTHROPIC,
        enabled=True,
        configured=True,
        circuit_state=CircuitState.CLOSED,
        default_model=KNOWN_MODEL,
        model_deprecated_on=None,
        reason=None,
        activity=ProviderActivity(),
        last_probe=None,
        held_because=None,
    )
    return replace(plain, **changes)


def call(clock: ClockProtocol, *, remaining_s: float = 55.0, attempt_timeout_s: float = 30.0) -> Call:
    deadline = Deadline(expires_at_s=clock() + remaining_s, attempt_timeout_s=attempt_timeout_s, clock=clock)
    return Call(deadline=deadline, purchase_deadline=deadline, holds_slot_for=lambda _: None)


def new_metrics() -> Metrics:
    return Metrics(version="1.2.3", known_models=(KNOWN_MODEL,), settings_digest="0123456789abcdef")


def samples_of(metrics: Metrics, name: str) -> list[Sample]:
    """All series of this name. The other metrics are not collected: those of the process alone read several files."""
    found = metrics.registry.restricted_registry([name]).collect()
    return [one for family in found for one in family.samples]


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return next((one.value for one in samples_of(metrics, name) if one.labels == labels), None)
