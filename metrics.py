"""The Prometheus metrics as one object that owns its registry.

Labels are closed sets: providers, outcomes and routes by definition, models by the names that we or the operator gave
(any other is `other`, in the ledger too). Children are looked up once and kept. Names are written without the prefix
`llm_provider_`.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import product
from typing import Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from api_models import (
    REQUEST_TYPE,
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
    Winner,
)
from exceptions import ServiceError, failures

NAMESPACE = "llm_provider"
LLM_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120)
ANSWER_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, *LLM_SECONDS)  # a cache hit takes milliseconds
GATEWAY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
REDIS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5)
WAIT_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
OPEN_METRICS = "application/openmetrics-text"
OTHER_MODEL = "other"
NOBODY = "none"
COMPARISON_ROUTE = "/api/v1/comparison"
OK, CALLER_LEFT = 200, 499
SUCCESS = "success"
REQUEST, STORED = "request", "stored"  # the source of a change of settings
SETTINGS, CIRCUITS = "settings", "circuits"  # what an administrator's changes are stored as
CIRCUIT_STATES = (CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN)  # in the order of the exported values
CALLER_TOKENS = ("prompt", "completion")
TOKEN_TYPES = (*CALLER_TOKENS, "cached_prompt", "cache_write", "reasoning")
PERIODS = ("day", "month")  # of the cost limits
UNKNOWN_PRICE = "unknown_price"
TIERS = LOCAL, REDIS = "local", "redis"  # of the cache
TOPICS = tuple(event.topic for event in ProcessingEvent)

Metric = TypeVar("Metric", Counter, Gauge, Histogram)


class Family(Generic[Metric]):
    """A metric with labels; each child is looked up once and kept. The series of the given values start now."""

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
        """The children looked up so far, by label values."""
        return self._children


class Declarations:
    """Declares metrics in its own registry: methods in the singular without labels, in the plural with labels.

    A label comes with its values where they are known; when all are, the series start at zero, which `rate` needs.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def counter(self, name: str, text: str) -> Counter:
        """A counter."""
        return Counter(name, text, namespace=NAMESPACE, registry=self.registry)

    def counters(self, name: str, text: str, *labels: str, **known: Iterable[str]) -> Family[Counter]:
        """A counter with labels."""
        counter = Counter(name, text, (*labels, *known), namespace=NAMESPACE, registry=self.registry)
        return Family(counter, () if labels else product(*known.values()))

    def gauge(self, name: str, text: str) -> Gauge:
        """A gauge."""
        return Gauge(name, text, namespace=NAMESPACE, registry=self.registry)

    def gauges(self, name: str, text: str, *labels: str, **known: Iterable[str]) -> Family[Gauge]:
        """A gauge with labels."""
        gauge = Gauge(name, text, (*labels, *known), namespace=NAMESPACE, registry=self.registry)
        return Family(gauge, () if labels else product(*known.values()))

    def histogram(self, name: str, text: str, *, buckets: tuple[float, ...]) -> Histogram:
        """A histogram of durations."""
        return Histogram(name, text, namespace=NAMESPACE, buckets=buckets, registry=self.registry)

    def histograms(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...], **known: Iterable[str]
    ) -> Family[Histogram]:
        """A histogram of durations with labels."""
        names = (*labels, *known)
        histogram = Histogram(name, text, names, namespace=NAMESPACE, buckets=buckets, registry=self.registry)
        return Family(histogram, () if labels else product(*known.values()))


def count_of(metric: Counter | Gauge) -> float:
    """The value of a counter or gauge without labels, or of a child."""
    return sum(sample.value for family in metric.collect() for sample in family.samples)


def total_of(family: Family[Counter], *values: str) -> float:
    """The sum over all children or, given values, over those with all of them among their labels."""
    return sum(count_of(child) for labels, child in family.children.items() if set(values) <= set(labels))


