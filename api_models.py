"""The published vocabulary: HTTP bodies, event payloads, their enums, metric labels; internal: `Usage`, `Purchase`.

Pydantic validates what comes from outside; what we send is built from the same models. Nothing here depends on how an
answer is produced.
"""

import re
from collections.abc import Mapping
from dataclasses import field
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    Strict,
    StrictBool,
    StrictInt,
    StrictStr,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from value_object import value_object

MAX_METADATA_BYTES = 16 * 1024
TOPIC_PREFIX = "huleedu."
REQUEST_TYPE = "comparison"  # the only one, in events and metrics
MODEL_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$"
MAX_REASON_CHARACTERS = 200
# Control characters, other line separators and bidirectional controls: reasons are shown in logs and on pages.
UNSHOWABLE = r"[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
LONGEST_HOLD_S = 30 * 86_400
MAX_PLACEHOLDER_USES = 4  # each use copies an essay
PLACEHOLDERS = ("{essay_a}", "{essay_b}")
SMALLEST_INTEGER, LARGEST_INTEGER = -(1 << 63), (1 << 64) - 1  # accepted in a body
LARGEST_INT64 = (1 << 63) - 1  # in a field of ours: clients in other languages have no longer integers

JsonObject = dict[str, Any]

# --- What the published schema says beyond the types ------------------------------------------------------------------

WITHOUT_NUL = r"^[^\x00]*$"
# Controls, fillers, marks of direction, selectors: a file may hold its byte order mark alone. Beyond ASCII not escaped,
# for engines that lack \u; that mark between its unassigned neighbours, for Go's sources, which may not hold it.
UNSEEN = (
    r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
    "\u00ad\u034f\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f"
    "\ufefe-\uff00\uffa0"
)
NOT_BLANK = rf"^[^\x00]*[^\s{UNSEEN}][^\x00]*$"
IN_PAIRS: JsonObject = {
    "if": {"pattern": r"\{essay_a\}"},
    "then": {"pattern": r"\{essay_b\}"},
    "else": {"not": {"pattern": r"\{essay_b\}"}},
    "not": {"pattern": r"(\{essay_a\}[\s\S]*){5}|(\{essay_b\}[\s\S]*){5}"},
}


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


ANONYMOUS, ADMIN = "anonymous", "admin"  # the caller's name without authentication, and with the administrator's key


class ProviderName(StrEnum):
    """The providers, in the default priority order."""

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
    """How much a model may reason before it answers."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ModelTier(StrEnum):
    """The low-cost choice, and the one for the best judgement."""

    CHEAP = "cheap"
    STRONG = "strong"


class TemperatureUse(StrEnum):
    """When a model accepts a temperature."""

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
    """Calls pass (closed), are rejected (open), or single probes pass (half_open)."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class ForcedState(StrEnum):
    """The state in which an administrator holds a circuit."""

    OPEN = "open"
    CLOSED = "closed"


class SettingSource(StrEnum):
    """Where a setting's value comes from."""

    ENVIRONMENT = "environment"
    OPERATOR = "operator"


class AdminAction(StrEnum):
    """What an administrator did."""

    SETTING_CHANGED = "setting_changed"
    SETTING_WITHDRAWN = "setting_withdrawn"
    CIRCUIT_FORCED = "circuit_forced"
    CIRCUIT_RESET = "circuit_reset"
    CACHE_CLEARED = "cache_cleared"
    ALERTS_RESET = "alerts_reset"


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
    RESET = "reset"
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


class CacheMode(StrEnum):
    """How much of the cache is working."""

    HEALTHY = "healthy"
    READ_ONLY = "read_only"
    DEGRADED = "degraded"


class HealthStatus(StrEnum):
    """A degraded service still serves; an unhealthy one does not."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class DependencyStatus(StrEnum):
    """`disabled`: none is configured."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DISABLED = "disabled"


class UnknownPrice(StrEnum):
    """What happens to a call of unknown price: it is never free."""

    CHARGE = "charge"
    REFUSE = "refuse"


class UsageScope(StrEnum):
    """What the figures cover: all replicas, or, without a reachable Redis, only the one that answers."""

    FLEET = "fleet"
    REPLICA = "replica"


# --- Metric labels ----------------------------------------------------------------------------------------------------


class Door(StrEnum):
    """What a key gives access to."""

    CALLER = "caller"
    ADMIN = "admin"


class CallerOutcome(StrEnum):
    """How a caller's request ended: answered, refused (4xx), failed (5xx), or the caller disconnected."""

    SUCCESS = "success"
    REFUSED = "refused"
    FAILED = "failed"
    LEFT = "left"


class AccessRefusal(StrEnum):
    """Why access was denied."""

    NO_KEY = "no_key"
    WRONG_KEY = "wrong_key"
    ADDRESS = "address"
    TOO_OFTEN = "too_often"


