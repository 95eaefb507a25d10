"""The composition root: the one place that knows the classes. Reading it tells how the service is put together."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import structlog
from dishka import STRICT_VALIDATION, AsyncContainer, Provider, Scope, from_context, make_async_container, provide

from api_models import CircuitState, ProcessingEvent, ProviderName
from config import VERSION, Settings
from implementations.accounting.prices import Prices
from implementations.accounting_impl import AccountingImpl
from implementations.anthropic_provider_impl import AnthropicProviderImpl
from implementations.background.supervisor import Supervisor
from implementations.cache.local_cache import LocalCache
from implementations.cache_manager_impl import CacheManagerImpl
from implementations.event_publisher_impl import EventPublisherImpl
from implementations.events.connection import Backoff, Connection
from implementations.events.event_queue import EventQueue
from implementations.events.kafka_link import KafkaLink
from implementations.events.kafka_security import Security
from implementations.events.lane import ACK_TIMEOUT_S, Lane
from implementations.events.outbox import KafkaOutbox, NoOutbox, Outbox
from implementations.events.spool import Spool, check_spool
from implementations.events.usage_window import UsageWindow, report_usage
from implementations.google_provider_impl import GoogleProviderImpl
from implementations.internal_provider_impl import InternalProviderImpl
from implementations.judging.catalogue import ModelCatalogue
from implementations.llm_orchestrator_impl import LLMOrchestratorImpl
from implementations.mock_provider_impl import MOCK_MODEL, MockProviderImpl
from implementations.openai_provider_impl import OpenAIProviderImpl
from implementations.openrouter_provider_impl import OpenRouterProviderImpl
from implementations.provider_selector_impl import ProviderSelectorImpl
from implementations.provider_tester_impl import ProviderTesterImpl
from implementations.request_builder_impl import RequestBuilderImpl
from implementations.resilience.admission import Admission
from implementations.resilience.circuit_breaker import CircuitBreaker, CircuitRules
from implementations.resilience.drain import Drain
from implementations.resilience.policies import Metered, Retrying, TimeLimited
from implementations.resilience.single_flight import SingleFlight
from implementations.retry_manager_impl import RetryManagerImpl
from implementations.runtime_settings_impl import RuntimeSettingsImpl
from implementations.wire.transport import Transport
from metrics import Metrics
from protocols import (
    AdmissionProtocol,
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
    LLMRetryManagerProtocol,
    ModelCatalogueProtocol,
    PricesProtocol,
    ProviderReply,
    RuntimeSettingsProtocol,
)

MIB = 1024 * 1024

log = structlog.get_logger("service")

Flights = SingleFlight[ProviderReply]


def utc_now() -> datetime:
    """The wall clock, which dates events and books; durations are measured by time.monotonic."""
    return datetime.now(UTC)


class JudgesProvider(Provider):
    """Who can be asked, each behind the visible stack of policies."""

    scope = Scope.APP

    @provide
    def judges(
        self,
        settings: Settings,
        transport: Transport,
        retries: LLMRetryManagerProtocol,
        accounting: LLMAccountingProtocol,
    ) -> Judges:
        """Every provider that this version can ask."""

        def judge(dialect: LLMDialectProtocol) -> Judge:
            metered: LLMProviderProtocol = Metered(TimeLimited(dialect), accounting=accounting, clock=time.monotonic)
            return Judge(provider=Retrying(metered, retries=retries), metered=metered, probe=dialect)

        return {
            ProviderName.ANTHROPIC: judge(AnthropicProviderImpl(transport, settings.anthropic)),
            ProviderName.OPENAI: judge(OpenAIProviderImpl(transport, settings.openai)),
            ProviderName.GOOGLE: judge(GoogleProviderImpl(transport, settings.google)),
            ProviderName.OPENROUTER: judge(OpenRouterProviderImpl(transport, settings.openrouter)),
            ProviderName.INTERNAL: judge(InternalProviderImpl(transport, settings.internal)),
            ProviderName.MOCK: judge(MockProviderImpl(sleep=asyncio.sleep)),
        }

    @provide
    async def transport(self, settings: Settings) -> AsyncIterator[Transport]:
        """The one way out, with room for every call that may be under way and a probe."""
        transport = Transport(
            connections_per_host=settings.judging.max_concurrent + 1,
            trusts_environment=settings.outbound.trusts_environment,
            now=utc_now,
        )
        yield transport
        await transport.close()

    @provide
    def retries(self) -> LLMRetryManagerProtocol:
        """The one owner of retries."""
        return RetryManagerImpl(sleep=asyncio.sleep)

    @provide
    def accounting(self, prices: PricesProtocol, metrics: Metrics) -> LLMAccountingProtocol:
        """The books."""
        return AccountingImpl(prices=prices, metrics=metrics, now=utc_now)

    @provide
    def prices(self, settings: Settings) -> PricesProtocol:
        """What tokens cost."""
        return Prices(settings.models.price_overrides, now=utc_now)


class RequestProvider(Provider):
    """The stations of one request."""

    scope = Scope.APP

    @provide
    def orchestrator(
        self,
        settings: Settings,
        runtime_settings: RuntimeSettingsProtocol,
        selector: LLMProviderSelectorProtocol,
        cache: LLMCacheManagerProtocol,
        flights: Flights,
        events: LLMEventPublisherProtocol,
        metrics: Metrics,
    ) -> LLMOrchestratorProtocol:
        """Walks one request."""
        return LLMOrchestratorImpl(
            service_name=settings.service.name,
            runtime_settings=runtime_settings,
            selector=selector,
            cache=cache,
            flights=flights,
            events=events,
            metrics=metrics,
            clock=time.monotonic,
            now=utc_now,
        )

    @provide
    def selector(
        self,
        settings: Settings,
        judges: Judges,
        catalogue: ModelCatalogueProtocol,
        builder: LLMRequestBuilderProtocol,
        accounting: LLMAccountingProtocol,
    ) -> LLMProviderSelectorProtocol:
        """Who can be asked."""
        return ProviderSelectorImpl(
            judges=judges,
            configured=settings.configured_providers(),
            catalogue=catalogue,
            builder=builder,
            accounting=accounting,
        )

    @provide
    def builder(self, catalogue: ModelCatalogueProtocol) -> LLMRequestBuilderProtocol:
        """Query and settings become a complete request."""
        return RequestBuilderImpl(catalogue=catalogue)

    @provide
    def cache(self, settings: Settings, metrics: Metrics) -> LLMCacheManagerProtocol:
        """Known answers, in this process."""
        local = LocalCache(
            size_bytes=settings.cache.local_size_mb * MIB,
            max_entries=settings.cache.local_max_entries,
            clock=time.monotonic,
        )
        return CacheManagerImpl(local=local, local_ttl_s=settings.cache.local_ttl_s, metrics=metrics)

    @provide
    def flights(self) -> Flights:
        """Purchases under way."""
        return SingleFlight()

    @provide
    def events(self, publisher: EventPublisherImpl) -> LLMEventPublisherProtocol:
        """What the platform is told, as the stations see it."""
        return publisher

    @provide
    def tester(
        self,
        settings: Settings,
        judges: Judges,
        selector: LLMProviderSelectorProtocol,
        builder: LLMRequestBuilderProtocol,
        runtime_settings: RuntimeSettingsProtocol,
        events: LLMEventPublisherProtocol,
    ) -> LLMProviderTesterProtocol:
        """An operator's try of one provider."""
        return ProviderTesterImpl(
            service_name=settings.service.name,
            judges=judges,
            selector=selector,
            builder=builder,
            runtime_settings=runtime_settings,
            events=events,
            clock=time.monotonic,
            now=utc_now,
        )


