"""The orchestrator with real neighbours, around judges that play a script."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from api_models import ProviderName, RequestCompleted
from di import guarded as stacked
from implementations.accounting.ledger import Ledger
from implementations.answers_impl import AnswersImpl
from implementations.cache_manager_impl import CacheManagerImpl
from implementations.judging.catalogue import ModelCatalogue
from implementations.llm_orchestrator_impl import LLMOrchestratorImpl
from implementations.observability.no_tracing import NoTracing
from implementations.provider_selector_impl import ProviderSelectorImpl
from implementations.request_builder_impl import RequestBuilderImpl
from implementations.resilience.bulkhead import Bulkhead
from implementations.resilience.metering import Metered
from implementations.resilience.single_flight import SingleFlight
from protocols import AnswersTo, Judge, ProviderReply
from tests.fakes import (
    Calendar,
    Clock,
    FakeProvider,
    FixedPrices,
    FixedSettings,
    Recorder,
    accounting_of,
    current_settings,
    guards,
    local_cache,
    middle,
    new_metrics,
    ranking,
    receipts,
    reply,
    tolerant_catalogue,
    unlimited,
)

ANTHROPIC, OPENAI = ProviderName.ANTHROPIC, ProviderName.OPENAI
OPENAI_REPLY = reply(provider=OPENAI, model="model-of-openai", cost_usd=0.5)


class Harness:
    """The orchestrator with real neighbours; only the judges, the clocks and the events are fakes.

    guarded: the judges stand behind all policies, which wait in the event loop's time.
    """

    def __init__(
        self,
        judges: Mapping[ProviderName, FakeProvider],
        *,
        catalogue: ModelCatalogue | None = None,
        clock: Clock | None = None,
        guarded: bool = False,
        **changes: Any,
    ) -> None:
        catalogue = catalogue or tolerant_catalogue()
        self.clock = clock or Clock()
        self.metrics = new_metrics()
        self.events = Recorder()
        self.guards = guards(self.metrics, self.clock)
        self.flights = SingleFlight[ProviderReply]()
        self.capacity = Bulkhead(limit=100, queue_limit=100)
        self.cache = CacheManagerImpl(
            local=local_cache(self.clock, size_bytes=1_000_000, max_entries=100),
            shared=None,
            local_ttl_s=600,
            near_ttl_s=2.0,
            is_alone=True,
            metrics=self.metrics,
            jitter=middle,
        )
        self.ledger = Ledger(now=Calendar())
        self.accounting = accounting = accounting_of(
            FixedPrices(), metrics=self.metrics, now=Calendar(), ledger=self.ledger
        )
        self.selector = ProviderSelectorImpl(
            judges={
                name: self._guarded(name, fake)
                if guarded
                else Judge(provider=self.metered(fake), metered=fake, probe=fake)
                for name, fake in judges.items()
            },
            guards=self.guards,
            ranking=ranking(accounting),
            findings={},
            configured=frozenset(judges),
            catalogue=catalogue,
            builder=RequestBuilderImpl(catalogue=catalogue, base_urls={}),
            accounting=accounting,
        )
        self._settings = FixedSettings(current_settings(**changes))
        self.rebuild()

    def metered(self, judge: FakeProvider) -> Metered:
        """The judge, with its attempts priced and recorded."""
        return Metered(judge, budget=unlimited(), accounting=self.accounting)

    def rebuild(self) -> None:
        """Put the orchestrator together, of the parts as they are now."""
        self.orchestrator = LLMOrchestratorImpl(
            runtime_settings=self._settings,
            selector=self.selector,
            answers_to=self.answers_to(),
            capacity=self.capacity,
            events=self.events,
            metrics=self.metrics,
            clock=self.clock,
        )
        self.compare = self.orchestrator.compare

    def answers_to(self) -> AnswersTo:
        """What answers a query, of the parts as they are now."""
        return partial(
            AnswersImpl,
            cache=self.cache,
            look_up=self.cache.get,
            flights=self.flights,
            accounting=self.accounting,
            events=self.events,
            receipts=receipts(self.events, self.metrics),
        )

    def _guarded(self, name: ProviderName, judge: FakeProvider) -> Judge:
        return stacked(
            judge,
            self.guards[name],
            self.accounting,
            unlimited(),
            sleep=asyncio.sleep,
            tracer=NoTracing(),
        )

    def completed(self) -> RequestCompleted:
        """The one *completed*, which is always the last word about its request."""
        (event,) = self.events.of(RequestCompleted)
        return event


def harness_of(*script: Any, **changes: Any) -> Harness:
    """With one provider, which plays this script."""
    return Harness({ANTHROPIC: FakeProvider(*script)}, **changes)


def in_turn(*outcomes: Any, **changes: Any) -> Harness:
    """Anthropic, OpenAI and Google, asked in this order; each has one outcome."""
    order = (ANTHROPIC, OPENAI, ProviderName.GOOGLE)
    judges = {name: FakeProvider(outcome) for name, outcome in zip(order, outcomes, strict=False)}
    return Harness(judges, **changes)