class RejectReason(StrEnum):
    """Why a request was rejected before any provider was asked."""

    INVALID = "invalid"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    CONTENT_TYPE = "content_type"
    UNKNOWN_PATH = "unknown_path"
    UNKNOWN_METHOD = "unknown_method"
    UNAUTHORIZED = "unauthorized"
    TOO_OFTEN = "too_often"
    STALE_VERSION = "stale_version"


class ShedReason(StrEnum):
    """Why a request was shed: queue full, no slot free in time, no memory left, or the service is stopping."""

    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    MEMORY = "memory"
    STOPPING = "stopping"


class RequestPhase(StrEnum):
    """The request body is being read, or the response is being produced."""

    READING = "reading"
    ANSWERING = "answering"


class HoldReason(StrEnum):
    """Why a circuit is held: the provider refused our key, our credit is exhausted, or an operator decided so."""

    AUTHENTICATION = "authentication"
    QUOTA = "quota"
    OPERATOR = "operator"


# --- POST /api/v1/comparison: the request -----------------------------------------------------------------------------

SEEN = re.compile(rf"[^\s{UNSEEN}]")


def is_blank(text: str) -> bool:
    """Whether nothing of the text can be seen."""
    return SEEN.search(text) is None


def _not_blank(text: str) -> str:
    if is_blank(text):
        raise PydanticCustomError("blank", "must not be blank")
    return text


def _placeholders_in_pairs(text: str) -> str:
    if (PLACEHOLDERS[0] in text) != (PLACEHOLDERS[1] in text):
        raise PydanticCustomError("placeholders", "must contain both {essay_a} and {essay_b}, or neither")
    if max(map(text.count, PLACEHOLDERS)) > MAX_PLACEHOLDER_USES:
        raise PydanticCustomError("placeholders", "must not repeat {essay_a} or {essay_b} more than four times")
    return text


def _no_parent_segment(model: str) -> str:
    if ".." in model:
        raise PydanticCustomError("model_id", "must be a model id")
    return model


def _one_line(text: str) -> str:
    if re.search(UNSHOWABLE, text):
        raise PydanticCustomError("one_line", "must be one line of printable text")
    return text


def _small_enough(metadata: JsonObject) -> JsonObject:
    if len(orjson.dumps(metadata)) > MAX_METADATA_BYTES:
        raise PydanticCustomError("too_large", "must be at most 16 KiB of JSON")
    return metadata


Text = Annotated[StrictStr, AfterValidator(_not_blank), Field(json_schema_extra={"pattern": NOT_BLANK})]
ModelId = Annotated[
    StrictStr,
    Field(pattern=MODEL_ID_PATTERN, json_schema_extra={"not": {"pattern": r"\.\."}}),
    AfterValidator(_no_parent_segment),
]

# Of a union of types, generators of clients make a class without members, which is sent as an empty object.
Scalar = Annotated[
    StrictStr | StrictInt | StrictBool,
    WithJsonSchema({"not": {"type": ["array", "object", "null"]}, "multipleOf": 1}),
]

Reason = Annotated[
    StrictStr,
    Field(max_length=MAX_REASON_CHARACTERS, json_schema_extra={"pattern": NOT_BLANK, "not": {"pattern": UNSHOWABLE}}),
    AfterValidator(_not_blank),
    AfterValidator(_one_line),
]


# Checked where a cached answer is read: sums of them are counted, and encoded with 64 bits.
Count = Annotated[int, Field(ge=0, le=LARGEST_INT64)]
Dollars = Annotated[float, Field(ge=0, le=1e6)]

# Responses on the comparison path are plain dataclasses: validating our own output would only cost time.
TOLD = ConfigDict(use_attribute_docstrings=True, json_schema_serialization_defaults_required=True)


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, **TOLD)


class LLMConfigOverrides(_Body):
    """The caller's choices; null means "not given"."""

    provider_override: ProviderName | None = None
    """The provider to use: it answers or the request fails, unless allow_fallback is true."""
    model_override: ModelId | None = None
    """The model id. Without provider_override, exactly one enabled provider must list it."""
    # The absolute value, because -0.0 asks what 0.0 asks.
    temperature_override: Annotated[float, Strict(), Field(ge=0, le=2), AfterValidator(abs)] | None = None
    """Omitted, and named in dropped_parameters, for a model that does not accept it."""
    system_prompt_override: Text | None = None
    """Replaces the judge's instructions; the rules on essays and output are always appended."""
    max_tokens_override: Annotated[StrictInt, Field(gt=0, le=LARGEST_INT64)] | None = None
    """Upper limit of the answer, tokens; written without a fraction."""
    reasoning_effort_override: ReasoningEffort | None = None
    """How much the model may reason, if it can."""
    allow_fallback: StrictBool | None = None
    """Whether other providers may be asked when the named one fails."""


