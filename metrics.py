"""The Prometheus metrics as one object that owns its registry.

Labels are closed sets: providers, outcomes and routes by definition, models by the set given at the start
(any other is `other`). Children are looked up once and kept.
"""

from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from api_models import (
    AttemptOutcome,
    CacheOutcome,
    CircuitState,
    CostAlertType,
    ErrorCode,
    EventDropReason,
    ProcessingEvent,
    ProviderName,
    Usage,
)

LLM_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120)
GATEWAY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
REDIS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5)
OTHER_MODEL = "other"
SUCCESS = "success"
CIRCUIT_STATES = (CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN)  # by the value that is published


Metric = TypeVar("Metric", Counter, Gauge, Histogram)


class Family(Generic[Metric]):
    """A metric with labels; each child is looked up once and kept."""

    def __init__(self, metric: Metric) -> None:
        self._metric: Metric = metric
        self._children: dict[tuple[str, ...], Metric] = {}

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


def count_of(metric: Counter | Gauge) -> float:
    """What a counter or a gauge shows, be it without labels or a child."""
    return sum(sample.value for family in metric.collect() for sample in family.samples)


def total_of(family: Family[Counter], *values: str) -> float:
    """What all children together have counted; with values, those that have every one of them among their labels."""
    return sum(count_of(child) for labels, child in family.children.items() if set(values) <= set(labels))


