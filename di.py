"""The composition root: wires the service. Besides it, only startup_setup.py imports a class that ends in `Impl`."""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from random import Random
from uuid import uuid4

import structlog
from dishka import STRICT_VALIDATION, AsyncContainer, Provider, Scope, from_context, make_async_container, provide

from api_models import ADMIN, ANONYMOUS, CircuitState, Door, ProcessingEvent, ProviderName, RequestPhase
from config import MIB, Settings, secret_file
from implementations.access.admin_key import AdminKey
from implementations.access.key_ring import KeyRing
from implementations.access.keys_file import KeysFile
from implementations.access.wrong_keys import WrongKeys
from implementations.accounting.alerts import Alerts
from implementations.accounting.budget import Budget
from implementations.accounting.ceilings import Ceilings
from implementations.accounting.ledger import Ledger
from implementations.accounting.local_budget import LocalBudget
from implementations.accounting.prices import Prices
from implementations.accounting.shared_budget import SharedBudget
from implementations.accounting.shared_ledger import SharedLedger
from implementations.accounting_impl import AccountingImpl
from implementations.admin_access_impl import AdminAccessImpl
from implementations.answers_impl import AnswersImpl
from implementations.anthropic_provider_impl import AnthropicProviderImpl
from implementations.audit_impl import AuditImpl
from implementations.background.loop_lag import measure_loop_lag
from implementations.background.provider_monitor import ProviderMonitor
from implementations.background.repetition import repeated
from implementations.background.stop_signals import StopSignals
from implementations.background.supervisor import Supervisor
from implementations.cache.local_cache import LocalCache
from implementations.cache_manager_impl import CacheManagerImpl
from implementations.caller_access_impl import CallerAccessImpl
from implementations.circuit_steering_impl import CircuitSteeringImpl
from implementations.event_publisher_impl import EventPublisherImpl
from implementations.events.connection import Backoff, KafkaConnection
from implementations.events.event_queue import EventQueue
from implementations.events.kafka_link import KafkaLink
from implementations.events.kafka_security import Security
from implementations.events.lane import ACK_TIMEOUT_S, Lane
from implementations.events.outbox import KafkaOutbox, NoOutbox, Outbox
from implementations.events.receipts import Receipts
from implementations.events.spool import Spool
from implementations.events.spool_file import check_spool
from implementations.events.usage_window import UsageWindow
from implementations.google_provider_impl import GoogleProviderImpl
from implementations.history_impl import HistoryImpl
from implementations.internal_provider_impl import InternalProviderImpl
from implementations.judging.catalogue import MOCK_MODEL, ModelCatalogue
from implementations.llm_orchestrator_impl import LLMOrchestratorImpl
from implementations.mock_provider_impl import MockProviderImpl
from implementations.observability.logging_setup import set_level
from implementations.observability.propagation import outbound_headers, queueing, traceparent
from implementations.observability.traced import Traced, traced_look_up
from implementations.observability.tracing import tracing
from implementations.openai_provider_impl import OpenAIProviderImpl
from implementations.openrouter_provider_impl import OpenRouterProviderImpl
from implementations.provider_selector_impl import ProviderSelectorImpl
from implementations.provider_tester_impl import ProviderTesterImpl
from implementations.request_builder_impl import RequestBuilderImpl
from implementations.resilience.admission import Admission
from implementations.resilience.bulkhead import Bulkhead
from implementations.resilience.circuit_breaker import CircuitBreaker, CircuitRules
from implementations.resilience.drain import Drain
from implementations.resilience.memory_limit import MemoryLimit
from implementations.resilience.metering import Metered, TimeLimited
from implementations.resilience.policies import CircuitBroken, ConcurrencyLimited, FailingFast, Retrying, Throttled
from implementations.resilience.provider_guards import Guards, ProviderGuards, guards_of
from implementations.resilience.single_flight import SingleFlight
from implementations.retry_manager_impl import RetryManagerImpl
from implementations.runtime_settings_impl import RuntimeSettingsImpl
from implementations.selection.ranking import Ranking
from implementations.selection.standing import show_standing
from implementations.shared_state.budget_store import BudgetStore
from implementations.shared_state.connections import Connections
from implementations.shared_state.document_store import DocumentStore
from implementations.shared_state.entry_store import EntryStore
from implementations.shared_state.primary import Primary
from implementations.shared_state.prober import Prober
from implementations.shared_state.shared_redis import SharedRedis
from implementations.shared_state.usage_store import UsageStore
from implementations.shared_state.write_behind import WriteBehind
from implementations.steering.own_secrets import secrets_of
from implementations.wire.transport import Transport
from metrics import Metrics
from protocols import (
    AdminAccessProtocol,
    AdmissionProtocol,
    AnswersTo,
    AuditProtocol,
    BackgroundProtocol,
    BudgetProtocol,
    CallerAccessProtocol,
    CircuitSteeringProtocol,
    ClockProtocol,
    CostAlertsProtocol,
    HistoryProtocol,
    Judge,
    Judges,
    LLMAccountingProtocol,
    LLMCacheManagerProtocol,
    LLMDialectProtocol,
    LLMEventPublisherProtocol,
    LLMOrchestratorProtocol,
    LLMProviderProtocol,
    LLMProviderSelectorProtocol,
    LLMProviderTesterProtocol,
    LLMRequestBuilderProtocol,
    LLMUsageProtocol,
    MemoryProtocol,
    ModelCatalogueProtocol,
    PricesProtocol,
    ProviderFindings,
    ProviderReply,
    RuntimeSettingsProtocol,
    SettingsSteeringProtocol,
    SleepProtocol,
    TracerProtocol,
    Work,
)