class ComparisonRequest(_Body):
    """One pair of essays to judge. Unknown fields are ignored."""

    user_prompt: Annotated[Text, AfterValidator(_placeholders_in_pairs), Field(json_schema_extra=IN_PAIRS)]
    """The task and the criteria. It may contain {essay_a} and {essay_b}: both or neither, each at most four times."""
    essay_a: Text
    """The essay shown first; not blank."""
    essay_b: Text
    """The essay shown second; not blank."""
    llm_config_overrides: LLMConfigOverrides | None = None
    """Choices that are not left to the service."""
    correlation_id: UUID | None = None
    """Echoed everywhere; defaults to the X-Correlation-ID header, else generated."""
    user_id: Annotated[StrictStr, Field(max_length=1_000, json_schema_extra={"pattern": WITHOUT_NUL})] | None = None
    """Included in events. At most 1,000 characters."""
    metadata: Annotated[JsonObject, AfterValidator(_small_enough)] = {}
    """At most 16 KiB of JSON; echoed verbatim in the response and in events."""
    replicate: Annotated[StrictInt, Field(ge=0, le=LARGEST_INT64)] = 0
    """The index of an independent judgement of the same question; written without a fraction, as 1 and not as 1.0."""


# --- POST /api/v1/comparison: the answer ------------------------------------------------------------------------------


@value_object
class TokenUsage:
    """Tokens as counted by the provider."""

    __pydantic_config__ = TOLD

    prompt_tokens: int
    """Tokens of the prompt."""
    completion_tokens: int
    """Tokens of the answer, reasoning included."""
    total_tokens: int
    """The sum of both."""
    cached_prompt_tokens: int
    """The part of prompt_tokens that the provider had cached."""


@value_object
class Usage:
    """Tokens as billed. cached and written are included in prompt, reasoning in completion.

    written_for_long: the part of written that the provider keeps for an hour, at a higher price. price_factor: how many
    times the list price each of them costs. A prompt of 0 tokens means that the provider reported no counts.
    """

    prompt: Count
    completion: Count
    cached: Count = 0
    written: Count = 0
    written_for_long: Count = 0
    reasoning: Count = 0
    price_factor: float = 1.0

    def as_token_usage(self) -> TokenUsage:
        """The counts as shown to callers."""
        return TokenUsage(
            prompt_tokens=self.prompt,
            completion_tokens=self.completion,
            total_tokens=self.prompt + self.completion,
            cached_prompt_tokens=self.cached,
        )


UNKNOWN_USAGE = Usage(prompt=0, completion=0)


@value_object
class Purchase:
    """What one model call was billed for, usable or not. cost_usd: the provider's figure, else ours, else None."""

    model: str
    usage: Usage
    cost_usd: Dollars | None


@value_object
class AttemptReport:
    """One call to a provider made for this request."""

    __pydantic_config__ = TOLD

    provider: ProviderName
    """The provider called."""
    model: str
    """The model called."""
    outcome: AttemptOutcome
    """How the call ended."""
    duration_ms: int
    """Duration, milliseconds."""


@value_object
class Provenance:
    """Where a verdict comes from, so that it can be reproduced and audited."""

    __pydantic_config__ = TOLD

    prompt_sha256: str
    """SHA-256, in hex, over system and user prompt, each in UTF-8 and preceded by its length in 8 bytes, big-endian."""
    prompt_version: str
    """The version of the prompt's layout: the service's own texts, and how essays are fenced."""
    replicate: int
    """As requested."""
    requested_provider: ProviderName | None
    """The provider named in the request; null when the choice was left to the service."""
    fallback_used: bool
    """Whether a provider other than the first choice answered."""
    coalesced: bool
    """Whether the answer was bought by an identical concurrent request."""
    dropped_parameters: list[str]
    """Overrides that the model does not accept."""
    attempts: list[AttemptReport]
    """Calls to providers made for this request, in order; none that was still under way when it ended."""


@value_object
class ComparisonResponse:
    """The verdict on one pair.

    cost_estimate covers all attempts of this call that are known to be billed, token_usage only the one that gave the
    answer. An attempt that timed out or broke off, or whose answer could not be read, counts nothing in either, though
    the provider may have billed it.
    """

    __pydantic_config__ = TOLD

    winner: Winner
    """The better essay; there is no tie."""
    justification: str
    """The reason, in the judge's words."""
    confidence: Annotated[float, Field(ge=1, le=5)]
    """1 is a guess, 5 is certain."""
    provider: ProviderName
    """The provider that answered."""
    model: str
    """The model that answered, as its provider names it; the requested one where it names none."""
    response_time_ms: int
    """Time in this service, milliseconds."""
    cached: bool
    """Whether the answer came from the cache."""
    token_usage: TokenUsage
    """Tokens of the purchase that gave the answer; of the original one when the answer was cached or shared."""
    cost_estimate: float | None
    """US dollars of this call's purchases: 0 if cached, shared or mocked and nobody was asked before; null: unknown."""
    correlation_id: UUID
    """The correlation id of this request."""
    trace_id: str | None
    """The id of the distributed trace, if any."""
    metadata: JsonObject
    """As sent."""
    provenance: Provenance
    """Where the verdict comes from."""