class EventsProvider(Provider):
    """From an event to Kafka."""

    scope = Scope.APP
    security = from_context(provides=Security, scope=Scope.APP)

    @provide
    def publisher(self, settings: Settings, outbox: Outbox, metrics: Metrics) -> EventPublisherImpl:
        """What the platform is told."""
        return EventPublisherImpl(
            enabled=settings.events.enabled, outbox=outbox, usage=UsageWindow(now=utc_now), metrics=metrics
        )

    @provide
    def outbox(self, settings: Settings, security: Security, metrics: Metrics) -> Iterator[Outbox]:
        """What waits for Kafka, when there is one."""
        wanted = settings.events
        if not wanted.enabled or wanted.kafka_servers is None:
            yield NoOutbox()
            return
        spool = (
            Spool(wanted.spool_path, metrics=metrics, now=utc_now, clock=time.monotonic) if wanted.spool_path else None
        )
        queue = EventQueue(
            max_messages=wanted.queue_size, max_bytes=64 * MIB, spool=spool, metrics=metrics, clock=time.monotonic
        )
        connection = Connection(
            KafkaLink(wanted.kafka_servers, security, client_id=settings.service.name),
            self._circuit(settings, metrics),
            metrics=metrics,
            sleep=asyncio.sleep,
            backoff=Backoff(random.uniform),
        )

        def lane(event: ProcessingEvent) -> Lane:
            return Lane(
                event, queue, connection, clock=time.monotonic, sleep=asyncio.sleep, backoff=Backoff(random.uniform)
            )

        outbox = KafkaOutbox(
            queue,
            connection,
            lane=lane,
            spool=spool,
            service_name=settings.service.name,
            max_age_s=wanted.max_age_s,
            traceparent=lambda: None,
            now=utc_now,
            clock=time.monotonic,
            sleep=asyncio.sleep,
        )
        yield outbox
        outbox.close()

    def _circuit(self, settings: Settings, metrics: Metrics) -> CircuitBreaker:
        def told(before: CircuitState, after: CircuitState) -> None:
            metrics.kafka_circuit_transitions.of(after).inc()
            log.warning("kafka_circuit", before=before, after=after)

        rules = CircuitRules(
            failure_threshold=settings.events.circuit_failure_threshold,
            recovery_s=settings.events.circuit_recovery_s,
            success_threshold=settings.events.circuit_success_threshold,
            probe_s=ACK_TIMEOUT_S,
        )
        return CircuitBreaker(rules, clock=time.monotonic, jitter=random.uniform, on_transition=told)