log = structlog.get_logger("service")

Flights = SingleFlight[ProviderReply]
OperatorPolls = tuple[Work, Work]
BackgroundTasks = Mapping[str, Work]

# Settings in which replicas on one host, or two builds during a rollout, differ.
NOT_IN_DIGEST = {"service": {"host", "port", "revision"}, "events": {"spool_path"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedState:
    """The state shared through Redis, and its prober; all None without Redis."""

    entries: EntryStore | None = None
    prober: Prober | None = None
    budget: BudgetStore | None = None
    usage: UsageStore | None = None
    settings: DocumentStore | None = None
    circuits: DocumentStore | None = None


utc_now = partial(datetime.now, UTC)  # for the dates of events and bookings; time.monotonic measures durations


class JudgesProvider(Provider):
    """The providers, each behind its stack of policies."""

    scope = Scope.APP

    @provide
    def judges(
        self,
        settings: Settings,
        transport: Transport,
        guards: ProviderGuards,
        accounting: LLMAccountingProtocol,
        budget: BudgetProtocol,
        tracer: TracerProtocol,
        sleep: SleepProtocol,
    ) -> Judges:
        """Every provider that this version supports."""
        dialects: Mapping[ProviderName, LLMDialectProtocol] = {
            ProviderName.ANTHROPIC: AnthropicProviderImpl(transport, settings.anthropic),
            ProviderName.OPENAI: OpenAIProviderImpl(transport, settings.openai),
            ProviderName.GOOGLE: GoogleProviderImpl(transport, settings.google),
            ProviderName.OPENROUTER: OpenRouterProviderImpl(transport, settings.openrouter),
            ProviderName.INTERNAL: InternalProviderImpl(transport, settings.internal),
            ProviderName.MOCK: MockProviderImpl(sleep=sleep),
        }
        return {
            name: guarded(dialect, guards[name], accounting, budget, tracer=tracer, sleep=sleep)
            for name, dialect in dialects.items()
        }

    @provide
    def guards(
        self, settings: Settings, metrics: Metrics, tracer: TracerProtocol, clock: ClockProtocol
    ) -> ProviderGuards:
        """Circuit breaker, throttle gate, bulkhead and retry budget of each provider."""
        rules = CircuitRules(
            counts=settings.circuit.enabled,
            failure_threshold=settings.circuit.failure_threshold,
            recovery_s=settings.circuit.recovery_s,
            success_threshold=settings.circuit.success_threshold,
            probe_s=settings.judging.attempt_timeout_s,
        )
        judging = settings.judging
        all_slots = max(1, len(settings.usable_providers())) * judging.max_concurrent
        return {
            name: guards_of(
                name,
                rules,
                slots=judging.max_concurrent,
                # The queue of one provider leaves each of the others as many slots as it may use.
                queue_limit=max(judging.max_concurrent, judging.max_in_flight - all_slots),
                metrics=metrics,
                clock=clock,
                queueing=queueing(tracer, name),
            )
            for name in ProviderName
        }

    @provide
    async def transport(self, settings: Settings, metrics: Metrics, tracer: TracerProtocol) -> AsyncIterator[Transport]:
        """The HTTP transport."""
        transport = Transport(
            trusts_environment=settings.outbound.trusts_environment,
            on_stale_connection=metrics.stale_connections.inc,
            trace_headers=outbound_headers(tracer),
            now=utc_now,
        )
        yield transport
        await transport.close()


def guarded(
    dialect: LLMDialectProtocol,
    guards: Guards,
    accounting: LLMAccountingProtocol,
    budget: BudgetProtocol,
    *,
    sleep: SleepProtocol,
    tracer: TracerProtocol,
) -> Judge:
    """A judge: a dialect behind the stack of policies, innermost first.

    Retries wrap the circuit, so that they notice when it opens; its permit is taken inside the concurrency limit, so
    that queued calls notice as well, as they do a pause; FailingFast only looks, so that an open circuit answers before
    any queue.
    """
    timed: LLMProviderProtocol = TimeLimited(dialect)
    traced = Traced(timed, tracer=tracer) if tracer.records else timed
    metered: LLMProviderProtocol = Metered(traced, budget=budget, accounting=accounting)
    broken = CircuitBroken(metered, circuit=guards.circuit)
    limited = ConcurrencyLimited(broken, bulkhead=guards.bulkhead, gate=guards.gate, accounting=accounting)
    throttled = Throttled(limited, gate=guards.gate, sleep=sleep)
    failing_fast = FailingFast(throttled, circuit=guards.circuit)
    retries = RetryManagerImpl(budget=guards.retry_budget, sleep=sleep)
    return Judge(provider=Retrying(failing_fast, retries=retries), metered=metered, probe=dialect)


class AccountingProvider(Provider):
    """Costs, budgets and prices."""

    scope = Scope.APP

    @provide
    def accounting(
        self, prices: PricesProtocol, ledger: Ledger, metrics: Metrics, clock: ClockProtocol
    ) -> LLMAccountingProtocol:
        """The accounting."""
        return AccountingImpl(prices=prices, ledger=ledger, metrics=metrics, now=utc_now, clock=clock)

    @provide
    def ledger(self) -> Ledger:
        """The ledger, opened on the day the service starts."""
        return Ledger(now=utc_now)

    @provide
    async def whole_budget(
        self,
        settings: Settings,
        ledger: Ledger,
        shared: SharedState,
        prices: PricesProtocol,
        runtime_settings: RuntimeSettingsProtocol,
        metrics: Metrics,
    ) -> AsyncIterator[Budget]:
        """The budget, shared by all replicas where Redis is configured."""
        local = LocalBudget(today=lambda: ledger.today)
        rules = lambda: runtime_settings.current().costs  # noqa: E731  both follow the operator's changes
        budget = Budget(
            local=local,
            ceilings=Ceilings(prices=prices, rules=rules),
            shared=None if shared.budget is None else SharedBudget(shared.budget, local=local),
            rules=rules,
            replicas=settings.cost.replicas,
            metrics=metrics,
        )
        yield budget
        await budget.finish()

    @provide
    def budget(self, budget: Budget) -> BudgetProtocol:
        """The budget, as the policies use it."""
        return budget

    @provide
    async def shared_ledger(self, ledger: Ledger, shared: SharedState) -> AsyncIterator[SharedLedger]:
        """The ledger of all replicas; of this one only without Redis."""
        whole = SharedLedger(ledger, shared.usage)
        yield whole
        await whole.send()

    @provide
    def usage(self, ledger: SharedLedger) -> LLMUsageProtocol:
        """The ledger, as the routes read it."""
        return ledger

    @provide
    def alerts(
        self,
        settings: Settings,
        budget: Budget,
        shared: SharedState,
        runtime_settings: RuntimeSettingsProtocol,
        events: LLMEventPublisherProtocol,
        metrics: Metrics,
    ) -> Alerts:
        """Warns when spending passes a threshold."""
        return Alerts(
            budget=budget,
            rules=lambda: runtime_settings.current().costs,
            marks=shared.usage,
            is_alone=settings.cost.replicas == 1,
            events=events,
            metrics=metrics,
            now=utc_now,
        )

    @provide
    def cost_alerts(self, alerts: Alerts) -> CostAlertsProtocol:
        """The alerts, as administrators reset them."""
        return alerts

    @provide
    def prices(self, settings: Settings) -> PricesProtocol:
        """Token prices."""
        return Prices(settings.models.price_overrides, base_urls=settings.base_urls(), now=utc_now)


class RequestProvider(Provider):
    """What answers a request, and what tests and probes the providers."""

    scope = Scope.APP

    @provide
    def orchestrator(
        self,
        runtime_settings: RuntimeSettingsProtocol,
        selector: LLMProviderSelectorProtocol,
        answers_to: AnswersTo,
        capacity: Bulkhead,
        events: LLMEventPublisherProtocol,
        metrics: Metrics,
        clock: ClockProtocol,
    ) -> LLMOrchestratorProtocol:
        """Runs one comparison."""
        return LLMOrchestratorImpl(
            runtime_settings=runtime_settings,
            selector=selector,
            answers_to=answers_to,
            capacity=capacity,
            events=events,
            metrics=metrics,
            clock=clock,
        )

    @provide
    def answers_to(
        self,
        cache: LLMCacheManagerProtocol,
        flights: Flights,
        accounting: LLMAccountingProtocol,
        events: LLMEventPublisherProtocol,
        receipts: Receipts,
        tracer: TracerProtocol,
    ) -> AnswersTo:
        """Answers each query."""
        return partial(
            AnswersImpl,
            cache=cache,
            look_up=traced_look_up(cache.get, tracer=tracer) if tracer.records else cache.get,
            flights=flights,
            accounting=accounting,
            events=events,
            receipts=receipts,
        )

    @provide
    def selector(
        self,
        settings: Settings,
        judges: Judges,
        guards: ProviderGuards,
        catalogue: ModelCatalogueProtocol,
        prices: PricesProtocol,
        builder: LLMRequestBuilderProtocol,
        accounting: LLMAccountingProtocol,
        findings: ProviderFindings,
        runtime_settings: RuntimeSettingsProtocol,
        metrics: Metrics,
    ) -> LLMProviderSelectorProtocol:
        """Ranks the usable providers."""
        selector = ProviderSelectorImpl(
            judges=judges,
            guards=guards,
            ranking=Ranking(prices=prices, accounting=accounting, chance=Random()),  # noqa: S311  spreads load
            findings=findings,
            configured=settings.configured_providers(),
            catalogue=catalogue,
            builder=builder,
            accounting=accounting,
        )
        show_standing(lambda: selector.statuses(runtime_settings.current()), metrics)
        return selector

    @provide
    def builder(self, settings: Settings, catalogue: ModelCatalogueProtocol) -> LLMRequestBuilderProtocol:
        """Builds complete provider requests from query and settings."""
        return RequestBuilderImpl(catalogue=catalogue, base_urls=settings.base_urls())

    @provide
    def cache(
        self,
        settings: Settings,
        shared: SharedState,
        metrics: Metrics,
        clock: ClockProtocol,
    ) -> LLMCacheManagerProtocol:
        """The answer cache: in this process and, where configured, in Redis."""
        local = LocalCache(
            size_bytes=settings.cache.local_size_mb * MIB,
            max_entries=settings.cache.local_max_entries,
            clock=clock,
            on_evict=metrics.cache_evictions.inc,
        )
        return CacheManagerImpl(
            local=local,
            shared=shared.entries,
            local_ttl_s=settings.cache.local_ttl_s,
            near_ttl_s=settings.cache.near_ttl_s,
            is_alone=settings.cost.replicas == 1,
            metrics=metrics,
            jitter=random.uniform,
        )

    @provide
    def capacity(self, settings: Settings, metrics: Metrics, tracer: TracerProtocol) -> Bulkhead:
        """The service-wide bulkhead: max_in_flight run, as many queue, the rest get 503. It bounds their memory."""
        limit, memory = settings.judging.max_in_flight, MemoryLimit(settings.service.answering_bytes)
        capacity = Bulkhead(limit=limit, queue_limit=limit, queueing=queueing(tracer), memory=memory)
        metrics.in_flight.set_function(lambda: capacity.inside)
        metrics.admission_queue.set_function(lambda: capacity.waiting)
        metrics.request_memory.of(RequestPhase.ANSWERING).set_function(lambda: memory.taken_bytes)
        return capacity

    @provide
    def body_memory(self, settings: Settings, metrics: Metrics) -> MemoryProtocol:
        """Memory for bodies being read."""
        memory = MemoryLimit(settings.service.reading_bytes)
        metrics.request_memory.of(RequestPhase.READING).set_function(lambda: memory.taken_bytes)
        return memory

    @provide
    def flights(self) -> Flights:
        """Calls in progress, shared by identical requests."""
        return SingleFlight()

    @provide
    def findings(self) -> ProviderFindings:
        """The latest probe results, for display."""
        return {}

    @provide
    def monitor(
        self,
        settings: Settings,
        judges: Judges,
        selector: LLMProviderSelectorProtocol,
        findings: ProviderFindings,
        runtime_settings: RuntimeSettingsProtocol,
        clock: ClockProtocol,
        sleep: SleepProtocol,
    ) -> ProviderMonitor:
        """Probes idle and failing providers."""
        return ProviderMonitor(
            judges=judges,
            selector=selector,
            findings=findings,
            runtime_settings=runtime_settings,
            interval_s=settings.selection.probe_interval_s,
            clock=clock,
            sleep=sleep,
            now=utc_now,
        )

    @provide
    def tester(
        self,
        judges: Judges,
        selector: LLMProviderSelectorProtocol,
        builder: LLMRequestBuilderProtocol,
        runtime_settings: RuntimeSettingsProtocol,
        flights: Flights,
        receipts: Receipts,
        clock: ClockProtocol,
    ) -> LLMProviderTesterProtocol:
        """Tests one provider on demand."""
        return ProviderTesterImpl(
            judges=judges,
            selector=selector,
            builder=builder,
            runtime_settings=runtime_settings,
            flights=flights,
            receipts=receipts,
            clock=clock,
        )


class SharedStateProvider(Provider):
    """State shared by the replicas; none without REDIS_URL."""

    scope = Scope.APP

    @provide
    async def shared(
        self,
        settings: Settings,
        metrics: Metrics,
        clock: ClockProtocol,
        sleep: SleepProtocol,
    ) -> AsyncIterator[SharedState]:
        """Redis behind its circuits, the stores on it, and the prober."""
        address, prefix = settings.cache.redis, settings.cache.prefix
        if address is None:
            yield SharedState()
            return
        primary = Primary.of(address, prefix=prefix, metrics=metrics)
        redis = SharedRedis(
            Connections(address.url, find=primary.find if primary else None), metrics=metrics, clock=clock
        )
        behind = WriteBehind(metrics=metrics)
        entries = EntryStore(
            redis,
            prefix=prefix,
            behind=behind,
            metrics=metrics,
            clock=clock,
            now_s=time.time,
        )
        prober = Prober(
            redis, reading=entries.probe_read, writing=entries.probe_write, jitter=random.uniform, sleep=sleep
        )
        own = {"prefix": prefix, "replica": uuid4().hex}
        yield SharedState(
            entries=entries,
            prober=prober,
            budget=BudgetStore(redis, **own),
            usage=UsageStore(redis, **own),
            settings=DocumentStore(redis, key=f"{prefix}:operator:settings"),
            circuits=DocumentStore(redis, key=f"{prefix}:operator:circuits"),
        )
        await behind.finish()
        await redis.close()
        if primary is not None:
            await primary.close()


class SteeringProvider(Provider):
    """What operators can change at run time."""

    scope = Scope.APP

    @provide
    def settings_in_force(
        self, settings: Settings, shared: SharedState, audit: AuditProtocol, metrics: Metrics
    ) -> RuntimeSettingsImpl:
        """The environment's settings, overlaid with the operator's."""
        return RuntimeSettingsImpl(
            settings, document=shared.settings, audit=audit, metrics=metrics, on_log_level=set_level
        )

    @provide
    def runtime_settings(self, in_force: RuntimeSettingsImpl) -> RuntimeSettingsProtocol:
        """The settings, as the components read them."""
        return in_force

    @provide
    def settings_steering(self, in_force: RuntimeSettingsImpl) -> SettingsSteeringProtocol:
        """The settings, as administrators change them."""
        return in_force

    @provide
    def circuits(
        self,
        settings: Settings,
        guards: ProviderGuards,
        shared: SharedState,
        audit: AuditProtocol,
        metrics: Metrics,
        clock: ClockProtocol,
    ) -> CircuitSteeringImpl:
        """The circuits of all providers."""
        return CircuitSteeringImpl(
            guards,
            document=shared.circuits,
            secrets=secrets_of(settings),
            audit=audit,
            metrics=metrics,
            clock=clock,
            now_s=time.time,
        )

    @provide
    def circuit_steering(self, circuits: CircuitSteeringImpl) -> CircuitSteeringProtocol:
        """The circuits, as administrators force them."""
        return circuits

    @provide
    def operator_polls(self, in_force: RuntimeSettingsImpl, circuits: CircuitSteeringImpl) -> OperatorPolls:
        """Look for changes that an operator made through another replica; each within its own timeout."""
        return in_force.poll, circuits.poll

    @provide
    def audit(self, events: LLMEventPublisherProtocol) -> AuditProtocol:
        """The audit log of administrators' changes."""
        return AuditImpl(events=events, now=utc_now)


class EventsProvider(Provider):
    """Events, and their delivery to Kafka."""

    scope = Scope.APP
    security = from_context(provides=Security, scope=Scope.APP)

    @provide
    def publisher(self, settings: Settings, outbox: Outbox, metrics: Metrics) -> EventPublisherImpl:
        """The event publisher."""
        return EventPublisherImpl(
            enabled=settings.events.enabled, outbox=outbox, usage=UsageWindow(now=utc_now), metrics=metrics
        )

    @provide
    def events(self, publisher: EventPublisherImpl) -> LLMEventPublisherProtocol:
        """The event publisher, as the components use it."""
        return publisher

    @provide
    def receipts(self, settings: Settings, events: LLMEventPublisherProtocol, metrics: Metrics) -> Receipts:
        """Reports each purchase, and for whom it was made."""
        return Receipts(service_name=settings.service.name, events=events, metrics=metrics, now=utc_now)

    @provide
    def outbox(
        self,
        settings: Settings,
        security: Security,
        metrics: Metrics,
        tracer: TracerProtocol,
        clock: ClockProtocol,
        sleep: SleepProtocol,
    ) -> Iterator[Outbox]:
        """The outbox to Kafka; NoOutbox without Kafka."""
        wanted = settings.events
        if not wanted.go_to_kafka:
            yield NoOutbox()
            return
        spool = (
            Spool(wanted.spool_path, metrics=metrics, now=utc_now, clock=clock, sleep=sleep)
            if wanted.spool_path
            else None
        )
        queue = EventQueue(
            max_messages=wanted.queue_size, max_bytes=64 * MIB, spool=spool, metrics=metrics, clock=clock
        )
        connection = KafkaConnection(
            KafkaLink(",".join(wanted.kafka_servers), security, client_id=settings.service.name),
            self._circuit(settings, metrics, clock),
            metrics=metrics,
            sleep=sleep,
            backoff=Backoff(random.uniform, sleep),
        )

        def lane(event: ProcessingEvent) -> Lane:
            return Lane(event, queue, connection, clock=clock, sleep=sleep, backoff=Backoff(random.uniform, sleep))

        outbox = KafkaOutbox(
            queue,
            connection,
            lane=lane,
            spool=spool,
            service_name=settings.service.name,
            max_age_s=wanted.max_age_s,
            metrics=metrics,
            traceparent=traceparent(tracer),
            now=utc_now,
            clock=clock,
            sleep=sleep,
        )
        yield outbox
        outbox.close()

    def _circuit(self, settings: Settings, metrics: Metrics, clock: ClockProtocol) -> CircuitBreaker:
        def log_change(before: CircuitState, after: CircuitState) -> None:
            metrics.kafka_circuit_transitions.of(after).inc()
            write = log.warning if after is CircuitState.OPEN else log.info
            write("kafka_circuit", before=before, after=after)

        rules = CircuitRules(
            failure_threshold=settings.events.circuit_failure_threshold,
            fewest_calls=settings.events.circuit_failure_threshold,  # or three failures of a minute might open it
            recovery_s=settings.events.circuit_recovery_s,
            longest_open_s=settings.events.circuit_recovery_s,  # events wait meanwhile, and fill the queue
            success_threshold=settings.events.circuit_success_threshold,
            probe_s=ACK_TIMEOUT_S,
        )
        return CircuitBreaker(rules, clock=clock, jitter=random.uniform, on_transition=log_change)


class AccessProvider(Provider):
    """Authentication of callers and administrators."""

    scope = Scope.APP

    @provide
    def admin_key(self, settings: Settings) -> AdminKey:
        """The administrator's key, if one is in force."""
        key = settings.admin.key_in_force
        return AdminKey(key.get_secret_value() if key else None, allowed=settings.access.admin_allowed_ips)

    @provide
    def admin_access(self, key: AdminKey, metrics: Metrics, clock: ClockProtocol) -> AdminAccessProtocol:
        """Used only by the admin routes, which exist only with a key."""
        return AdminAccessImpl(key, wrong_keys=WrongKeys(Door.ADMIN, metrics=metrics, clock=clock))

    @provide
    def key_ring(self, settings: Settings) -> KeyRing:
        """The callers' keys; empty when none is required."""
        return KeyRing(settings.access.callers)

    @provide
    def caller_access(
        self, settings: Settings, ring: KeyRing, admin: AdminKey, metrics: Metrics, clock: ClockProtocol
    ) -> CallerAccessProtocol:
        """Its wrong keys are counted apart from those sent to the admin routes, so that no caller can lock these."""
        asks = settings.access.asks_for_keys
        metrics.introduce_callers(ring.names if asks else {ANONYMOUS})
        if settings.admin.key_in_force is not None:
            metrics.introduce_callers({ADMIN})
        wrong_keys = WrongKeys(Door.CALLER, metrics=metrics, clock=clock)
        return CallerAccessImpl(ring if asks else None, admin=admin, wrong_keys=wrong_keys)


class ProcessProvider(Provider):
    """The process-wide singletons."""

    scope = Scope.APP
    settings = from_context(provides=Settings, scope=Scope.APP)
    catalogue = from_context(provides=ModelCatalogueProtocol, scope=Scope.APP)

    @provide
    def clock(self) -> ClockProtocol:
        """The monotonic clock."""
        return time.monotonic

    @provide
    def sleep(self) -> SleepProtocol:
        """How waiting is done."""
        return asyncio.sleep

    @provide
    async def tracer(self, settings: Settings) -> AsyncIterator[TracerProtocol]:
        """Records spans where a collector is configured."""
        tracer, close = tracing(settings.tracing, settings.service)
        yield tracer
        await close()

    @provide
    def metrics(self, settings: Settings, catalogue: ModelCatalogueProtocol) -> Metrics:
        """All metrics in one registry."""
        listed = {model for name in ProviderName for model in catalogue.models(name)}
        priced = {key.partition("/")[2] for key in settings.models.price_overrides}
        common = settings.model_dump_json(exclude=NOT_IN_DIGEST)  # secrets are dumped as asterisks
        digest = hashlib.sha256(common.encode()).hexdigest()[:16]
        return Metrics(
            version=settings.service.version, known_models={MOCK_MODEL, *listed, *priced}, settings_digest=digest
        )

    @provide
    def history(self, clock: ClockProtocol) -> HistoryProtocol:
        """The history of recent responses."""
        return HistoryImpl(clock=clock, now=utc_now)

    @provide
    def whole_admission(self) -> Admission:
        """Admission to the service, open from the start."""
        return Admission()

    @provide
    def admission(self, admission: Admission) -> AdmissionProtocol:
        """Admission, as the routes use it."""
        return admission

    @provide
    def stop_signals(
        self, settings: Settings, admission: Admission, flights: Flights, clock: ClockProtocol, sleep: SleepProtocol
    ) -> StopSignals:
        """Starts the drain on SIGTERM and SIGINT."""
        drain = Drain(
            admission,
            flights,
            delay_s=settings.service.drain_delay_s,
            grace_s=settings.service.drain_grace_s,
            clock=clock,
            sleep=sleep,
        )
        return StopSignals(drain)


class BackgroundProvider(Provider):
    """The background tasks: what each does, and how often."""

    scope = Scope.APP

    @provide
    def tasks(
        self,
        settings: Settings,
        monitor: ProviderMonitor,
        budget: Budget,
        ledger: SharedLedger,
        alerts: Alerts,
        shared: SharedState,
        operator_polls: OperatorPolls,
        outbox: Outbox,
        publisher: EventPublisherImpl,
        ring: KeyRing,
        metrics: Metrics,
        sleep: SleepProtocol,
    ) -> BackgroundTasks:
        """All but that of the event loop's lag, by name."""
        tasks: dict[str, Work] = {
            "provider_monitor": monitor.run,
            "bookkeeper": repeated(budget.refresh, ledger.send, alerts.check, partial(sleep, 2.0)),
            "usage_analytics": repeated(partial(sleep, settings.events.analytics_window_s), publisher.publish_usage),
            **outbox.tasks(),
        }
        if shared.prober is not None:
            tasks["redis_prober"] = shared.prober.run
            tasks["steering"] = repeated(*operator_polls, partial(sleep, 2.0))
        keys_path = secret_file("access", "caller_keys") if settings.access.asks_for_keys else None
        if keys_path is not None:
            tasks["caller_keys"] = repeated(KeysFile(keys_path, ring, metrics=metrics).reload, partial(sleep, 5.0))
        return tasks

    @provide
    async def supervisor(
        self, tasks: BackgroundTasks, metrics: Metrics, clock: ClockProtocol, sleep: SleepProtocol
    ) -> AsyncIterator[Supervisor]:
        """Runs the tasks; startup_setup.py starts them."""
        measuring = repeated(partial(measure_loop_lag, metrics=metrics, clock=clock, sleep=sleep))
        supervisor = Supervisor({"loop_lag": measuring, **tasks}, metrics=metrics, clock=clock, sleep=sleep)
        yield supervisor
        await supervisor.stop()

    @provide
    def background(self, supervisor: Supervisor) -> BackgroundProtocol:
        """The tasks, as the health probe sees them."""
        return supervisor


def create_container(settings: Settings, *others: Provider) -> AsyncContainer:
    """The wired service. others: in tests, providers that replace ours.

    Raises ConfigurationError when the operator's model catalogue, Kafka's certificates or the spool are invalid.
    """
    catalogue: ModelCatalogueProtocol = ModelCatalogue.load(settings.models.catalog_path)
    if settings.events.go_to_kafka and settings.events.spool_path is not None:
        check_spool(settings.events.spool_path)
    return make_async_container(
        JudgesProvider(),
        AccountingProvider(),
        RequestProvider(),
        SharedStateProvider(),
        SteeringProvider(),
        EventsProvider(),
        AccessProvider(),
        ProcessProvider(),
        BackgroundProvider(),
        *others,
        context={Settings: settings, ModelCatalogueProtocol: catalogue, Security: Security.of(settings.events)},
        validation_settings=STRICT_VALIDATION,
        lock_factory=None,  # no factory awaits anything, so nothing is built twice
    )