class ErrorBody(_Body):
    """The body of every error response."""

    error: str
    """What happened, in one sentence."""
    error_type: ErrorCode
    """Machine-readable code; branch on this."""
    details: str
    """Which field, or what to do."""
    correlation_id: UUID
    """Identifies the request in the service's log."""
    retry_after: int | None = None
    """Seconds until a retry is worthwhile; equals the Retry-After header."""
    provider: ProviderName | None = None
    """The provider concerned, if any."""
    trace_id: str | None = None
    """The trace id of this request, 32 hex digits, if any."""


# --- Routing ----------------------------------------------------------------------------------------------------------


class RoutingRule(_Body, extra="forbid"):
    """Prefers a provider, and optionally a model, for requests that meet all conditions."""

    metadata: dict[str, Scalar] = {}
    """Fields and values, each a text, an integer or a boolean, that the caller's metadata must contain."""
    user_id: StrictStr | None = None
    """The request's user_id."""
    min_characters: Annotated[StrictInt, Field(ge=0, le=LARGEST_INT64)] | None = None
    """Minimum total length of task and essays, characters."""
    max_characters: Annotated[StrictInt, Field(ge=1, le=LARGEST_INT64)] | None = None
    """Maximum total length of task and essays, characters."""
    provider: ProviderName
    """The preferred provider."""
    model: ModelId | None = None
    """The preferred model; null: the provider's default."""


# --- Providers and health ---------------------------------------------------------------------------------------------


class ProbeReport(_Body):
    """The result of the last free probe of a provider; it has no effect on routing."""

    at: datetime
    """Time of the probe, UTC."""
    success: bool
    """Whether the provider can be used."""
    message: str
    """What the probe found."""


class ProviderReport(_Body):
    """One provider as shown on dashboards."""

    name: ProviderName
    """The provider's name."""
    enabled: bool
    """Whether the operator has enabled it."""
    configured: bool
    """Whether its key (for a self-hosted model, its URL) is set."""
    available: bool
    """Whether it would be asked now."""
    circuit_breaker_state: CircuitState
    """State of its circuit breaker."""
    circuit_forced: bool
    """Whether the circuit is held in its state."""
    default_model: str
    """The model used when the request names none."""
    last_success: datetime | None
    """UTC; null before the first."""
    last_failure: datetime | None
    """UTC; null before the first."""
    failure_count: int
    """Failed calls since the start."""
    average_response_time_ms: float | None
    """Milliseconds; null before the first call."""
    in_flight: int
    """Calls in progress."""
    requests_today: int
    """Calls since midnight UTC."""
    cost_today_usd: float
    """US dollars since midnight UTC."""
    reason: str | None
    """Why it is not available; null when it is."""
    last_probe: ProbeReport | None
    """Its last scheduled free probe; null before the first, and after a call that succeeded later than a failed one."""


class ProvidersResponse(_Body):
    """GET /api/v1/providers."""

    providers: list[ProviderReport]
    """In priority order."""
    default_provider: ProviderName
    """The provider asked first under the strategy `priority`."""
    selection_strategy: SelectionStrategy
    """How providers are ranked when the request names none."""
    total_requests_today: int
    """All calls since midnight UTC."""
    total_cost_today: float
    """US dollars since midnight UTC."""
    scope: UsageScope
    """What today's requests and costs cover."""


class UsagePeriod(StrEnum):
    """The days covered by a summary, UTC."""

    TODAY = "today"
    YESTERDAY = "yesterday"
    MONTH = "month"
    LAST_7_DAYS = "7d"


class UsageFigures(_Body):
    """Provider calls and their results, tokens, cost and savings."""

    requests: int
    """Calls to providers."""
    successes: int
    """Calls that gave a verdict."""
    failures: int
    """Calls that gave none; those given up, at the request's deadline or as the service stopped, count as neither."""
    prompt_tokens: int
    """Tokens of the prompts."""
    completion_tokens: int
    """Tokens of the answers, reasoning included."""
    cost_usd: float
    """US dollars of known purchases, each to a millionth. Cost limits also count attempts that may have been billed."""
    unpriced_purchases: int
    """Billed calls of unknown price, not included in cost_usd."""
    cache_hits: int
    """Answers from the cache."""
    saved_usd: float
    """US dollars that the cache hits would have cost."""


