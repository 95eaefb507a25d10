"""The composition root: the one place that knows the classes. Reading it tells how the service is put together."""

import asyncio
import time
from datetime import UTC, datetime

from dishka import STRICT_VALIDATION, AsyncContainer, Provider, Scope, from_context, make_async_container, provide

from api_models import ProviderName
from config import VERSION, Settings
from implementations.accounting_impl import AccountingImpl
from implementations.cache.local_cache import LocalCache
from implementations.cache_manager_impl import CacheManagerImpl
from implementations.event_publisher_impl import EventPublisherImpl
from implementations.llm_orchestrator_impl import LLMOrchestratorImpl
from implementations.mock_provider_impl import MOCK_MODEL, MockProviderImpl
from implementations.provider_selector_impl import ProviderSelectorImpl
from implementations.provider_tester_impl import ProviderTesterImpl
from implementations.request_builder_impl import RequestBuilderImpl
from implementations.resilience.admission import Admission
from implementations.resilience.drain import Drain
from implementations.resilience.policies import Metered, Retrying, TimeLimited
from implementations.resilience.single_flight import SingleFlight
from implementations.retry_manager_impl import RetryManagerImpl
from implementations.runtime_settings_impl import RuntimeSettingsImpl
from metrics import Metrics
from protocols import (
    AdmissionProtocol,
    Judge,
    Judges,
    LLMAccountingProtocol,
    LLMCacheManagerProtocol,
    LLMEventPublisherProtocol,
    LLMOrchestratorProtocol,
    LLMProviderProtocol,
    LLMProviderSelectorProtocol,
    LLMProviderTesterProtocol,
    LLMRequestBuilderProtocol,
    LLMRetryManagerProtocol,
    ProviderReply,
    RuntimeSettingsProtocol,
)

MIB = 1024 * 1024

Flights = SingleFlight[ProviderReply]


def utc_now() -> datetime:
    """The wall clock, which dates events and books; durations are measured by time.monotonic."""
    return datetime.now(UTC)


class JudgesProvider(Provider):
    """Who can be asked, each behind the visible stack of policies."""

    scope = Scope.APP

    @provide
    def judges(self, retries: LLMRetryManagerProtocol, accounting: LLMAccountingProtocol) -> Judges:
        """Every provider that this version can ask."""

        def judge(dialect: MockProviderImpl) -> Judge:
            metered: LLMProviderProtocol = Metered(TimeLimited(dialect), accounting=accounting, clock=time.monotonic)
            return Judge(provider=Retrying(metered, retries=retries), metered=metered, probe=dialect)

        return {ProviderName.MOCK: judge(MockProviderImpl(sleep=asyncio.sleep))}

    @provide
    def retries(self) -> LLMRetryManagerProtocol:
        """The one owner of retries."""
        return RetryManagerImpl(sleep=asyncio.sleep)

    @provide
    def accounting(self, metrics: Metrics) -> LLMAccountingProtocol:
        """The books."""
        return AccountingImpl(metrics=metrics, now=utc_now)


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
        builder: LLMRequestBuilderProtocol,
        accounting: LLMAccountingProtocol,
    ) -> LLMProviderSelectorProtocol:
        """Who can be asked."""
        return ProviderSelectorImpl(
            judges=judges, configured=settings.configured_providers(), builder=builder, accounting=accounting
        )

    @provide
    def builder(self) -> LLMRequestBuilderProtocol:
        """Query and settings become a complete request."""
        return RequestBuilderImpl()

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
    def events(self, settings: Settings, metrics: Metrics) -> LLMEventPublisherProtocol:
        """What the platform is told."""
        return EventPublisherImpl(enabled=settings.events.enabled, metrics=metrics)

    @provide
    def tester(
        self,
        judges: Judges,
        selector: LLMProviderSelectorProtocol,
        builder: LLMRequestBuilderProtocol,
        runtime_settings: RuntimeSettingsProtocol,
    ) -> LLMProviderTesterProtocol:
        """An operator's try of one provider."""
        return ProviderTesterImpl(
            judges=judges,
            selector=selector,
            builder=builder,
            runtime_settings=runtime_settings,
            clock=time.monotonic,
        )


class ProcessProvider(Provider):
    """What the process has once."""

    scope = Scope.APP
    settings = from_context(provides=Settings, scope=Scope.APP)

    @provide
    def runtime_settings(self, settings: Settings) -> RuntimeSettingsProtocol:
        """What may change while the service runs."""
        return RuntimeSettingsImpl(settings)

    @provide
    def metrics(self) -> Metrics:
        """The one registry."""
        return Metrics(version=VERSION, known_models=(MOCK_MODEL,))

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
    """The wired service. others: what the web framework adds, and in tests the parts that replace ours."""
    return make_async_container(
        JudgesProvider(),
        RequestProvider(),
        ProcessProvider(),
        *others,
        context={Settings: settings},
        validation_settings=STRICT_VALIDATION,
    )
