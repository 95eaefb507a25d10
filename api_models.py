"""Everything another service can see: HTTP bodies, event payloads and the enums in them.

Pydantic validates what comes from outside; what we send is built from the same models, so that
this file is the whole published vocabulary. It knows nothing of how an answer comes about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, StrictBool, StrictInt, StrictStr
from pydantic_core import PydanticCustomError

MAX_METADATA_BYTES = 16 * 1024
TOPIC_PREFIX = "huleedu."
MODEL_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$"
MAX_PLACEHOLDER_USES = 4  # each use is a copy of an essay
PLACEHOLDERS = ("{essay_a}", "{essay_b}")

JsonObject = dict[str, Any]


# --- Enums ------------------------------------------------------------------------------------------------------------


class ErrorCode(StrEnum):
    """The platform's error codes, and two of our own: CONTENT_REFUSED and COST_LIMIT_EXCEEDED."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    INVALID_REQUEST = "INVALID_REQUEST"
    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    AUTHENTICATION_ERROR = "AUTHENTICATION_ERROR"
    CONFIGURATION_ERROR = "CONFIGURATION_ERROR"
    CONTENT_REFUSED = "CONTENT_REFUSED"
    RATE_LIMIT = "RATE_LIMIT"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    COST_LIMIT_EXCEEDED = "COST_LIMIT_EXCEEDED"
    EXTERNAL_SERVICE_ERROR = "EXTERNAL_SERVICE_ERROR"
    CONNECTION_ERROR = "CONNECTION_ERROR"
    TIMEOUT = "TIMEOUT"
    INVALID_RESPONSE = "INVALID_RESPONSE"
    CIRCUIT_BREAKER_OPEN = "CIRCUIT_BREAKER_OPEN"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    UNKNOWN_ERROR = "UNKNOWN_ERROR"


class ProviderName(StrEnum):
    """Who can be asked. The order is the default priority."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GOOGLE = "google"
    OPENROUTER = "openrouter"
    INTERNAL = "internal"
    MOCK = "mock"


class Winner(StrEnum):
    """The better essay of a pair; there is no tie."""

    ESSAY_A = "Essay A"
    ESSAY_B = "Essay B"


class ReasoningEffort(StrEnum):
    """How much a model may think before it answers."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ModelTier(StrEnum):
    """The model that we would ask for little money, and the one for the best judgement."""

    CHEAP = "cheap"
    STRONG = "strong"


class TemperatureUse(StrEnum):
    """When a model takes a temperature."""

    ALWAYS = "always"
    NEVER = "never"
    WITHOUT_REASONING = "without_reasoning"


class SelectionStrategy(StrEnum):
    """How the usable providers are ranked when the caller names none."""

    PRIORITY = "priority"
    ROUND_ROBIN = "round-robin"
    LEAST_COST = "least-cost"
    LEAST_LATENCY = "least-latency"
    RANDOM = "random"