class ModelUsage(_Body):
    """The usage of one model."""

    provider: ProviderName
    """The model's provider."""
    model: str
    """The requested model; `other` for all that neither the catalogue nor the operator's settings name."""
    usage: UsageFigures
    """The model's figures."""


class UsageSummaryResponse(_Body):
    """GET /api/v1/usage/summary."""

    scope: UsageScope
    """What the figures cover."""
    period: UsagePeriod
    """As requested."""
    first_day: date
    """UTC."""
    last_day: date
    """UTC, inclusive."""
    total: UsageFigures
    """The sum over all providers."""
    by_provider: dict[ProviderName, UsageFigures]
    """Only providers with usage in the period."""
    by_model: list[ModelUsage]
    """Only models with usage in the period."""


class ProviderTestResponse(_Body):
    """POST /api/v1/providers/{provider}/test."""

    success: bool
    """Whether the test passed."""
    provider: ProviderName
    """The provider tested."""
    message: str
    """What happened, in the service's own words."""
    response_time_ms: int
    """Duration, milliseconds."""
    model: str | None
    """The model that judged; null for a free probe."""


class ModelPrices(_Body):
    """Today's prices, US dollars per million tokens; long prompts may cost more."""

    input: float
    """Prompt tokens."""
    cached_input: float
    """Prompt tokens that the provider had cached."""
    cache_write: float
    """Prompt tokens that the provider writes to its cache."""
    output: float
    """Completion tokens."""


class ModelReport(_Body):
    """One model of the catalogue."""

    id: str
    """The value for model_override."""
    provider: ProviderName
    """The model's provider."""
    tier: ModelTier | None
    """`cheap`, `strong` (best judgement) or null."""
    is_default: bool
    """Whether it is used when the request names no model."""
    context_tokens: int | None
    """Context window, tokens; null when unknown."""
    max_output_tokens: int | None
    """Output limit, tokens; null when unknown."""
    temperature: TemperatureUse
    """When it accepts a temperature."""
    max_temperature: float | None
    """The highest that it accepts; null where it accepts none."""
    reasoning_efforts: list[ReasoningEffort]
    """The values of reasoning_effort_override that it accepts."""
    min_cacheable_tokens: int | None
    """Shortest prompt prefix that the provider caches, tokens; null when unknown."""
    deprecated_on: date | None
    """When the vendor retires it; null when unknown."""
    prices_usd_per_million_tokens: ModelPrices | None
    """Today's prices; null when unknown."""


class ModelsResponse(_Body):
    """GET /api/v1/models."""

    models: list[ModelReport]
    """Grouped by provider, in the default priority order."""


class CacheReport(_Body):
    """The cache as /healthz shows it."""

    cache_mode: CacheMode
    """`read_only`: Redis accepts no new answers; `degraded`: only the local tier works."""
    local_cache_available: bool
    """The tier in this process."""
    redis_available: bool
    """The tier shared by the replicas."""
    redis_failure_count: int
    """Failed Redis commands since the start."""


class CacheTierReport(_Body):
    """One tier since the start of this process; null: not known for this tier."""

    hits: int
    """Look-ups that hit."""
    misses: int
    """Look-ups that missed."""
    hit_rate: float
    """Between 0 and 1."""
    stores: int
    """Answers stored."""
    evictions: int | None
    """Answers evicted to make room."""
    entries: int | None
    """Answers held now."""
    size_bytes: int | None
    """Bytes held now."""


class CacheStatsResponse(_Body):
    """GET /api/v1/cache/stats: this process since its start."""

    cache_mode: CacheMode
    """`read_only`: Redis accepts no new answers; `degraded`: only the local tier works."""
    generation: int
    """The number in every answer's key in Redis; each clearing raises it."""
    hits: int
    """Look-ups that hit in any tier."""
    misses: int
    """Look-ups that missed in every tier."""
    hit_rate: float
    """Between 0 and 1."""
    saved_usd: float
    """US dollars that the hits would have cost."""
    local: CacheTierReport
    """The tier in this process."""
    redis: CacheTierReport | None
    """The tier shared by the replicas; null when no Redis is configured."""


class CacheClearedResponse(_Body):
    """POST /api/v1/admin/cache/clear."""

    cleared: bool
    """Always true."""
    everywhere: bool
    """Whether Redis has been told, and with it all replicas; if not, repeat it. Without Redis: REPLICAS is 1."""
    generation: int
    """The number in every answer's key in Redis from now on."""


class Dependencies(_Body):
    """Optional dependencies: the service answers without them."""

    redis: DependencyStatus
    """Shared cache and budget."""
    kafka: DependencyStatus
    """Event delivery."""
    cache: CacheReport
    """Both cache tiers."""


