"""The Prometheus metrics as one object that owns its registry.

Labels are closed sets: providers, outcomes and routes by definition, models by the set given at the start
(any other is `other`). Children are looked up once and kept. Names are written without the prefix `llm_provider_`.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import product
from typing import Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from api_models import (
    AccessRefusal,
    AttemptOutcome,
    CacheOutcome,
    CallerOutcome,
    CircuitState,
    CostAlertType,
    CostTracked,
    DegradedMode,
    Door,
    ErrorCode,
    EventDropReason,
    HoldReason,
    ProcessingEvent,
    ProviderName,
    RejectReason,
    RequestPhase,
    ShedReason,
    Usage,
)
from exceptions import ServiceError, failures

NAMESPACE = "llm_provider"
LLM_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120)
GATEWAY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
REDIS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5)
WAIT_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
OTHER_MODEL = "other"
NOBODY = "none"
COMPARISON_ROUTE = "/api/v1/comparison"
OK, CALLER_LEFT = 200, 499
SUCCESS = "success"
REQUEST, STORED = "request", "stored"  # where a change of settings came from
CIRCUIT_STATES = (CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN)  # by the value that is published
CALLER_TOKENS = ("prompt", "completion")
TOPICS = tuple(event.topic for event in ProcessingEvent)

Metric = TypeVar("Metric", Counter, Gauge, Histogram)


class Family(Generic[Metric]):
    """A metric with labels; each child is looked up once and kept. Those of the given values start now."""

    def __init__(self, metric: Metric, values: Iterable[tuple[str, ...]]) -> None:
        self._metric: Metric = metric
        self._children: dict[tuple[str, ...], Metric] = {}
        for labels in values:
            self.of(*labels)

    def of(self, *labels: str) -> Metric:
        """The child with these label values, in the order of the declaration."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        return child

    @property
    def children(self) -> Mapping[tuple[str, ...], Metric]:
        """Those that were looked up so far, by their label values."""
        return self._children