class CircuitState(StrEnum):
    """Whether calls pass to a provider (closed), do not (open), or one tries (half_open)."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CacheOutcome(StrEnum):
    """The value of the X-Cache header."""

    HIT = "HIT"
    MISS = "MISS"
    BYPASS = "BYPASS"
    COALESCED = "COALESCED"


class AttemptOutcome(StrEnum):
    """How one call to a provider ended."""

    SUCCESS = "success"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    CONNECTION = "connection"
    TLS = "tls"
    TIMEOUT = "timeout"
    CUT_SHORT = "cut_short"
    BROKEN = "broken"
    UNREADABLE = "unreadable"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    RATE_LIMITED = "rate_limited"
    QUOTA = "quota"
    AUTHENTICATION = "authentication"
    INVALID_REQUEST = "invalid_request"
    UNKNOWN_MODEL = "unknown_model"
    CANCELLED = "cancelled"
    DEFECT = "defect"


class DegradedMode(StrEnum):
    """How the service goes on while something is missing; all but draining end by themselves."""

    MOCK_JUDGES = "mock_judges"
    DRAINING = "draining"
    CACHE_READ_ONLY = "cache_read_only"
    CACHE_LOCAL_ONLY = "cache_local_only"
    BUDGET_LOCAL = "budget_local"
    EVENTS_BUFFERING = "events_buffering"
    EVENTS_DROPPING = "events_dropping"


class CacheMode(StrEnum):
    """How much of the cache works."""

    HEALTHY = "healthy"
    READ_ONLY = "read_only"
    DEGRADED = "degraded"


class HealthStatus(StrEnum):
    """Degraded still serves; unhealthy does not."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class DependencyStatus(StrEnum):
    """Disabled means that the operator configured none."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DISABLED = "disabled"


# --- POST /api/v1/comparison: the request -----------------------------------------------------------------------------


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text


def _placeholders_in_pairs(text: str) -> str:
    if (PLACEHOLDERS[0] in text) != (PLACEHOLDERS[1] in text):
        raise PydanticCustomError("placeholders", "must contain both {essay_a} and {essay_b}, or neither")
    if max(text.count(placeholder) for placeholder in PLACEHOLDERS) > MAX_PLACEHOLDER_USES:
        raise PydanticCustomError("placeholders", "must not repeat {essay_a} or {essay_b} more than four times")
    return text


def _no_parent_segment(model: str) -> str:
    if ".." in model:
        raise PydanticCustomError("model_id", "must be a model id")
    return model


def _small_enough(metadata: JsonObject) -> JsonObject:
    if len(orjson.dumps(metadata)) > MAX_METADATA_BYTES:
        raise PydanticCustomError("too_large", "must be at most 16 KiB of JSON")
    return metadata


Text = Annotated[StrictStr, AfterValidator(_not_blank)]
ModelId = Annotated[StrictStr, Field(pattern=MODEL_ID_PATTERN), AfterValidator(_no_parent_segment)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class LLMConfigOverrides(_Body):
    """What the caller wishes to decide; null means "not given"."""

    provider_override: ProviderName | None = None
    model_override: ModelId | None = None
    temperature_override: Annotated[float, Strict(), Field(ge=0, le=2)] | None = None
    system_prompt_override: Text | None = None
    max_tokens_override: Annotated[StrictInt, Field(gt=0)] | None = None
    reasoning_effort_override: ReasoningEffort | None = None
    allow_fallback: StrictBool | None = None


class ComparisonRequest(_Body):
    """One pair of essays to be judged. Unknown fields are ignored."""

    user_prompt: Annotated[Text, AfterValidator(_placeholders_in_pairs)]
    essay_a: Text
    essay_b: Text
    llm_config_overrides: LLMConfigOverrides | None = None
    correlation_id: UUID | None = None
    user_id: StrictStr | None = None
    metadata: Annotated[JsonObject, AfterValidator(_small_enough)] = {}
    replicate: Annotated[StrictInt, Field(ge=0)] = 0


# --- POST /api/v1/comparison: the answer ------------------------------------------------------------------------------


class TokenUsage(_Body):
    """Tokens as the provider counted them; cached prompt tokens are part of the prompt tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as billed. cached and written are parts of prompt, reasoning is a part of completion.

    written_for_long is the part of written that is kept for an hour, at a higher price.

    A prompt of 0 tokens stands for counts that the provider did not tell.
    """

    prompt: int
    completion: int
    cached: int = 0
    written: int = 0
    written_for_long: int = 0
    reasoning: int = 0

    def as_token_usage(self) -> TokenUsage:
        """The counts as callers see them."""
        return TokenUsage(
            prompt_tokens=self.prompt,
            completion_tokens=self.completion,
            total_tokens=self.prompt + self.completion,
            cached_prompt_tokens=self.cached,
        )


UNKNOWN_USAGE = Usage(prompt=0, completion=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What one call to a model was billed for, usable or not. cost_usd: the provider's own figure, or ours; or None."""

    model: str
    usage: Usage
    cost_usd: float | None


class AttemptReport(_Body):
    """One call to a provider that this request caused."""

    provider: ProviderName
    model: str
    outcome: AttemptOutcome
    duration_ms: int


class Provenance(_Body):
    """Where a verdict comes from, so that it can be repeated and audited."""

    prompt_sha256: str
    prompt_version: str
    replicate: int
    requested_provider: ProviderName | None
    fallback_used: bool
    coalesced: bool
    dropped_parameters: list[str]
    attempts: list[AttemptReport]


class ComparisonResponse(_Body):
    """The verdict on one pair. cost_estimate is USD for this call, null when the price is unknown."""

    winner: Winner
    justification: str
    confidence: float
    provider: ProviderName
    model: str
    response_time_ms: int
    cached: bool
    token_usage: TokenUsage
    cost_estimate: float | None
    correlation_id: UUID
    trace_id: str | None
    metadata: JsonObject
    provenance: Provenance


