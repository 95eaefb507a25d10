"""The composition root: the one place that knows the classes. Reading it tells how the service is put together."""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from dishka import STRICT_VALIDATION, AsyncContainer, Provider, Scope, from_context, make_async_container, provide

from api_models import ProviderName
from config import VERSION, Settings
from implementations.accounting.prices import Prices
from implementations.accounting_impl import AccountingImpl
from implementations.admin_access_impl import AdminAccessImpl
from implementations.anthropic_provider_impl import AnthropicProviderImpl
from implementations.background.supervisor import Supervisor
from implementations.cache.local_cache import LocalCache
from implementations.cache_manager_impl import CacheManagerImpl
from implementations.event_publisher_impl import EventPublisherImpl
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
from implementations.resilience.drain import Drain
from implementations.resilience.policies import Metered, Retrying, TimeLimited
from implementations.resilience.single_flight import SingleFlight
from implementations.retry_manager_impl import RetryManagerImpl
from implementations.runtime_settings_impl import RuntimeSettingsImpl
from implementations.shared_state.connections import Connections
from implementations.shared_state.entry_store import EntryStore
from implementations.shared_state.generation import Generation
from implementations.shared_state.prober import Prober
from implementations.shared_state.shared_redis import SharedRedis
from implementations.shared_state.write_behind import WriteBehind
from implementations.wire.transport import Transport
from metrics import Metrics
from protocols import (
    AdminAccessProtocol,
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

Flights = SingleFlight[ProviderReply]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedEntries:
    """The entries in Redis and their prober; both are None without Redis."""

    entries: EntryStore | None
    prober: Prober | None


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
    def cache(
        self, settings: Settings, shared: SharedEntries, generation: Generation, metrics: Metrics
    ) -> LLMCacheManagerProtocol:
        """Known answers: in this process, and in Redis where there is one."""
        local = LocalCache(
            size_bytes=settings.cache.local_size_mb * MIB,
            max_entries=settings.cache.local_max_entries,
            clock=time.monotonic,
            on_evict=metrics.cache_evictions.inc,
        )
        return CacheManagerImpl(
            local=local,
            shared=shared.entries,
            generation=generation,
            local_ttl_s=settings.cache.local_ttl_s,
            near_ttl_s=settings.cache.near_ttl_s,
            metrics=metrics,
            jitter=random.uniform,
        )

    @provide
    def flights(self) -> Flights:
        """Purchases under way."""
        return SingleFlight()

    @provide
    def events(self, settings: Settings, metrics: Metrics) -> LLMEventPublisherProtocol:
        """What the platform is told."""
        return EventPublisherImpl(enabled=settings.events.enabled, metrics=metrics)

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


class SharedStateProvider(Provider):
    """What replicas share; nothing of it without a REDIS_URL."""

    scope = Scope.APP

    @provide
    def generation(self) -> Generation:
        """The number in every entry's key."""
        return Generation()

    @provide
    async def entries(
        self, settings: Settings, generation: Generation, metrics: Metrics
    ) -> AsyncIterator[SharedEntries]:
        """Redis behind its circuits, the entries on it, and who looks after them."""
        if settings.cache.redis_url is None:
            yield SharedEntries(entries=None, prober=None)
            return
        redis = SharedRedis(
            Connections(settings.cache.redis_url.get_secret_value()),
            metrics=metrics,
            clock=time.monotonic,
            jitter=random.uniform,
        )
        behind = WriteBehind(metrics=metrics)
        entries = EntryStore(
            redis,
            prefix=settings.cache.key_prefix,
            generation=generation,
            behind=behind,
            metrics=metrics,
            clock=time.monotonic,
            now_s=time.time,
        )
        prober = Prober(redis, reading=entries.look, writing=entries.touch, jitter=random.uniform, sleep=asyncio.sleep)
        yield SharedEntries(entries=entries, prober=prober)
        await behind.finish()
        await redis.close()


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
    async def supervisor(self, shared: SharedEntries, metrics: Metrics) -> AsyncIterator[Supervisor]:
        """The service's own tasks; whoever starts the service starts them."""
        tasks = {} if shared.prober is None else {"redis_prober": shared.prober.run}
        supervisor = Supervisor(tasks, metrics=metrics, sleep=asyncio.sleep)
        yield supervisor
        await supervisor.stop()

    @provide
    def admin_access(self, settings: Settings) -> AdminAccessProtocol:
        """Only asked by routes that exist when there is a key."""
        key = settings.admin.key_in_force
        return AdminAccessImpl(key.get_secret_value() if key else secrets.token_hex(), clock=time.monotonic)

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

    Raises ConfigurationError when the operator's catalogue of models is wrong.
    """
    catalogue: ModelCatalogueProtocol = ModelCatalogue.load(settings.models.catalog_path)
    return make_async_container(
        JudgesProvider(),
        RequestProvider(),
        SharedStateProvider(),
        ProcessProvider(),
        *others,
        context={Settings: settings, ModelCatalogueProtocol: catalogue},
        validation_settings=STRICT_VALIDATION,
    )