class Metrics:
    """Everything that can be scraped."""

    def __init__(self, *, version: str, known_models: Collection[str]) -> None:
        self.version = version
        self._known_models = frozenset(known_models)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series per child, which nobody reads
        self.registry = CollectorRegistry()
        self.http_requests = Family(
            Counter(
                "llm_provider_http_requests",
                "HTTP requests answered; 499 is a caller that left.",
                ("method", "endpoint", "status_code"),
                registry=self.registry,
            )
        )
        self.http_duration = Family(
            Histogram(
                "llm_provider_http_request_duration_seconds",
                "Time to answer an HTTP request.",
                ("endpoint",),
                buckets=GATEWAY_SECONDS,
                registry=self.registry,
            )
        )
        self.requests = Family(
            Counter(
                "llm_provider_requests",
                "Comparisons ended, by the provider that answered or failed last; status is success or the error type.",
                ("provider", "model", "request_type", "status"),
                registry=self.registry,
            )
        )
        self.response_duration = Family(
            Histogram(
                "llm_provider_response_duration_seconds",
                "Time to answer a comparison.",
                ("provider", "model", "cached"),
                buckets=LLM_SECONDS,
                registry=self.registry,
            )
        )
        self.attempts = Family(
            Counter(
                "llm_provider_upstream_attempts",
                "Calls to a provider, retries among them.",
                ("provider", "model", "outcome"),
                registry=self.registry,
            )
        )
        self.attempt_duration = Family(
            Histogram(
                "llm_provider_upstream_attempt_duration_seconds",
                "Time of one call to a provider.",
                ("provider",),
                buckets=LLM_SECONDS,
                registry=self.registry,
            )
        )
        self.tokens = Family(
            Counter(
                "llm_provider_tokens_used",
                "Tokens billed; cached and written ones are part of the prompt, reasoning is part of the completion.",
                ("provider", "model", "token_type"),
                registry=self.registry,
            )
        )
        self.cost = Family(
            Counter(
                "llm_provider_cost_dollars",
                "US dollars spent.",
                ("provider", "model"),
                registry=self.registry,
            )
        )
        self.cost_unknown = Family(
            Counter(
                "llm_provider_cost_unknown",
                "Purchases whose price is not known.",
                ("provider",),
                registry=self.registry,
            )
        )
        self.concurrent = Family(
            Gauge(
                "llm_provider_concurrent_requests",
                "Calls to a provider that are under way.",
                ("provider",),
                registry=self.registry,
            )
        )
        self.circuit_state = Family(
            Gauge(
                "llm_provider_circuit_breaker_state",
                "0 closed, 1 open, 2 half-open.",
                ("provider",),
                registry=self.registry,
            )
        )
        self.circuit_transitions = Family(
            Counter(
                "llm_provider_circuit_breaker_transitions",
                "Changes of a circuit's state.",
                ("provider", "to"),
                registry=self.registry,
            )
        )
        self.throttle_paused = Family(
            Gauge(
                "llm_provider_throttle_paused_seconds",
                "Seconds until a throttling provider is called again.",
                ("provider",),
                registry=self.registry,
            )
        )
        self.retry_budget = Family(
            Gauge(
                "llm_provider_retry_budget_tokens",
                "Repetitions that a provider may still be burdened with.",
                ("provider",),
                registry=self.registry,
            )
        )
        self.queued = Family(
            Gauge(
                "llm_provider_queued_requests",
                "Calls that wait for a place at a provider.",
                ("provider",),
                registry=self.registry,
            )
        )
        self.stale_connections = Counter(
            "llm_provider_stale_connection_retries",
            "Exchanges made once more because a kept connection was closed.",
            registry=self.registry,
        )
        self.in_flight = Gauge("llm_provider_in_flight_requests", "Comparisons under way.", registry=self.registry)
        self.admission_queue = Gauge(
            "llm_provider_admission_queue_requests", "Comparisons that wait to begin.", registry=self.registry
        )
        self.cache_hits = Counter("llm_provider_cache_hits", "Answers that were known.", registry=self.registry)
        self.cache_misses = Counter(
            "llm_provider_cache_misses", "Look-ups of answers that were not known.", registry=self.registry
        )
        self.cache_lookups = Family(
            Counter(
                "llm_provider_cache_tier_lookups",
                "Look-ups in one tier of the cache; unavailable is one that could not be made.",
                ("tier", "result"),
                registry=self.registry,
            )
        )
        self.cache_stores = Family(
            Counter(
                "llm_provider_cache_tier_stores",
                "Answers given to one tier of the cache; dropped when too many were waiting, skipped while it is away.",
                ("tier", "result"),
                registry=self.registry,
            )
        )
        self.cache_evictions = Counter(
            "llm_provider_cache_evictions", "Answers that had to make room locally.", registry=self.registry
        )
        self.cache_corrupt = Family(
            Counter(
                "llm_provider_cache_corrupt",
                "Entries in Redis that were none; each was removed.",
                ("flaw",),
                registry=self.registry,
            )
        )
        self.cache_saved = Counter(
            "llm_provider_cache_saved_dollars",
            "US dollars that hits would have cost; a hit of unknown price counts nothing.",
            registry=self.registry,
        )
        self.budget_left = Family(
            Gauge(
                "llm_provider_budget_left_dollars",
                "US dollars that may still be spent, reservations taken off; +Inf without a limit.",
                ("period",),
                registry=self.registry,
            )
        )
        self.budget_local = Gauge(
            "llm_provider_budget_local",
            "1 while Redis is away and each replica keeps to its part of the limits.",
            registry=self.registry,
        )
        self.limit_refusals = Family(
            Counter(
                "llm_provider_cost_limit_refusals",
                "Calls not made for the sake of a limit, or of a price that nobody knows.",
                ("reason",),
                registry=self.registry,
            )
        )
        self.cost_alerts = Family(
            Counter("llm_provider_cost_alerts", "Alerts sent by this replica.", ("alert_type",), registry=self.registry)
        )
        self.cache_writes_behind = Gauge(
            "llm_provider_cache_writes_behind", "Writes to Redis that are under way.", registry=self.registry
        )
        self.redis_mode = Gauge(
            "llm_provider_redis_mode", "0 up, 1 read only, 2 down: only local answers.", registry=self.registry
        )
        self.redis_transitions = Family(
            Counter("llm_provider_redis_transitions", "Changes of mode.", ("mode",), registry=self.registry)
        )
        self.redis_failures = Family(
            Counter("llm_provider_redis_failures", "Commands that failed.", ("fault",), registry=self.registry)
        )
        self.redis_command_duration = Family(
            Histogram(
                "llm_provider_redis_command_duration_seconds",
                "Time of one exchange with Redis, waiting for a connection included.",
                ("access",),
                buckets=REDIS_SECONDS,
                registry=self.registry,
            )
        )
        self.cache_entries = Gauge("llm_provider_cache_entries", "Answers kept locally.", registry=self.registry)
        self.cache_bytes = Gauge("llm_provider_cache_size_bytes", "Bytes kept locally.", registry=self.registry)
        self.coalesced = Counter(
            "llm_provider_coalesced_requests",
            "Comparisons that shared somebody else's purchase.",
            registry=self.registry,
        )
        self.client_disconnects = Counter(
            "llm_provider_client_disconnects", "Callers who left before the answer.", registry=self.registry
        )
        self._declare_events()
        self.background_task_up = Family(
            Gauge(
                "llm_provider_background_task_up",
                "Whether one of the service's own tasks runs.",
                ("task",),
                registry=self.registry,
            )
        )
        build = Info("llm_provider_build", "What is running.", registry=self.registry)
        build.info({"version": version})
        self._initialise()

    def _declare_events(self) -> None:
        """The way to Kafka."""
        self.events = Family(
            Counter("llm_provider_events", "Events taken for publishing.", ("event_type",), registry=self.registry)
        )
        self.events_restored = Counter(
            "llm_provider_events_restored",
            "Events that an earlier process left in the spool.",
            registry=self.registry,
        )
        self.events_delivered = Family(
            Counter("llm_provider_events_delivered", "Events that Kafka took.", ("topic",), registry=self.registry)
        )
        self.events_dropped = Family(
            Counter("llm_provider_events_dropped", "Events given up.", ("topic", "reason"), registry=self.registry)
        )
        self.events_lost_at_exit = Counter(
            "llm_provider_events_lost_at_exit",
            "Events that were not acknowledged when the service ended, and are in no spool.",
            registry=self.registry,
        )
        self.events_queue_depth = Gauge(
            "llm_provider_events_queue_depth",
            "Events that are not yet acknowledged, those under way among them.",
            registry=self.registry,
        )
        self.events_queue_bytes = Gauge(
            "llm_provider_events_queue_size_bytes", "Estimated bytes of these events.", registry=self.registry
        )
        self.events_oldest = Gauge(
            "llm_provider_events_queue_oldest_seconds",
            "Age of the oldest event that waits to be sent.",
            registry=self.registry,
        )
        self.event_spool_failures = Counter(
            "llm_provider_event_spool_failures",
            "Times that the spool could not be written; its events are in memory only.",
            registry=self.registry,
        )
        self.kafka_up = Gauge(
            "llm_provider_kafka_up", "Whether Kafka takes events, as far as known.", registry=self.registry
        )
        self.kafka_circuit_transitions = Family(
            Counter(
                "llm_provider_kafka_circuit_transitions",
                "Changes of the circuit in front of Kafka, by its new state.",
                ("state",),
                registry=self.registry,
            )
        )

    def _initialise(self) -> None:
        """Rates need a first zero: every series whose labels are known beforehand starts now."""
        for event in ProcessingEvent:
            self.events.of(event)
            self.events_delivered.of(event.topic)
            for reason in EventDropReason:
                self.events_dropped.of(event.topic, reason)
        for state in CircuitState:
            self.kafka_circuit_transitions.of(state)
        for alert in CostAlertType:
            self.cost_alerts.of(alert)
        for provider in ProviderName:
            self.concurrent.of(provider)
            self.cost_unknown.of(provider)
            self.circuit_state.of(provider)
            for state in CircuitState:
                self.circuit_transitions.of(provider, state)

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

    def comparison_ended(
        self,
        *,
        provider: ProviderName | None,
        model: str | None,
        error: ErrorCode | None,
        cache_outcome: CacheOutcome | None,
        elapsed_s: float,
    ) -> None:
        """Count one comparison; provider and model are None when nobody was chosen."""
        name, known = provider or "none", self.model_label(model) if model else "none"
        self.requests.of(name, known, "comparison", error.lower() if error else SUCCESS).inc()
        if error is None:
            cached = "true" if cache_outcome is CacheOutcome.HIT else "false"
            self.response_duration.of(name, known, cached).observe(elapsed_s)
        if cache_outcome is CacheOutcome.COALESCED:
            self.coalesced.inc()

    def attempt_started(self, provider: ProviderName) -> None:
        """One more call is under way."""
        self.concurrent.of(provider).inc()

    def attempt_ended(self, *, provider: ProviderName, model: str, outcome: AttemptOutcome, elapsed_s: float) -> None:
        """One call ended."""
        self.concurrent.of(provider).dec()
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
            self.tokens.of(provider, known, token_type).inc(count)
        if cost_usd is None:
            self.cost_unknown.of(provider).inc()
        else:
            self.cost.of(provider, known).inc(cost_usd)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All series as text and its content type: OpenMetrics when the Accept header asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