class ProviderHealth(_Body):
    """One provider as /healthz shows it."""

    enabled: bool
    """Whether the operator has enabled it."""
    configured: bool
    """Whether its key (for a self-hosted model, its URL) is set."""
    available: bool
    """Whether it would be asked now."""
    circuit_breaker_state: CircuitState
    """State of its circuit breaker."""
    circuit_forced: bool
    """Whether the circuit is held in its state."""


class StatusResponse(_Body):
    """GET /livez and GET /readyz."""

    status: str
    """`alive`, `ready` or `not ready`."""


class HealthResponse(_Body):
    """GET /healthz, answered from known state."""

    service: str
    """Service name."""
    version: str
    """Version of the service, and of the build if it has a name: `0.1.0+4a268a94`."""
    status: HealthStatus
    """Overall status."""
    environment: str
    """As configured."""
    dependencies: Dependencies
    """The service answers without any of them."""
    providers: dict[ProviderName, ProviderHealth]
    """By name."""
    warnings: list[str]
    """What is wrong, in words."""


# --- Steering ---------------------------------------------------------------------------------------------------------


class SettingReport(_Body):
    """One setting in force."""

    name: str
    """The environment variable without its prefix, in lower case."""
    value: JsonValue
    """The value in force; a secret is masked."""
    environment_value: JsonValue
    """The value from the environment, in force again after a reset."""
    source: SettingSource
    """Where the value in force comes from."""
    changeable: bool
    """Whether it can be changed at run time."""


class SettingsResponse(_Body):
    """GET, PATCH and DELETE of /api/v1/admin/settings."""

    version: int
    """Increases with every change; also the ETag."""
    scope: UsageScope
    """`replica`: the other replicas do not have it (yet)."""
    settings: list[SettingReport]
    """In the order of docs/settings.md."""


class CircuitOrder(_Body, extra="forbid"):
    """PUT /api/v1/admin/circuits/{provider}."""

    state: ForcedState
    """The state to hold the circuit in."""
    reason: Reason
    """One line, publicly visible."""
    for_s: Annotated[float, Strict(), Field(gt=0, le=LONGEST_HOLD_S)] | None = None
    """Duration, seconds; null: until it is reset."""


class CircuitResponse(_Body):
    """A circuit and, if it is held, by whom."""

    provider: ProviderName
    """The circuit's provider."""
    circuit_breaker_state: CircuitState
    """State of the circuit breaker."""
    forced: bool
    """Whether it is held in its state."""
    reason: str | None
    """Why it is held."""
    actor: str | None
    """The administrator who holds it, or `service` after a refused key or exhausted credit."""
    expires_in_s: float | None
    """Seconds until it is released; null: until it is reset."""
    scope: UsageScope
    """`replica`: the other replicas do not have it (yet)."""


class CircuitsResponse(_Body):
    """GET /api/v1/admin/circuits."""

    circuits: list[CircuitResponse]
    """One per provider."""


class AlertsResetResponse(_Body):
    """POST /api/v1/admin/alerts/reset."""

    reset: bool
    """Always true."""
    everywhere: bool
    """Whether Redis has forgotten them as well; without Redis: whether REPLICAS is 1."""
    forgotten: int
    """Alerts that may be sent again."""


class AdminChange(_Body):
    """One entry of the audit log."""

    at: datetime
    """Time of the change, UTC."""
    actor: str
    """Who made it, and from which address."""
    action: AdminAction
    """What was done."""
    field: str | None
    """The setting or the provider; null for actions on the whole service."""
    old: JsonValue
    """The value before; never a secret."""
    new: JsonValue
    """The value after; never a secret."""
    request_id: UUID
    """The correlation id of the request."""


class ChangesResponse(RootModel[list[AdminChange]]):
    """GET /api/v1/admin/changes: the latest changes made through this process, newest first."""


# --- Events -----------------------------------------------------------------------------------------------------------


class ProcessingEvent(StrEnum):
    """The platform's names for our events.

    event_type: its name in the envelope and the header. topic: the same with the platform's prefix.
    """

    event_type: str
    topic: str

    LLM_REQUEST_STARTED = "llm_provider.request.started"
    LLM_REQUEST_COMPLETED = "llm_provider.request.completed"
    LLM_PROVIDER_FAILURE = "llm_provider.failure"
    LLM_CACHE_HIT = "llm_provider.cache.hit"
    LLM_CACHE_MISS = "llm_provider.cache.miss"
    LLM_USAGE_ANALYTICS = "llm_provider.usage.analytics"
    LLM_COST_ALERT = "llm_provider.cost.alert"
    LLM_COST_TRACKING = "llm_provider.cost.tracking"
    LLM_ADMIN_CHANGED = "llm_provider.admin.changed"

    def __init__(self, name: str) -> None:
        """Derive both from the name."""
        self.event_type = f"llm_provider.{name.removeprefix('llm_provider.').replace('.', '_')}.v1"
        self.topic = f"{TOPIC_PREFIX}{self.event_type}"