class ErrorBody(_Body):
    """Every answer that is not a 2xx. retry_after (seconds) equals the Retry-After header."""

    error: str
    error_type: ErrorCode
    details: str
    correlation_id: UUID
    retry_after: int | None = None
    provider: ProviderName | None = None


# --- Routing ----------------------------------------------------------------------------------------------------------


class RoutingRule(BaseModel):
    """Prefers a provider, and perhaps a model, for queries that meet all conditions; sizes are in characters."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    metadata: dict[str, StrictStr | StrictInt | StrictBool] = {}
    user_id: StrictStr | None = None
    min_characters: Annotated[StrictInt, Field(ge=0)] | None = None
    max_characters: Annotated[StrictInt, Field(ge=0)] | None = None
    provider: ProviderName
    model: ModelId | None = None


class UnknownPrice(StrEnum):
    """What happens to a call whose price nobody knows: it is never free."""

    CHARGE = "charge"
    REFUSE = "refuse"


class UsageScope(StrEnum):
    """Whose figures these are: those of all replicas, or while Redis is away of the one that answers."""

    FLEET = "fleet"
    REPLICA = "replica"


# --- Providers and health ---------------------------------------------------------------------------------------------


class ProbeReport(_Body):
    """What the last free look-up of a provider found; it changes nothing."""

    at: datetime
    success: bool
    message: str


class ProviderReport(_Body):
    """One provider as the dashboards see it. Times are UTC; counts since the start or since midnight UTC."""

    name: ProviderName
    enabled: bool
    configured: bool
    available: bool
    circuit_breaker_state: CircuitState
    default_model: str
    last_success: datetime | None
    last_failure: datetime | None
    failure_count: int
    average_response_time_ms: float | None
    in_flight: int
    requests_today: int
    cost_today_usd: float
    reason: str | None
    last_probe: ProbeReport | None


class ProvidersResponse(_Body):
    """GET /api/v1/providers, in priority order."""

    providers: list[ProviderReport]
    default_provider: ProviderName
    selection_strategy: SelectionStrategy
    total_requests_today: int
    total_cost_today: float
    scope: UsageScope


class UsagePeriod(StrEnum):
    """The days that a summary covers, UTC."""

    TODAY = "today"
    YESTERDAY = "yesterday"
    MONTH = "month"
    LAST_7_DAYS = "7d"


class UsageFigures(_Body):
    """Calls to providers and how they ended, tokens, US dollars; savings are what cached answers would have cost."""

    requests: int
    successes: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    unpriced_purchases: int
    cache_hits: int
    saved_usd: float


class ModelUsage(_Body):
    """One model's share."""

    provider: ProviderName
    model: str
    usage: UsageFigures


class UsageSummaryResponse(_Body):
    """GET /api/v1/usage/summary."""

    scope: UsageScope
    period: UsagePeriod
    first_day: date
    last_day: date
    total: UsageFigures
    by_provider: dict[ProviderName, UsageFigures]
    by_model: list[ModelUsage]


class ProviderTestResponse(_Body):
    """POST /api/v1/providers/{provider}/test."""

    success: bool
    provider: ProviderName
    message: str
    response_time_ms: int
    model: str | None


class ModelPrices(_Body):
    """US dollars for a million tokens today; long prompts may cost more."""

    input: float
    cached_input: float
    cache_write: float
    output: float


class ModelReport(_Body):
    """One model of the catalogue. reasoning_efforts: the overrides that it takes; prices: null when unknown."""

    id: str
    provider: ProviderName
    tier: ModelTier | None
    is_default: bool
    context_tokens: int | None
    max_output_tokens: int | None
    temperature: TemperatureUse
    reasoning_efforts: list[ReasoningEffort]
    min_cacheable_tokens: int | None
    deprecated_on: date | None
    prices_usd_per_million_tokens: ModelPrices | None


class ModelsResponse(_Body):
    """GET /api/v1/models, in priority order of the providers."""

    models: list[ModelReport]


class CacheReport(_Body):
    """The cache as /healthz shows it."""

    cache_mode: CacheMode
    local_cache_available: bool
    redis_available: bool
    redis_failure_count: int


class CacheTierReport(_Body):
    """One tier since the start of this process; null where the tier does not tell."""

    hits: int
    misses: int
    hit_rate: float
    stores: int
    evictions: int | None
    entries: int | None
    size_bytes: int | None