class Metrics:
    """All metrics that can be scraped."""

    def __init__(self, *, version: str, known_models: Collection[str], settings_digest: str) -> None:
        self._known_models = set(known_models)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series per child, unused
        declare = Declarations()
        self.registry = declare.registry
        self._declare_traffic(declare)
        self._declare_providers(declare)
        self._declare_money(declare)
        self._declare_cache(declare)
        self._declare_redis(declare)
        self._declare_events(declare)
        self._declare_access(declare)
        self._declare_process(declare, version, settings_digest)

    def _declare_traffic(self, declare: Declarations) -> None:
        """Requests and their durations."""
        self.http_requests = declare.counters(
            "http_requests", "HTTP requests answered; 499: the caller left.", "method", "endpoint", "status_code"
        )
        for status in {OK, CALLER_LEFT, *(kind.status for kind in failures())}:  # alerts use them
            self.http_requests.of("POST", COMPARISON_ROUTE, str(status))
        self.http_duration = declare.histograms(
            "http_request_duration_seconds", "Time to answer an HTTP request.", "endpoint", buckets=GATEWAY_SECONDS
        )
        self.requests = declare.counters(
            "requests",
            "Comparisons ended, by the provider that answered or failed last; status: success or the error type.",
            "provider",
            "model",
            "request_type",
            "status",
        )
        for name, code in product((NOBODY, *ProviderName), ErrorCode):
            self.requests.of(name, NOBODY, REQUEST_TYPE, code.lower())
        self.response_duration = declare.histograms(
            "response_duration_seconds",
            "Time to answer a comparison.",
            "provider",
            "model",
            "cached",
            buckets=ANSWER_SECONDS,
        )
        self.http_in_flight = declare.gauge("http_requests_in_flight", "HTTP requests in progress.")
        self.rejects = declare.counters(
            "rejects", "Requests rejected as the caller's mistake, before any provider was asked.", reason=RejectReason
        )
        self.shed = declare.counters(
            "shed",
            "Requests shed for lack of capacity, by the saturated provider; none: the service itself.",
            provider=(NOBODY, *ProviderName),
            reason=ShedReason,
        )
        self.in_flight = declare.gauge("in_flight_requests", "Comparisons in progress.")
        self.admission_queue = declare.gauge("admission_queue_requests", "Comparisons queued for admission.")
        self.request_memory = declare.gauges(
            "request_memory_bytes", "Memory reserved for large bodies and for queries.", phase=RequestPhase
        )
        self.coalesced = declare.counter("coalesced_requests", "Comparisons answered by another request's purchase.")
        self.queue_wait = declare.histogram(
            "queue_wait_seconds",
            "Time a comparison waited for admission, for the end of a throttling pause and for a slot at a provider.",
            buckets=WAIT_SECONDS,
        )
        self.client_disconnects = declare.counters(
            "client_disconnects", "Callers who disconnected before the response.", phase=RequestPhase
        )

    def _declare_providers(self, declare: Declarations) -> None:
        """Calls to providers, and the policies before them."""
        self.attempts = declare.counters(
            "upstream_attempts", "Calls to a provider, retries included.", "provider", "model", "outcome"
        )
        self.attempt_duration = declare.histograms(
            "upstream_attempt_duration_seconds", "Duration of one call to a provider.", "provider", buckets=LLM_SECONDS
        )
        self.verdicts = declare.counters(
            "verdicts", "Verdicts bought for a comparison, by the essay they prefer.", "provider", "model", "winner"
        )
        self.concurrent = declare.gauges(
            "concurrent_requests", "Calls to a provider in progress.", provider=ProviderName
        )
        self.queued = declare.gauges("queued_requests", "Calls queued for a slot at a provider.", "provider")
        self.circuit_state = declare.gauges(
            "circuit_breaker_state", "0 closed, 1 open, 2 half-open.", provider=ProviderName
        )
        self.circuit_transitions = declare.counters(
            "circuit_breaker_transitions", "State changes of a circuit.", provider=ProviderName, to=CircuitState
        )
        self.circuit_held = declare.gauges(
            "circuit_breaker_held",
            "1 while a circuit is held regardless of traffic: refused key, exhausted credit or operator.",
            provider=ProviderName,
            reason=HoldReason,
        )
        self.usable = declare.gauges(
            "usable_providers", "1 for a provider that is enabled and configured.", provider=ProviderName
        )
        self.throttle_paused = declare.gauges(
            "throttle_paused_seconds", "Seconds until a rate-limiting provider is called again.", "provider"
        )
        self.retry_budget = declare.gauges(
            "retry_budget_tokens", "Retries left in a provider's retry budget.", "provider"
        )
        self.retries = declare.counters(
            "retries", "Calls to a provider that retry a failed one.", provider=ProviderName
        )
        self.stale_connections = declare.counter(
            "stale_connection_retries", "Exchanges repeated because a pooled connection was dead."
        )

    def _declare_money(self, declare: Declarations) -> None:
        """Purchases and budgets."""
        self.tokens = declare.counters(
            "tokens_used",
            "Tokens billed; cached and written ones are included in prompt, reasoning in completion.",
            "provider",
            "model",
            "token_type",
        )
        self.cost = declare.counters("cost_dollars", "US dollars spent.", "provider", "model")
        self.cost_unknown = declare.counters("cost_unknown", "Purchases of unknown price.", provider=ProviderName)
        self.budget_left = declare.gauges(
            "budget_left_dollars",
            "US dollars left to spend, net of reservations; +Inf without a limit.",
            "period",
        )
        self.budget_left_ratio = declare.gauges(
            "budget_left_ratio",
            "Share left of the limit, or of this replica's part of it while Redis is away; 1 without a limit.",
            "period",
        )
        self.limit_refusals = declare.counters(
            "cost_limit_refusals",
            "Calls refused because of a cost limit or an unknown price.",
            reason=(*PERIODS, UNKNOWN_PRICE),
        )
        self.cost_alerts = declare.counters("cost_alerts", "Alerts sent by this replica.", alert_type=CostAlertType)

    def _declare_cache(self, declare: Declarations) -> None:
        """The answer cache, local and in Redis."""
        self.cache_hits = declare.counter("cache_hits", "Answers served from the cache.")
        self.cache_misses = declare.counter("cache_misses", "Look-ups that missed in every tier.")
        self.cache_saved = declare.counter(
            "cache_saved_dollars", "US dollars that hits would have cost; a hit of unknown price counts nothing."
        )
        self.cache_lookups = declare.counters(
            "cache_tier_lookups",
            "Look-ups in one cache tier; unavailable: the tier could not be asked.",
            tier=TIERS,
            result=("hit", "miss", "unavailable"),
        )
        self.cache_stores = declare.counters(
            "cache_tier_stores",
            "Answers sent to one cache tier; dropped: too many writes pending, skipped: the tier is away.",
            tier=TIERS,
            result=("stored", "failed", "dropped", "skipped", "oversized"),
        )
        self.cache_entries = declare.gauge("cache_entries", "Answers in the local cache.")
        self.cache_bytes = declare.gauge("cache_size_bytes", "Bytes in the local cache.")
        self.cache_evictions = declare.counter("cache_evictions", "Answers evicted from the local cache to make room.")
        self.cache_corrupt = declare.counters(
            "cache_corrupt", "Corrupt entries found in Redis, which are removed while it takes writes.", "flaw"
        )
        self.cache_writes_behind = declare.gauge("cache_writes_behind", "Writes to Redis in progress.")

    def _declare_redis(self, declare: Declarations) -> None:
        """The state shared by the replicas."""
        self.redis_up = declare.gauge("redis_up", "Whether Redis answers, as far as known; 0 if not configured.")
        self.redis_mode = declare.gauge("redis_mode", "0 up, 1 read-only, 2 down: local cache only.")
        self.redis_transitions = declare.counters("redis_transitions", "Changes of mode, by the new mode.", "mode")
        self.redis_failures = declare.counters("redis_failures", "Redis commands that failed.", "fault")
        self.redis_witnesses_failing = declare.gauges(
            "redis_witnesses_failing",
            "Sentinels or Cluster nodes of REDIS_URL that, last asked, did not say where the primary is.",
            "fault",
        )
        self.redis_command_duration = declare.histograms(
            "redis_command_duration_seconds",
            "Duration of one exchange with Redis, including the wait for a connection.",
            "access",
            buckets=REDIS_SECONDS,
        )

    def _declare_events(self, declare: Declarations) -> None:
        """Event delivery to Kafka."""
        self.events = declare.counters("events", "Events accepted for publishing.", event_type=ProcessingEvent)
        self.events_restored = declare.counter("events_restored", "Events restored from an earlier process's spool.")
        self.events_delivered = declare.counters("events_delivered", "Events acknowledged by Kafka.", topic=TOPICS)
        self.events_dropped = declare.counters(
            "events_dropped", "Events dropped.", topic=TOPICS, reason=EventDropReason
        )
        self.events_lost_at_exit = declare.counter(
            "events_lost_at_exit", "Events neither acknowledged nor spooled when the service ended."
        )
        self.events_queue_depth = declare.gauge(
            "events_queue_depth", "Events not yet acknowledged, including those being sent."
        )
        self.events_queue_bytes = declare.gauge("events_queue_size_bytes", "Estimated bytes of these events.")
        self.events_oldest = declare.gauge("events_queue_oldest_seconds", "Age of the oldest of these events.")
        self.event_spool_failures = declare.counter(
            "event_spool_failures", "Failed writes to the spool; their events are in memory only until one succeeds."
        )
        self.events_unreadable = declare.gauge(
            "events_unreadable", "Events of an earlier process that this one cannot read; they stay in the spool."
        )
        self.kafka_up = declare.gauge("kafka_up", "Whether Kafka accepts events, as far as known; 0 if not configured.")
        self.kafka_circuit_transitions = declare.counters(
            "kafka_circuit_transitions",
            "State changes of Kafka's circuit, by the new state.",
            state=CircuitState,
        )

    def _declare_access(self, declare: Declarations) -> None:
        """Requests and costs by caller; only the names of keys become labels."""
        self.caller_requests = declare.counters(
            "caller_requests",
            "Requests of a caller; status: success, refused (4xx), failed (5xx) or left (disconnected).",
            "caller",
            "status",
        )
        self.caller_tokens = declare.counters(
            "caller_tokens_used", "Tokens billed for a caller's requests.", "caller", "token_type"
        )
        self.caller_cost = declare.counters(
            "caller_cost_dollars",
            "US dollars spent on a caller's requests; a purchase of unknown price adds nothing.",
            "caller",
        )
        self.access_refusals = declare.counters(
            "access_refusals",
            "Requests denied for a missing or wrong key, or for their address.",
            door=Door,
            reason=AccessRefusal,
        )
        self.caller_key_reloads = declare.counters(
            "caller_key_reloads",
            "Reloads of the changed file of caller keys, by result.",
            result=("taken", "refused"),
        )
        self.caller_keys_refused = declare.gauge(
            "caller_keys_refused", "1 while the file of caller keys is refused and earlier keys stay in force."
        )

    def _declare_process(self, declare: Declarations, version: str, settings_digest: str) -> None:
        """The process itself."""
        ProcessCollector(namespace=NAMESPACE, registry=declare.registry)  # memory, open files, processor time
        self.log_dropped = declare.counter("log_dropped", "Log lines that could not be written.")
        self.background_task_up = declare.gauges("background_task_up", "Whether a background task is running.", "task")
        self.background_task_deaths = declare.counters(
            "background_task_deaths",
            "Times that a background task died and had to be restarted.",
            "task",
        )
        self.degraded_mode = declare.gauges(
            "degraded_mode",
            "1 while the service is in this mode; the runbook covers each.",
            mode=DegradedMode,
        )
        self.loop_lag = declare.histogram(
            "event_loop_lag_seconds", "Delay of the event loop in running due callbacks.", buckets=LAG_SECONDS
        )
        self.config_reload_errors = declare.counters(
            "config_reload_errors",
            "Changes of settings refused (request), and stored ones ignored (stored).",
            source=(REQUEST, STORED),
        )
        self.stored_left_out = declare.gauges(
            "stored_values_left_out",
            "Values stored by an administrator that are invalid here, and ignored.",
            what=(SETTINGS, CIRCUITS),
        )
        # Gauges: what OpenMetrics calls an info, an OpenTelemetry collector passes on without its suffix.
        declare.gauges("build_info", "What is running.", "version").of(version).set(1)
        declare.gauges(
            "config_info",
            "Digest of the environment's settings without secrets, revision, address and spool; equal on all replicas.",
            "digest",
        ).of(settings_digest).set(1)

    def circuit_changed(self, provider: ProviderName, state: CircuitState) -> None:
        """Record the new state of a circuit."""
        self.circuit_state.of(provider).set(CIRCUIT_STATES.index(state))
        self.circuit_transitions.of(provider, state).inc()

    def introduce_models(self, names: Iterable[str], *, defaults: Mapping[ProviderName, str]) -> None:
        """Keep these models apart from now on; never names that a caller chose.

        The series of the defaults start at zero: `rate` would miss the first answers and purchases after each start.
        """
        self._known_models.update(names)
        for provider, model in defaults.items():
            known = self.model_label(model)
            self.requests.of(provider, known, REQUEST_TYPE, SUCCESS)
            for cached in ("false", "true"):
                self.response_duration.of(provider, known, cached)
            for outcome in AttemptOutcome:
                self.attempts.of(provider, known, outcome)
            for token_type in TOKEN_TYPES:
                self.tokens.of(provider, known, token_type)
            self.cost.of(provider, known)
            for winner in Winner:
                self.verdicts.of(provider, known, winner)

    def model_label(self, model: str) -> str:
        """The model, or `other` when it is unknown."""
        return model if model in self._known_models else OTHER_MODEL

    def http_request_ended(self, *, method: str, endpoint: str, status: int, elapsed_s: float) -> None:
        """Count one HTTP request; method and endpoint must come from closed sets."""
        self.http_requests.of(method, endpoint, str(status)).inc()
        self.http_duration.of(endpoint).observe(elapsed_s)

    def turned_away(self, failure: ServiceError) -> None:
        """Count a rejected or shed request; other failures are counted elsewhere."""
        if failure.rejection is not None:
            self.rejects.of(failure.rejection).inc()
        if failure.shed is not None:
            self.shed.of(failure.provider or NOBODY, failure.shed).inc()

    def comparison_answered(
        self,
        *,
        provider: ProviderName,
        model: str,
        winner: Winner,
        outcome: CacheOutcome,
        elapsed_s: float,
        queued_s: float,
    ) -> None:
        """Count one comparison that ended with a verdict. model: as requested."""
        known, cached = self.model_label(model), "true" if outcome is CacheOutcome.HIT else "false"
        self.queue_wait.observe(queued_s)
        self.requests.of(provider, known, REQUEST_TYPE, SUCCESS).inc()
        self.response_duration.of(provider, known, cached).observe(elapsed_s)
        match outcome:
            case CacheOutcome.MISS | CacheOutcome.BYPASS:
                self.verdicts.of(provider, known, winner).inc()
            case CacheOutcome.COALESCED:
                self.coalesced.inc()

    def comparison_failed(self, *, provider: ProviderName | None, error: ErrorCode, queued_s: float) -> None:
        """Count one that ended without; provider is None when none was chosen."""
        self.queue_wait.observe(queued_s)
        self.requests.of(provider or NOBODY, NOBODY, REQUEST_TYPE, error.lower()).inc()

    def attempt_ended(self, *, provider: ProviderName, model: str, outcome: AttemptOutcome, elapsed_s: float) -> None:
        """Count one call to a provider."""
        self.attempts.of(provider, self.model_label(model), outcome).inc()
        self.attempt_duration.of(provider).observe(elapsed_s)

    def purchased(self, *, provider: ProviderName, model: str, usage: Usage, cost_usd: float | None) -> None:
        """Count the tokens and cost of a purchase, in US dollars; None when unknown. model: as requested."""
        known = self.model_label(model)
        counts = (usage.prompt, usage.completion, usage.cached, usage.written, usage.reasoning)
        for token_type, count in zip(TOKEN_TYPES, counts, strict=True):
            tokens = self.tokens.of(provider, known, token_type)
            if count:
                tokens.inc(count)
        if cost_usd is None:
            self.cost_unknown.of(provider).inc()
        else:
            self.cost.of(provider, known).inc(cost_usd)

    def introduce_callers(self, names: Iterable[str]) -> None:
        """Start the series of these callers at zero."""
        for name in names:
            self.caller_cost.of(name)
            for token_type in CALLER_TOKENS:
                self.caller_tokens.of(name, token_type)
            for outcome in CallerOutcome:
                self.caller_requests.of(name, outcome)

    def caller_purchased(self, tracked: CostTracked) -> None:
        """Count a purchase for the caller it was made for."""
        counts = (tracked.token_usage.prompt_tokens, tracked.token_usage.completion_tokens)
        for token_type, count in zip(CALLER_TOKENS, counts, strict=True):
            self.caller_tokens.of(tracked.caller, token_type).inc(count)
        self.caller_cost.of(tracked.caller).inc(tracked.cost_estimate_usd or 0.0)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All series as text and its content type: OpenMetrics when the Accept header asks for it.

        The library would repeat the version that is asked for, and raise TypeError where it is no number.
        """
        asked = {one.partition(";")[0].strip().lower() for one in accept.split(",")}
        encode, content_type = choose_encoder(OPEN_METRICS if OPEN_METRICS in asked else "")
        return encode(self.registry), content_type