class EventDropReason(StrEnum):
    """Why an event was dropped. unknown_topic, auth: it expired while its topic did not exist or was not permitted."""

    OVERFLOW = "overflow"
    EXPIRED = "expired"
    TOO_LARGE = "too_large"
    UNKNOWN_TOPIC = "unknown_topic"
    AUTH = "auth"
    DEFECT = "defect"


class DegradedMode(StrEnum):
    """Ways to serve while impaired; each has a gauge, a warning and a runbook entry."""

    CACHE_LOCAL_ONLY = "cache_local_only"
    CACHE_READ_ONLY = "cache_read_only"
    EVENTS_BUFFERING = "events_buffering"
    EVENTS_DROPPING = "events_dropping"
    EVENTS_SPOOL_FAULT = "events_spool_fault"
    PROVIDER_OPEN = "provider_open"
    BUDGET_LOCAL = "budget_local"


class CostAlertType(StrEnum):
    """daily_limit, monthly_limit: a share of a limit, or the day's threshold; rate_spike: an unusually costly hour."""

    DAILY_LIMIT = "daily_limit"
    MONTHLY_LIMIT = "monthly_limit"
    RATE_SPIKE = "rate_spike"


@value_object
class EventData:
    """The payload of an event. In events about a request, metadata is the caller's own, verbatim."""

    event: ClassVar[ProcessingEvent]

    metadata: Mapping[str, Any] = field(default_factory=dict)


@value_object
class RequestEventData(EventData):
    """Common fields of the events about one request."""

    provider: ProviderName | None
    correlation_id: UUID


@value_object
class RequestStarted(RequestEventData):
    """A comparison was accepted. provider: the pinned one, if any. caller: the name of the key used."""

    event = ProcessingEvent.LLM_REQUEST_STARTED

    request_type: str
    user_id: str | None
    caller: str


@value_object
class RequestCompleted(RequestEventData):
    """A started comparison ended, in whatever way. token_usage: of the purchase that gave the answer.

    provider: who answered, or failed last; else the pinned one. error_message: the `error` of the response.

    cost_estimate: USD of all known purchases of this call, null when a price is unknown. An attempt that timed out or
    broke off, or whose answer could not be read, counts 0, though the provider may have billed it; so does a purchase
    that is still under way. It is 0 when the caller disconnected, whatever was bought for them. Cost tracking reports
    each purchase.
    """

    event = ProcessingEvent.LLM_REQUEST_COMPLETED

    request_type: str
    user_id: str | None
    caller: str
    success: bool
    response_time_ms: int
    error_message: str | None
    token_usage: TokenUsage | None
    cost_estimate: float | None
    cached: bool
    prompt_sha256: str | None


@value_object
class ProviderFailed(RequestEventData):
    """One candidate failed, after all its attempts."""

    event = ProcessingEvent.LLM_PROVIDER_FAILURE

    failure_type: ErrorCode
    error_details: str
    circuit_breaker_opened: bool


@value_object
class CacheHit(RequestEventData):
    """The answer was found in the cache."""

    event = ProcessingEvent.LLM_CACHE_HIT

    cache_key: str


@value_object
class CacheMiss(RequestEventData):
    """The answer was not found in the cache."""

    event = ProcessingEvent.LLM_CACHE_MISS

    cache_key: str


@value_object
class CostTracked(RequestEventData):
    """One purchase, published from inside the flight, so that it is billed once, however many requests share it.

    caller: the one it was made for; the others sharing it pay nothing. Of an attempt that timed out or broke off, or
    whose answer could not be read, there is none, though the provider may have billed it.

    model: as its provider names it; the requested one where it names none.

    request_timestamp: when the service turned to the provider, the same for all attempts; response_time_ms: of this
    attempt.
    """

    event = ProcessingEvent.LLM_COST_TRACKING

    model: str
    request_type: str
    cost_estimate_usd: float | None
    token_usage: TokenUsage
    user_id: str | None
    caller: str
    service_name: str
    request_timestamp: datetime
    response_time_ms: int
    cached: bool
    cache_cost_savings_usd: float
    prompt_sha256: str


@value_object
class ProviderUsage:
    """One provider in one window. requests: comparisons that ended there, cached and shared ones included.

    tokens and cost_usd count purchases only, so cache hits add nothing; purchases of unknown price are counted apart.
    """

    requests: int = 0
    successful: int = 0
    failed: int = 0
    purchases: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    purchases_of_unknown_price: int = 0
    average_response_time_ms: float | None = None