class CacheStatsResponse(_Body):
    """GET /api/v1/cache/stats: this process since its start; saved_usd is what the hits would have cost."""

    cache_mode: CacheMode
    generation: int
    hits: int
    misses: int
    hit_rate: float
    saved_usd: float
    local: CacheTierReport
    redis: CacheTierReport | None


class CacheClearedResponse(_Body):
    """POST /api/v1/admin/cache/clear; everywhere is false while Redis is away: the other replicas are told later."""

    cleared: bool
    everywhere: bool
    generation: int


class Dependencies(_Body):
    """What the service leans on; none of it is needed to answer."""

    redis: DependencyStatus
    kafka: DependencyStatus
    cache: CacheReport


class ProviderHealth(_Body):
    """One provider as /healthz shows it."""

    enabled: bool
    configured: bool
    available: bool
    circuit_breaker_state: CircuitState


class HealthResponse(_Body):
    """GET /healthz, answered from known state."""

    service: str
    version: str
    status: HealthStatus
    environment: str
    dependencies: Dependencies
    providers: dict[ProviderName, ProviderHealth]
    warnings: list[str]


# --- Events -----------------------------------------------------------------------------------------------------------


class ProcessingEvent(StrEnum):
    """The platform's names of our events. Each has a topic of its own, and all of them have the same form."""

    LLM_REQUEST_STARTED = "llm_provider.request.started"
    LLM_REQUEST_COMPLETED = "llm_provider.request.completed"
    LLM_PROVIDER_FAILURE = "llm_provider.failure"
    LLM_CACHE_HIT = "llm_provider.cache.hit"
    LLM_CACHE_MISS = "llm_provider.cache.miss"
    LLM_USAGE_ANALYTICS = "llm_provider.usage.analytics"
    LLM_COST_ALERT = "llm_provider.cost.alert"
    LLM_COST_TRACKING = "llm_provider.cost.tracking"

    @property
    def topic(self) -> str:
        """Where it is published."""
        return f"{TOPIC_PREFIX}llm_provider.{self.removeprefix('llm_provider.').replace('.', '_')}.v1"

    @property
    def event_type(self) -> str:
        """Its name in the envelope and the header: the topic without the platform's prefix."""
        return self.topic.removeprefix(TOPIC_PREFIX)


class EventDropReason(StrEnum):
    """Why an event was given up. unknown_topic and auth: it expired while its topic was not there or not allowed."""

    OVERFLOW = "overflow"
    EXPIRED = "expired"
    TOO_LARGE = "too_large"
    UNKNOWN_TOPIC = "unknown_topic"
    AUTH = "auth"
    DEFECT = "defect"


