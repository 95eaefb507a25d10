"""Every metric that is declared moves: by a method of its own, or by whoever holds it."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from api_models import (
    AccessRefusal,
    AttemptOutcome,
    CacheOutcome,
    CallerOutcome,
    CircuitState,
    Door,
    ErrorCode,
    ProviderName,
    RequestPhase,
    Usage,
    Winner,
)
from exceptions import CostLimitExceededError, InvalidQueryError, ProviderUnavailableError, ServiceStoppingError
from implementations.background.loop_lag import measure_loop_lag
from implementations.background.supervisor import Supervisor
from implementations.cache.local_cache import LocalCache
from implementations.cache_manager_impl import CacheManagerImpl
from implementations.event_publisher_impl import EventPublisherImpl
from implementations.events.usage_window import UsageWindow
from implementations.resilience.call import calling
from implementations.resilience.circuit_breaker import OWN_DECISION, CircuitRules
from implementations.resilience.provider_guards import guards_of
from implementations.retry_manager_impl import RetryManagerImpl
from implementations.selection.standing import show_standing
from metrics import SETTINGS, STORED, Metrics
from tests.fake_redis import Replica
from tests.fake_shared_budget import FakeSharedBudget
from tests.fakes import (
    KNOWN_MODEL,
    Calendar,
    Clock,
    FakeProvider,
    FixedPrices,
    InstantSleep,
    accounting_of,
    alerts,
    begun,
    budget,
    call,
    caller_purchase,
    cost_rules,
    middle,
    new_metrics,
    provider_status,
    reply,
    request,
    settle,
)
from tests.kafka_fakes import Harness, miss

ANTHROPIC = ProviderName.ANTHROPIC
NEVER_MOVE = {"llm_provider_build_info", "llm_provider_config_info"}
THE_KERNELS = "llm_provider_process_"


class Watch:
    """Remembers which families were at some moment not what they were at the start; a new series at zero is no move."""

    def __init__(self) -> None:
        self.metrics = new_metrics()
        self.moved: set[str] = set()
        self._start = self._samples()

    @property
    def declared(self) -> set[str]:
        """All families."""
        return {name for name in self._start if not name.startswith(THE_KERNELS)}

    def look(self) -> None:
        """Compare this moment with the start."""
        self.moved |= {name for name, found in self._samples().items() if found != self._start[name]}

    def _samples(self) -> dict[str, list[tuple[object, ...]]]:
        return {
            family.name: [(one.name, sorted(one.labels.items()), one.value) for one in family.samples if one.value]
            for family in self.metrics.registry.collect()
        }


def call_every_method(metrics: Metrics) -> None:
    """Call every public method that counts something."""
    metrics.http_request_ended(method="GET", endpoint="/healthz", status=200, elapsed_s=0.01)
    for outcome in CacheOutcome:
        metrics.comparison_answered(
            provider=ANTHROPIC,
            model=KNOWN_MODEL,
            winner=Winner.ESSAY_A,
            outcome=outcome,
            elapsed_s=1.5,
            queued_s=0.2,
        )
    metrics.comparison_failed(provider=None, error=ErrorCode.TIMEOUT, queued_s=0.2)
    metrics.attempt_ended(provider=ANTHROPIC, model=KNOWN_MODEL, outcome=AttemptOutcome.SUCCESS, elapsed_s=1.0)
    for cost_usd in (0.25, None):
        metrics.purchased(
            provider=ANTHROPIC, model=KNOWN_MODEL, usage=Usage(prompt=10, completion=5), cost_usd=cost_usd
        )
    metrics.circuit_changed(ANTHROPIC, CircuitState.OPEN)
    metrics.introduce_callers({"a-caller"})
    metrics.introduce_models({KNOWN_MODEL}, defaults={ProviderName.OPENAI: KNOWN_MODEL})
    metrics.caller_purchased(caller_purchase("a-caller", cost_usd=0.25))
    metrics.turned_away(InvalidQueryError("essay_a: must not be blank"))
    metrics.turned_away(ServiceStoppingError())


async def drive_the_cache(watch: Watch) -> None:
    """Crowded; then in front of a Redis that is empty, hit, corrupt and broken, with one write under way."""
    metrics = watch.metrics
    local = LocalCache(size_bytes=10_000, max_entries=10, clock=Clock(), on_evict=metrics.cache_evictions.inc)
    for number in range(11):
        local.put(f"{number}", b"payload", ttl_s=60.0)
    replica = Replica(metrics=metrics)
    cache = CacheManagerImpl(
        local=local,
        shared=replica.entries,
        local_ttl_s=60.0,
        near_ttl_s=2.0,
        is_alone=True,
        metrics=metrics,
        jitter=middle,
    )
    await cache.get("key")
    cache.put("key", reply(), ttl_s=60.0)
    watch.look()
    await replica.written()
    await cache.get("key")
    replica.server.values[replica.server.key_of("key")] = b"garbage"
    await replica.entries.get("key")
    replica.server.broken = ConnectionRefusedError()
    await replica.probed(3)
    watch.look()


async def drive_the_budget(watch: Watch) -> None:
    """A limit that is used up, and a Redis that is away."""
    store = FakeSharedBudget()
    store.away = True
    rules = cost_rules(limit_usd_per_day=0.0)
    strict = budget(lambda: rules, metrics=watch.metrics, shared=store.of("one"))
    with pytest.raises(CostLimitExceededError):
        await strict.reserve(request())
    await alerts(strict, lambda: rules, metrics=watch.metrics, now=Calendar())[0].check()
    watch.look()


def drive_the_events(watch: Watch, spool_path: Path) -> None:
    """Delivered, dropped, restored, refused by the spool and lost; and a circuit that opens."""
    harness = Harness(metrics=watch.metrics, max_messages=2, spool_path=spool_path)
    assert harness.spool is not None
    publisher = EventPublisherImpl(
        enabled=True, outbox=harness.outbox, usage=UsageWindow(now=harness.calendar), metrics=watch.metrics
    )
    for number in range(3):
        publisher.publish(miss(number))
    harness.queue.delivered(harness.queue.take(miss(0).event, 1))
    harness.clock.advance(5.0)
    watch.look()
    harness.connection.delivered(None)
    harness.circuit.force(CircuitState.OPEN, reason="a test", actor="test")
    harness.spool.close()
    refused = Harness(metrics=watch.metrics, spool_path=spool_path)
    assert refused.spool is not None
    with closing(sqlite3.connect(spool_path)) as other:
        other.execute("DROP TABLE events")
    refused.publish(miss(4))
    refused.spool.close()
    watch.look()
    lossy = Harness(metrics=watch.metrics)
    lossy.publish(miss(5))
    lossy.queue.close()
    watch.look()


async def drive_the_guards(watch: Watch) -> None:
    """A provider that wants a pause and money, whose one place is taken, and who is asked twice."""
    known = guards_of(ANTHROPIC, CircuitRules(), slots=1, queue_limit=1, metrics=watch.metrics, clock=Clock())
    known.gate.pause(5.0)
    known.circuit.force(CircuitState.OPEN, reason=AttemptOutcome.QUOTA, actor=OWN_DECISION)
    slot = await known.bulkhead.enter(within_s=60.0)
    waiting = await begun(known.bulkhead.enter(within_s=60.0))
    watch.look()
    slot.leave()
    await waiting
    retries = RetryManagerImpl(budget=known.retry_budget, sleep=InstantSleep())
    failing = FakeProvider(ProviderUnavailableError("busy"), reply())
    with calling(call(Clock())):
        await retries.run(lambda: failing.generate_comparison(request()))
    accounting_of(FixedPrices(), metrics=watch.metrics, now=Calendar()).started(request(), is_retry=True)
    show_standing(lambda: [provider_status(circuit_state=CircuitState.OPEN)], watch.metrics)
    watch.look()


async def drive_the_background(watch: Watch) -> None:
    """One task runs, one dies once, and the loop is asked how late it is."""

    async def work() -> None:
        await asyncio.Event().wait()

    deaths = iter([ValueError("a defect")])

    async def dies_once() -> None:
        for defect in deaths:
            raise defect
        await work()

    supervisor = Supervisor(
        {"work": work, "dies": dies_once}, metrics=watch.metrics, clock=Clock(), sleep=InstantSleep()
    )
    supervisor.start()
    await settle()
    await supervisor.stop()
    clock = Clock()
    await measure_loop_lag(metrics=watch.metrics, clock=clock, sleep=InstantSleep(clock))
    watch.look()


def move_what_others_hold(watch: Watch) -> None:
    """What the scope of a request and the wiring move; the tests of the running service see these."""
    watch.metrics.client_disconnects.of(RequestPhase.READING).inc()
    watch.metrics.http_in_flight.set(1)
    watch.metrics.concurrent.of(ANTHROPIC).set(1)
    watch.metrics.in_flight.set(1)
    watch.metrics.admission_queue.set(1)
    watch.metrics.request_memory.of(RequestPhase.READING).set(1)
    watch.metrics.log_dropped.inc()
    watch.metrics.events_unreadable.set(1)
    watch.metrics.stale_connections.inc()
    watch.metrics.caller_requests.of("a-caller", CallerOutcome.SUCCESS).inc()
    watch.metrics.access_refusals.of(Door.CALLER, AccessRefusal.NO_KEY).inc()
    watch.metrics.caller_key_reloads.of("taken").inc()
    watch.metrics.caller_keys_refused.set(1)
    watch.metrics.config_reload_errors.of(STORED).inc()
    watch.metrics.redis_witnesses_failing.of("connection").set(1)
    watch.metrics.stored_left_out.of(SETTINGS).set(1)
    watch.look()


async def test_every_declared_metric_moves(tmp_path: Path) -> None:
    watch = Watch()
    call_every_method(watch.metrics)
    await drive_the_cache(watch)
    await drive_the_budget(watch)
    drive_the_events(watch, tmp_path / "spool")
    await drive_the_guards(watch)
    await drive_the_background(watch)
    move_what_others_hold(watch)

    assert watch.declared - watch.moved == NEVER_MOVE, "nothing above moves it"