@value_object
class UsageReported(EventData):
    """One window of one process. provider_stats: by provider, `none` for requests that reached no provider.

    cache_hit_rate: over the look-ups; average_response_time_ms: over all requests; null without any.
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


@value_object
class CostAlerted(EventData):
    """Spending passed a threshold. Costs are US dollars; provider is null for the total.

    At a whole limit current_cost may be below the threshold: calls are refused before all of it is spent.
    """

    event = ProcessingEvent.LLM_COST_ALERT

    alert_type: CostAlertType
    provider: ProviderName | None
    current_cost: float
    threshold: float
    period: str


@value_object
class AdminChanged(EventData):
    """An administrator made a change; published once, by the replica that handled the request.

    field: the setting or the provider, null for actions on the whole service. request_id: the request's correlation id.
    The values never contain a secret.
    """

    event = ProcessingEvent.LLM_ADMIN_CHANGED

    actor: str
    action: AdminAction
    field: str | None
    old_value: JsonValue
    new_value: JsonValue
    request_id: UUID


@value_object
class EventEnvelope:
    """The envelope of every message. metadata: the trace context or null."""

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
    """Responses since the start of this process."""

    answers: int
    """Comparisons with a verdict."""
    errors: int
    """Error responses, except for unknown paths and methods and refused keys."""
    errors_by_type: dict[ErrorCode, int]
    """These errors by code, most frequent first."""
    coalesced: int
    """Answers that shared another request's purchase."""
    callers_left: int
    """Callers who disconnected before the response."""


class LatencyReport(_Body):
    """Latency of recent answers, cached ones included; null without any."""

    window_s: float
    """Length of the window, seconds."""
    answers: int
    """Answers in the window, the latest thousand at most."""
    median_ms: float | None
    """Median, milliseconds."""
    p95_ms: float | None
    """95th percentile, milliseconds."""
    slowest_ms: float | None
    """Maximum, milliseconds."""


class RecentError(_Body):
    """One error response, without its details, which may name what was sent."""

    at: datetime
    """Time of the error, UTC."""
    error_type: ErrorCode
    """Error code."""
    status: int
    """HTTP status."""
    error: str
    """What happened, in one sentence."""
    provider: ProviderName | None
    """The provider concerned, if any."""
    correlation_id: UUID
    """Identifies the request in the log."""


class SlotsReport(_Body):
    """The load of one bulkhead."""

    in_flight: int
    """Slots in use."""
    limit: int
    """Slots in total."""
    waiting: int
    """Calls queued for a slot."""


class ProviderSlotsReport(SlotsReport):
    """The load of one provider."""

    paused_s: float
    """Seconds left of a rate-limit pause; 0 without one."""


class SaturationReport(_Body):
    """The load of the service and of each provider."""

    service: SlotsReport
    """Comparisons."""
    providers: dict[ProviderName, ProviderSlotsReport]
    """Calls to each provider listed by /api/v1/providers."""


class EventsReport(_Body):
    """Event delivery since the start of this process."""

    kafka: DependencyStatus
    """State of Kafka."""
    buffering: str | None
    """What the events are waiting for, in a word; null while they are being sent."""
    published: int
    """Events accepted for sending."""
    waiting: int
    """Events not yet acknowledged."""
    oldest_s: float
    """Age of the oldest event not yet acknowledged, seconds."""
    delivered: int
    """Events acknowledged by Kafka."""
    dropped: int
    """Events dropped."""
    dropped_by_reason: dict[EventDropReason, int]
    """Dropped events by reason."""


class PeriodMoney(_Body):
    """Spending in one UTC day or month."""

    period: str
    """The day or the month, in ISO 8601."""
    spent_usd: float
    """US dollars spent; a call of unknown price counts as what it may have cost."""
    limit_usd: float | None
    """The limit; null without one."""
    left_usd: float | None
    """US dollars that can still be reserved; null without a limit."""


class MoneyReport(_Body):
    """Spending as counted against the limits."""

    scope: UsageScope
    """What the spending covers."""
    day: PeriodMoney
    """Today."""
    month: PeriodMoney
    """This month."""


class OperationsResponse(_Body):
    """GET /api/v1/operations: the current state of this process, without any I/O."""

    started_at: datetime
    """Start time, UTC."""
    uptime_s: float
    """Seconds since the start."""
    mock_judges: bool
    """Whether the mock judges: no verdict is real."""
    draining: bool
    """Whether the service is stopping."""
    degraded_modes: list[DegradedMode]
    """Degraded modes in force."""
    tasks_down: list[str]
    """Background tasks that died and await their restart."""
    traffic: TrafficReport
    """Answers and errors."""
    latency: LatencyReport
    """How long answers take."""
    recent_errors: list[RecentError]
    """The latest fifty, newest first."""
    saturation: SaturationReport
    """Load against capacity."""
    events: EventsReport
    """Event delivery to Kafka."""
    money: MoneyReport
    """Spent and left."""