class CostAlertType(StrEnum):
    """What was passed: a share of a limit, or the usual spending."""

    DAILY_LIMIT = "daily_limit"
    MONTHLY_LIMIT = "monthly_limit"
    RATE_SPIKE = "rate_spike"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventData:
    """What is told. metadata of an event about a request is the caller's own, verbatim."""

    event: ClassVar[ProcessingEvent]

    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEventData(EventData):
    """What every event about one request carries."""

    provider: ProviderName | None
    correlation_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStarted(RequestEventData):
    """A comparison was accepted; provider is the pinned one."""

    event = ProcessingEvent.LLM_REQUEST_STARTED

    request_type: str
    user_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCompleted(RequestEventData):
    """A started comparison ended, however it ended; cost_estimate is USD of this call, null when unknown."""

    event = ProcessingEvent.LLM_REQUEST_COMPLETED

    request_type: str
    user_id: str | None
    success: bool
    response_time_ms: int
    error_message: str | None
    token_usage: TokenUsage | None
    cost_estimate: float | None
    cached: bool
    prompt_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFailed(RequestEventData):
    """One candidate could not answer, with all its attempts."""

    event = ProcessingEvent.LLM_PROVIDER_FAILURE

    failure_type: ErrorCode
    error_details: str
    circuit_breaker_opened: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheHit(RequestEventData):
    """The answer was known."""

    event = ProcessingEvent.LLM_CACHE_HIT

    cache_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMiss(RequestEventData):
    """The answer was not known."""

    event = ProcessingEvent.LLM_CACHE_MISS

    cache_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTracked(RequestEventData):
    """One purchase, published from inside the flight, so that it is billed once whoever waits for it."""

    event = ProcessingEvent.LLM_COST_TRACKING

    model: str
    request_type: str
    cost_estimate_usd: float | None
    token_usage: TokenUsage
    user_id: str | None
    service_name: str
    request_timestamp: datetime
    response_time_ms: int
    cached: bool
    cache_cost_savings_usd: float
    prompt_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderUsage:
    """One provider in one window. requests: calls that ended the wait of a caller, cached and shared ones among them.

    tokens and cost_usd are those of purchases, so that what the cache answered counts nothing; purchases of unknown
    price are counted apart.
    """

    requests: int = 0
    successful: int = 0
    failed: int = 0
    purchases: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    purchases_of_unknown_price: int = 0
    average_response_time_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReported(EventData):
    """One window of one process. provider_stats: by provider, `none` for requests that reached nobody.

    cache_hit_rate: of the look-ups, null without any; average_response_time_ms: of all requests, null without any.
    """

    event = ProcessingEvent.LLM_USAGE_ANALYTICS

    period_start: datetime
    period_end: datetime
    provider_stats: Mapping[str, ProviderUsage]
    total_requests: int
    successful_requests: int
    failed_requests: int
    total_tokens: int
    total_cost: float
    cache_hit_rate: float | None
    average_response_time_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostAlerted(EventData):
    """Spending passed a mark. Costs are US dollars; provider is null for all of them together."""

    event = ProcessingEvent.LLM_COST_ALERT

    alert_type: CostAlertType
    provider: ProviderName | None
    current_cost: float
    threshold: float
    period: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventEnvelope:
    """What stands in every message. metadata is the trace context or null."""

    event_id: UUID
    event_type: str
    event_timestamp: datetime
    source_service: str
    schema_version: int = 1
    correlation_id: UUID
    data_schema_uri: str | None = None
    data: EventData
    metadata: Mapping[str, str] | None = None


# --- Operations -------------------------------------------------------------------------------------------------------


class TrafficReport(_Body):
    """Since the start of this process. answers: comparisons with a verdict; errors: all that callers were told.

    Requests for paths and methods that do not exist are not among the errors.
    """

    answers: int
    errors: int
    errors_by_type: dict[ErrorCode, int]
    coalesced: int
    callers_left: int


class LatencyReport(_Body):
    """Of the comparisons that were answered in the last so many seconds; null when there were none."""

    window_s: float
    answers: int
    median_ms: float | None
    p95_ms: float | None
    slowest_ms: float | None


class RecentError(_Body):
    """One error that a caller was told, without its details, which may name what was sent."""

    at: datetime
    error_type: ErrorCode
    status: int
    error: str
    provider: ProviderName | None
    correlation_id: UUID


class PlacesReport(_Body):
    """in_flight of limit places are taken; so many wait for one."""

    in_flight: int
    limit: int
    waiting: int


class ProviderPlacesReport(PlacesReport):
    """paused_s: seconds until a throttling provider is called again."""

    paused_s: float


class SaturationReport(_Body):
    """How full the service is, and each of its providers."""

    service: PlacesReport
    providers: dict[ProviderName, ProviderPlacesReport]


class EventsReport(_Body):
    """Events since the start of this process. waiting: not yet acknowledged; oldest_s: how long the oldest waits.

    buffering: what they wait for, in a word; null while they are sent.
    """

    kafka: DependencyStatus
    buffering: str | None
    published: int
    waiting: int
    oldest_s: float
    delivered: int
    dropped: int
    dropped_by_reason: dict[EventDropReason, int]


class PeriodMoney(_Body):
    """US dollars of one UTC day or month; limit and what is left are null without a limit."""

    period: str
    spent_usd: float
    limit_usd: float | None
    left_usd: float | None


class MoneyReport(_Body):
    """What counts against the limits; a call without a known price counts what it may have cost."""

    scope: UsageScope
    day: PeriodMoney
    month: PeriodMoney


class OperationsResponse(_Body):
    """GET /api/v1/operations: this process as it is now, answered from known state."""

    started_at: datetime
    uptime_s: float
    degraded_modes: list[DegradedMode]
    tasks_down: list[str]
    traffic: TrafficReport
    latency: LatencyReport
    recent_errors: list[RecentError]
    saturation: SaturationReport
    events: EventsReport
    money: MoneyReport