class ProcessProvider(Provider):
    """What the process has once."""

    scope = Scope.APP
    settings = from_context(provides=Settings, scope=Scope.APP)
    catalogue = from_context(provides=ModelCatalogueProtocol, scope=Scope.APP)

    @provide
    def runtime_settings(self, settings: Settings) -> RuntimeSettingsProtocol:
        """What may change while the service runs."""
        return RuntimeSettingsImpl(settings)

    @provide
    def metrics(self, settings: Settings, catalogue: ModelCatalogueProtocol) -> Metrics:
        """The one registry."""
        listed = {model for name in ProviderName for model in catalogue.models(name)}
        defaults = {group.default_model for group in settings.provider_groups().values()}
        return Metrics(version=VERSION, known_models={MOCK_MODEL, *listed, *defaults})

    @provide
    async def supervisor(
        self, settings: Settings, metrics: Metrics, outbox: Outbox, publisher: EventPublisherImpl
    ) -> AsyncIterator[Supervisor]:
        """The service's own tasks; whoever starts the service starts them."""
        window_s = settings.events.analytics_window_s
        tasks = {
            **outbox.tasks(),
            "usage_analytics": lambda: report_usage(publisher.publish_usage, window_s=window_s, sleep=asyncio.sleep),
        }
        supervisor = Supervisor(tasks, metrics=metrics, sleep=asyncio.sleep)
        yield supervisor
        await supervisor.stop()

    @provide
    def door(self) -> Admission:
        """Opened by being built."""
        return Admission()

    @provide
    def admission(self, door: Admission) -> AdmissionProtocol:
        """The door as the routes see it."""
        return door

    @provide
    def drain(self, settings: Settings, door: Admission, flights: Flights) -> Drain:
        """How the service stops."""
        return Drain(
            door,
            flights,
            delay_s=settings.service.drain_delay_s,
            grace_s=settings.service.drain_grace_s,
            sleep=asyncio.sleep,
        )


def create_container(settings: Settings, *others: Provider) -> AsyncContainer:
    """The wired service. others: what the web framework adds, and in tests the parts that replace ours.

    Raises ConfigurationError when the operator's catalogue of models, Kafka's certificates or the spool are wrong.
    """
    catalogue: ModelCatalogueProtocol = ModelCatalogue.load(settings.models.catalog_path)
    if settings.events.spool_path is not None:
        check_spool(settings.events.spool_path)
    return make_async_container(
        JudgesProvider(),
        RequestProvider(),
        EventsProvider(),
        ProcessProvider(),
        *others,
        context={Settings: settings, ModelCatalogueProtocol: catalogue, Security: Security.of(settings.events)},
        validation_settings=STRICT_VALIDATION,
    )