class Declarations:
    """Declares metrics in a registry of its own: what is one of a kind in the singular, what has labels in the plural.

    A label comes with its values where they are known here; when all are, the series start: a rate needs a first zero.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def counter(self, name: str, text: str) -> Counter:
        """What only grows."""
        return Counter(name, text, namespace=NAMESPACE, registry=self.registry)

    def counters(self, name: str, text: str, *labels: str, **known: Iterable[str]) -> Family[Counter]:
        """What only grows, apart for each label."""
        counter = Counter(name, text, (*labels, *known), namespace=NAMESPACE, registry=self.registry)
        return Family(counter, () if labels else product(*known.values()))

    def gauge(self, name: str, text: str) -> Gauge:
        """What goes up and down."""
        return Gauge(name, text, namespace=NAMESPACE, registry=self.registry)

    def gauges(self, name: str, text: str, *labels: str, **known: Iterable[str]) -> Family[Gauge]:
        """What goes up and down, apart for each label."""
        gauge = Gauge(name, text, (*labels, *known), namespace=NAMESPACE, registry=self.registry)
        return Family(gauge, () if labels else product(*known.values()))

    def histogram(self, name: str, text: str, *, buckets: tuple[float, ...]) -> Histogram:
        """How long something took."""
        return Histogram(name, text, namespace=NAMESPACE, buckets=buckets, registry=self.registry)

    def histograms(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...], **known: Iterable[str]
    ) -> Family[Histogram]:
        """How long something took, apart for each label."""
        names = (*labels, *known)
        histogram = Histogram(name, text, names, namespace=NAMESPACE, buckets=buckets, registry=self.registry)
        return Family(histogram, () if labels else product(*known.values()))

    def info(self, name: str, text: str, **facts: str) -> None:
        """What stays as it is."""
        Info(name, text, namespace=NAMESPACE, registry=self.registry).info(facts)


def count_of(metric: Counter | Gauge) -> float:
    """What a counter or a gauge shows, be it without labels or a child."""
    return sum(sample.value for family in metric.collect() for sample in family.samples)


def total_of(family: Family[Counter], *values: str) -> float:
    """What all children together have counted; with values, those that have every one of them among their labels."""
    return sum(count_of(child) for labels, child in family.children.items() if set(values) <= set(labels))


class Metrics:
    """Everything that can be scraped."""

    def __init__(self, *, version: str, known_models: Collection[str], settings_digest: str) -> None:
        self.version = version
        self._known_models = frozenset(known_models)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series per child, which nobody reads
        declare = Declarations()
        self.registry = declare.registry
        self._declare_traffic(declare)
        self._declare_providers(declare)
        self._declare_money(declare)
        self._declare_cache(declare)
        self._declare_redis(declare)
        self._declare_events(declare)
        self._declare_access(declare)
        self._declare_process(declare, settings_digest)

    def _declare_traffic(self, declare: Declarations) -> None:
        """Who asks, and how long it takes."""
        self.http_requests = declare.counters(
            "http_requests", "HTTP requests answered; 499 is a caller that left.", "method", "endpoint", "status_code"
        )
        for status in {OK, CALLER_LEFT, *(kind.status for kind in failures())}:  # what alerts are made of
            self.http_requests.of("POST", COMPARISON_ROUTE, str(status))
        self.http_duration = declare.histograms(
            "http_request_duration_seconds", "Time to answer an HTTP request.", "endpoint", buckets=GATEWAY_SECONDS
        )
        self.requests = declare.counters(
            "requests",
            "Comparisons ended, by the provider that answered or failed last; status is success or the error type.",
            "provider",
            "model",
            "request_type",
            "status",
        )
        self.response_duration = declare.histograms(
            "response_duration_seconds",
            "Time to answer a comparison.",
            "provider",
            "model",
            "cached",
            buckets=LLM_SECONDS,
        )
        self.http_in_flight = declare.gauge("http_requests_in_flight", "HTTP requests under way.")
        self.rejects = declare.counters(
            "rejects", "Requests turned away for what they are, before anybody was asked.", reason=RejectReason
        )
        self.shed = declare.counters(
            "shed",
            "Requests turned away for want of room, by the provider whose places were taken, none for our own.",
            provider=(NOBODY, *ProviderName),
            reason=ShedReason,
        )
        self.in_flight = declare.gauge("in_flight_requests", "Comparisons under way.")
        self.admission_queue = declare.gauge("admission_queue_requests", "Comparisons that wait to begin.")
        self.request_memory = declare.gauges(
            "request_memory_bytes", "Memory set apart for large bodies, and for questions.", phase=RequestPhase
        )
        self.coalesced = declare.counter("coalesced_requests", "Comparisons that shared somebody else's purchase.")
        self.queue_wait = declare.histogram(
            "queue_wait_seconds",
            "How long a comparison waited to begin, for the end of a pause and for a place at a provider.",
            buckets=WAIT_SECONDS,
        )
        self.client_disconnects = declare.counters(
            "client_disconnects", "Callers who left before the answer.", phase=RequestPhase
        )

    def _declare_providers(self, declare: Declarations) -> None:
        """The calls to providers, and what stands before them."""
        self.attempts = declare.counters(
            "upstream_attempts", "Calls to a provider, retries among them.", "provider", "model", "outcome"
        )
        self.attempt_duration = declare.histograms(
            "upstream_attempt_duration_seconds", "Time of one call to a provider.", "provider", buckets=LLM_SECONDS
        )
        self.concurrent = declare.gauges(
            "concurrent_requests", "Calls to a provider that are under way.", provider=ProviderName
        )
        self.queued = declare.gauges("queued_requests", "Calls that wait for a place at a provider.", "provider")
        self.circuit_state = declare.gauges(
            "circuit_breaker_state", "0 closed, 1 open, 2 half-open.", provider=ProviderName
        )
        self.circuit_transitions = declare.counters(
            "circuit_breaker_transitions", "Changes of a circuit's state.", provider=ProviderName, to=CircuitState
        )
        self.circuit_held = declare.gauges(
            "circuit_breaker_held",
            "1 while a circuit is held, whatever traffic says: for a refused key, for used-up credit, by an operator.",
            provider=ProviderName,
            reason=HoldReason,
        )
        self.usable = declare.gauges(
            "usable_providers", "1 for a provider that is enabled and configured.", provider=ProviderName
        )
        self.throttle_paused = declare.gauges(
            "throttle_paused_seconds", "Seconds until a throttling provider is called again.", "provider"
        )
        self.retry_budget = declare.gauges(
            "retry_budget_tokens", "Repetitions that a provider may still be burdened with.", "provider"
        )
        self.retries = declare.counters(
            "retries", "Calls to a provider that repeat a failed one.", provider=ProviderName
        )
        self.stale_connections = declare.counter(
            "stale_connection_retries", "Exchanges made once more because a kept connection was closed."
        )

    def _declare_money(self, declare: Declarations) -> None:
        """What was bought, and what may still be."""
        self.tokens = declare.counters(
            "tokens_used",
            "Tokens billed; cached and written ones are part of the prompt, reasoning is part of the completion.",
            "provider",
            "model",
            "token_type",
        )
        self.cost = declare.counters("cost_dollars", "US dollars spent.", "provider", "model")
        self.cost_unknown = declare.counters(
            "cost_unknown", "Purchases whose price is not known.", provider=ProviderName
        )
        self.budget_left = declare.gauges(
            "budget_left_dollars",
            "US dollars that may still be spent, reservations taken off; +Inf without a limit.",
            "period",
        )
        self.budget_left_ratio = declare.gauges(
            "budget_left_ratio",
            "The same as a part of what may be spent here, from 1 to 0; 1 without a limit.",
            "period",
        )
        self.limit_refusals = declare.counters(
            "cost_limit_refusals", "Calls not made for the sake of a limit, or of a price that nobody knows.", "reason"
        )
        self.cost_alerts = declare.counters("cost_alerts", "Alerts sent by this replica.", alert_type=CostAlertType)

    def _declare_cache(self, declare: Declarations) -> None:
        """Known answers, here and in Redis."""
        self.cache_hits = declare.counter("cache_hits", "Answers that were known.")
        self.cache_misses = declare.counter("cache_misses", "Look-ups of answers that were not known.")
        self.cache_saved = declare.counter(
            "cache_saved_dollars", "US dollars that hits would have cost; a hit of unknown price counts nothing."
        )
        self.cache_lookups = declare.counters(
            "cache_tier_lookups",
            "Look-ups in one tier of the cache; unavailable is one that could not be made.",
            "tier",
            "result",
        )
        self.cache_stores = declare.counters(
            "cache_tier_stores",
            "Answers given to one tier of the cache; dropped when too many were waiting, skipped while it is away.",
            "tier",
            "result",
        )
        self.cache_entries = declare.gauge("cache_entries", "Answers kept locally.")
        self.cache_bytes = declare.gauge("cache_size_bytes", "Bytes kept locally.")
        self.cache_evictions = declare.counter("cache_evictions", "Answers that had to make room locally.")
        self.cache_corrupt = declare.counters(
            "cache_corrupt", "Entries in Redis that were none; each was removed.", "flaw"
        )
        self.cache_writes_behind = declare.gauge("cache_writes_behind", "Writes to Redis that are under way.")

    def _declare_redis(self, declare: Declarations) -> None:
        """What replicas share."""
        self.redis_up = declare.gauge("redis_up", "Whether Redis answers, as far as known; 0 without one, too.")
        self.redis_mode = declare.gauge("redis_mode", "0 up, 1 read only, 2 down: only local answers.")
        self.redis_transitions = declare.counters("redis_transitions", "Changes of mode.", "mode")
        self.redis_failures = declare.counters("redis_failures", "Commands that failed.", "fault")
        self.redis_command_duration = declare.histograms(
            "redis_command_duration_seconds",
            "Time of one exchange with Redis, waiting for a connection included.",
            "access",
            buckets=REDIS_SECONDS,
        )

    def _declare_events(self, declare: Declarations) -> None:
        """The way to Kafka."""
        self.events = declare.counters("events", "Events taken for publishing.", event_type=ProcessingEvent)
        self.events_restored = declare.counter("events_restored", "Events that an earlier process left in the spool.")
        self.events_delivered = declare.counters("events_delivered", "Events that Kafka took.", topic=TOPICS)
        self.events_dropped = declare.counters(
            "events_dropped", "Events given up.", topic=TOPICS, reason=EventDropReason
        )
        self.events_lost_at_exit = declare.counter(
            "events_lost_at_exit", "Events that were not acknowledged when the service ended, and are in no spool."
        )
        self.events_queue_depth = declare.gauge(
            "events_queue_depth", "Events that are not yet acknowledged, those under way among them."
        )
        self.events_queue_bytes = declare.gauge("events_queue_size_bytes", "Estimated bytes of these events.")
        self.events_oldest = declare.gauge(
            "events_queue_oldest_seconds", "Age of the oldest event that waits to be sent."
        )
        self.event_spool_failures = declare.counter(
            "event_spool_failures", "Times that the spool could not be written; its events are in memory only."
        )
        self.kafka_up = declare.gauge("kafka_up", "Whether Kafka takes events, as far as known; 0 without one, too.")
        self.kafka_circuit_transitions = declare.counters(
            "kafka_circuit_transitions",
            "Changes of the circuit in front of Kafka, by its new state.",
            state=CircuitState,
        )

    def _declare_access(self, declare: Declarations) -> None:
        """Who asks, by the names of the keys; nobody else gets a label."""
        self.caller_requests = declare.counters(
            "caller_requests",
            "Requests of a caller; status is success, refused (4xx), failed (5xx) or left.",
            "caller",
            "status",
        )
        self.caller_tokens = declare.counters(
            "caller_tokens_used", "Tokens billed for what a caller asked.", "caller", "token_type"
        )
        self.caller_cost = declare.counters(
            "caller_cost_dollars",
            "US dollars spent for what a caller asked; a purchase of unknown price counts nothing.",
            "caller",
        )
        self.access_refusals = declare.counters(
            "access_refusals",
            "Requests without the key that they needed, or from where it is not taken.",
            door=Door,
            reason=AccessRefusal,
        )
        self.caller_key_reloads = declare.counters(
            "caller_key_reloads",
            "Times that the file of the callers' keys had changed, taken or refused.",
            result=("taken", "refused"),
        )

    def _declare_process(self, declare: Declarations, settings_digest: str) -> None:
        """The process itself."""
        ProcessCollector(namespace=NAMESPACE, registry=declare.registry)  # memory, open files, processor time
        self.log_dropped = declare.counter("log_dropped", "Lines of the log that could not be written.")
        self.background_task_up = declare.gauges(
            "background_task_up", "Whether one of the service's own tasks runs.", "task"
        )
        self.background_task_deaths = declare.counters(
            "background_task_deaths",
            "Times that one of the service's own tasks died and had to be started again.",
            "task",
        )
        self.degraded_mode = declare.gauges(
            "degraded_mode",
            "1 while the service serves in this mode; the runbook has a paragraph on each.",
            mode=DegradedMode,
        )
        self.loop_lag = declare.histogram(
            "event_loop_lag_seconds", "How late the event loop runs what is due.", buckets=LAG_SECONDS
        )
        self.config_reload_errors = declare.counters(
            "config_reload_errors",
            "Changes of settings that were refused (request), and stored ones that were left out (stored).",
            source=(REQUEST, STORED),
        )
        declare.info("build", "What is running.", version=self.version)
        declare.info(
            "config",
            "A digest of the environment's settings without the secrets; replicas agree.",
            digest=settings_digest,
        )

    def circuit_changed(self, provider: ProviderName, state: CircuitState) -> None:
        """A circuit changed its state."""
        self.circuit_state.of(provider).set(CIRCUIT_STATES.index(state))
        self.circuit_transitions.of(provider, state).inc()

    def model_label(self, model: str) -> str:
        """The model, or `other` when it is not one we know."""
        return model if model in self._known_models else OTHER_MODEL

    def http_request_ended(self, *, method: str, endpoint: str, status: int, elapsed_s: float) -> None:
        """Count one HTTP request; method and endpoint must come from closed sets."""
        self.http_requests.of(method, endpoint, str(status)).inc()
        self.http_duration.of(endpoint).observe(elapsed_s)

    def turned_away(self, failure: ServiceError) -> None:
        """Count who got no answer for what he sent, or for want of room; other failures are counted elsewhere."""
        if failure.rejection is not None:
            self.rejects.of(failure.rejection).inc()
        if failure.shed is not None:
            self.shed.of(failure.provider or NOBODY, failure.shed).inc()

    def comparison_ended(
        self,
        *,
        provider: ProviderName | None,
        model: str | None,
        error: ErrorCode | None,
        cache_outcome: CacheOutcome | None,
        elapsed_s: float,
        queued_s: float,
    ) -> None:
        """Count one comparison; provider and model are None when nobody was chosen."""
        name, known = provider or NOBODY, self.model_label(model) if model else NOBODY
        self.queue_wait.observe(queued_s)
        self.requests.of(name, known, "comparison", error.lower() if error else SUCCESS).inc()
        if error is None:
            cached = "true" if cache_outcome is CacheOutcome.HIT else "false"
            self.response_duration.of(name, known, cached).observe(elapsed_s)
        if cache_outcome is CacheOutcome.COALESCED:
            self.coalesced.inc()

    def attempt_ended(self, *, provider: ProviderName, model: str, outcome: AttemptOutcome, elapsed_s: float) -> None:
        """One call ended."""
        self.attempts.of(provider, self.model_label(model), outcome).inc()
        self.attempt_duration.of(provider).observe(elapsed_s)

    def purchased(self, *, provider: ProviderName, model: str, usage: Usage, cost_usd: float | None) -> None:
        """Count what a purchase used and cost, in US dollars; None when the price is unknown. model: as asked for."""
        known = self.model_label(model)
        counts = {
            "prompt": usage.prompt,
            "completion": usage.completion,
            "cached_prompt": usage.cached,
            "cache_write": usage.written,
            "reasoning": usage.reasoning,
        }
        for token_type, count in counts.items():
            tokens = self.tokens.of(provider, known, token_type)
            if count:
                tokens.inc(count)
        if cost_usd is None:
            self.cost_unknown.of(provider).inc()
        else:
            self.cost.of(provider, known).inc(cost_usd)

    def introduce_callers(self, names: Iterable[str]) -> None:
        """From now on these ask: their series begin at zero."""
        for name in names:
            self.caller_cost.of(name)
            for token_type in CALLER_TOKENS:
                self.caller_tokens.of(name, token_type)
            for outcome in CallerOutcome:
                self.caller_requests.of(name, outcome)

    def caller_purchased(self, told: CostTracked) -> None:
        """Book a purchase on whom it was made for."""
        counts = (told.token_usage.prompt_tokens, told.token_usage.completion_tokens)
        for token_type, count in zip(CALLER_TOKENS, counts, strict=True):
            self.caller_tokens.of(told.caller, token_type).inc(count)
        self.caller_cost.of(told.caller).inc(told.cost_estimate_usd or 0.0)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All series as text and its content type: OpenMetrics when the Accept header asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
