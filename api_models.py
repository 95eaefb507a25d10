"""Everything another service can see: HTTP bodies, event payloads and the enums in them.

Pydantic validates what comes from outside; what we send is built from the same models, so that
this file is the whole published vocabulary. It knows nothing of how an answer comes about.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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
)
from pydantic_core import PydanticCustomError

MAX_METADATA_BYTES = 16 * 1024
TOPIC_PREFIX = "huleedu."
MODEL_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$"
MAX_REASON_CHARACTERS = 200
# Controls, other ends of lines, and what turns the direction of writing: a reason is read in logs and on pages.
UNSHOWABLE = r"[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
LONGEST_HOLD_S = 30 * 86_400
MAX_PLACEHOLDER_USES = 4  # each use is a copy of an essay
PLACEHOLDERS = ("{essay_a}", "{essay_b}")
SMALLEST_INTEGER, LARGEST_INTEGER = -(1 << 63), (1 << 64) - 1  # what a body may hold

JsonObject = dict[str, Any]

# --- What the published schema says beside the types ------------------------------------------------------------------

WITHOUT_NUL = r"^[^\x00]*$"
NOT_BLANK = r"^[^\x00]*[^\s\x00][^\x00]*$"
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


ANONYMOUS, ADMIN = "anonymous", "admin"  # who asks, when no key is asked for, and when it is the administrator's


class Door(StrEnum):
    """What a key opens."""

    CALLER = "caller"
    ADMIN = "admin"


class CallerOutcome(StrEnum):
    """What became of a caller's request: answered, refused (4xx), failed (5xx), or the caller left."""

    SUCCESS = "success"
    REFUSED = "refused"
    FAILED = "failed"
    LEFT = "left"


class AccessRefusal(StrEnum):
    """Why somebody was not let in."""

    NO_KEY = "no_key"
    WRONG_KEY = "wrong_key"
    ADDRESS = "address"
    TOO_OFTEN = "too_often"


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


class ForcedState(StrEnum):
    """In which state an administrator holds a circuit."""

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


Reason = Annotated[
    Text,
    Field(max_length=MAX_REASON_CHARACTERS, json_schema_extra={"not": {"pattern": UNSHOWABLE}}),
    AfterValidator(_one_line),
]


# Our own answers on the path of a comparison are no models: nobody validates what we say.
TOLD = ConfigDict(use_attribute_docstrings=True, json_schema_serialization_defaults_required=True)


class _Body(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class LLMConfigOverrides(_Body):
    """What the caller wishes to decide; null means "not given"."""

    provider_override: ProviderName | None = None
    """Who must judge. A named provider answers or the request fails, unless allow_fallback is true."""
    model_override: ModelId | None = None
    """The model's id. Without provider_override exactly one enabled provider must list it."""
    temperature_override: Annotated[float, Strict(), Field(ge=0, le=2)] | None = None
    """Left out, and named in dropped_parameters, for a model that takes none."""
    system_prompt_override: Text | None = None
    """Replaces the judge's instructions; the rules about essays and output are always added."""
    max_tokens_override: Annotated[StrictInt, Field(gt=0, le=LARGEST_INTEGER)] | None = None
    """The most tokens of the answer; written without a fraction."""
    reasoning_effort_override: ReasoningEffort | None = None
    """How much the model may think, if it can."""
    allow_fallback: StrictBool | None = None
    """Whether others may be asked when the named provider fails."""


class ComparisonRequest(_Body):
    """One pair of essays to be judged. Unknown fields are ignored."""

    user_prompt: Annotated[Text, AfterValidator(_placeholders_in_pairs), Field(json_schema_extra=IN_PAIRS)]
    """The task and the criteria. It may hold {essay_a} and {essay_b}, both or neither, each at most four times."""
    essay_a: Text
    """The essay that is shown first, not blank."""
    essay_b: Text
    """The essay that is shown second, not blank."""
    llm_config_overrides: LLMConfigOverrides | None = None
    """What is not left to the service."""
    correlation_id: UUID | None = None
    """Comes back everywhere; without it the header X-Correlation-ID counts, else it is made."""
    user_id: Annotated[StrictStr, Field(max_length=1_000, json_schema_extra={"pattern": WITHOUT_NUL})] | None = None
    """Goes into events. At most 1,000 characters."""
    metadata: Annotated[JsonObject, AfterValidator(_small_enough)] = {}
    """At most 16 KiB of JSON; comes back verbatim, in the answer and in events."""
    replicate: Annotated[StrictInt, Field(ge=0, le=LARGEST_INTEGER)] = 0
    """The index of an independent judgement of the same question; written without a fraction, as 1 and not as 1.0."""


# --- POST /api/v1/comparison: the answer ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens as the provider counted them; cached prompt tokens are part of the prompt tokens."""

    __pydantic_config__ = TOLD

    prompt_tokens: int
    """Of the question."""
    completion_tokens: int
    """Of the answer, reasoning included."""
    total_tokens: int
    """Both together."""
    cached_prompt_tokens: int
    """The part of prompt_tokens that the provider had cached."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReport:
    """One call to a provider that this request caused."""

    __pydantic_config__ = TOLD

    provider: ProviderName
    """Who was asked."""
    model: str
    """The model that was asked."""
    outcome: AttemptOutcome
    """How it ended."""
    duration_ms: int
    """Milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a verdict comes from, so that it can be repeated and audited."""

    __pydantic_config__ = TOLD

    prompt_sha256: str
    """SHA-256 over system and user prompt as sent."""
    prompt_version: str
    """The version of the service's own prompt text."""
    replicate: int
    """As asked."""
    requested_provider: ProviderName | None
    """Who was named, null when it was left to the service."""
    fallback_used: bool
    """Whether somebody else answers than who was asked first."""
    coalesced: bool
    """Whether the answer was bought by an identical request that ran at the same time."""
    dropped_parameters: list[str]
    """Overrides that the model does not take."""
    attempts: list[AttemptReport]
    """Every call to a provider that this request caused, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonResponse:
    """The verdict on one pair. cost_estimate is USD for this call, null when the price is unknown."""

    __pydantic_config__ = TOLD

    winner: Winner
    """The better essay; there is no tie."""
    justification: str
    """Why, in the judge's words."""
    confidence: Annotated[float, Field(ge=1, le=5)]
    """1 is a guess, 5 is certain."""
    provider: ProviderName
    """Who answered."""
    model: str
    """The model that answered."""
    response_time_ms: int
    """Milliseconds in this service."""
    cached: bool
    """Whether the answer was known."""
    token_usage: TokenUsage
    """Of the purchase; of the original one when the answer was cached or shared."""
    cost_estimate: float | None
    """US dollars for this call: 0 when cached, shared or judged by the mock, null when the price is unknown."""
    correlation_id: UUID
    """The one of this request."""
    trace_id: str | None
    """Of the distributed trace, when there is one."""
    metadata: JsonObject
    """As sent."""
    provenance: Provenance
    """Where the verdict comes from."""


class ErrorBody(_Body):
    """Every answer that is not a 2xx. retry_after (seconds) equals the Retry-After header."""

    error: str
    """What happened, in one sentence."""
    error_type: ErrorCode
    """What to decide by."""
    details: str
    """Which field, or what to do."""
    correlation_id: UUID
    """To be found in the service's log."""
    retry_after: int | None = None
    """Seconds until it is worth trying again; equals the header Retry-After."""
    provider: ProviderName | None = None
    """Who failed, when one did."""
    trace_id: str | None = None
    """The trace of this request, 32 hex digits, when it has one."""


# --- Routing ----------------------------------------------------------------------------------------------------------


class RoutingRule(BaseModel):
    """Prefers a provider, and perhaps a model, for queries that meet all conditions."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    metadata: dict[str, StrictStr | StrictInt | StrictBool] = {}
    """What the caller's metadata must hold."""
    user_id: StrictStr | None = None
    """Whose queries."""
    min_characters: Annotated[StrictInt, Field(ge=0)] | None = None
    """The least size of task and essays."""
    max_characters: Annotated[StrictInt, Field(ge=0)] | None = None
    """The largest size of them."""
    provider: ProviderName
    """Who is preferred."""
    model: ModelId | None = None
    """Which model there; null: the provider's default."""


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
    """When, UTC."""
    success: bool
    """Whether the provider answered."""
    message: str
    """What it found."""


class ProviderReport(_Body):
    """One provider as the dashboards see it. Times are UTC; counts since the start or since midnight UTC."""

    name: ProviderName
    """Who it is."""
    enabled: bool
    """Whether the operator wants it."""
    configured: bool
    """Whether key or address are there."""
    available: bool
    """Whether it would be asked now."""
    circuit_breaker_state: CircuitState
    """Whether calls pass."""
    circuit_forced: bool
    """Whether somebody holds the circuit in its state."""
    default_model: str
    """Asked when nobody names a model."""
    last_success: datetime | None
    """UTC, null before the first."""
    last_failure: datetime | None
    """UTC, null before the first."""
    failure_count: int
    """Failed calls since the start."""
    average_response_time_ms: float | None
    """Milliseconds, null before the first."""
    in_flight: int
    """Calls that run now."""
    requests_today: int
    """Calls since midnight UTC."""
    cost_today_usd: float
    """US dollars since midnight UTC."""
    reason: str | None
    """Why it is left alone, null when it is not."""
    last_probe: ProbeReport | None
    """The last free look-up, null before the first."""


class ProvidersResponse(_Body):
    """GET /api/v1/providers, in priority order."""

    providers: list[ProviderReport]
    """In priority order."""
    default_provider: ProviderName
    """Who is asked first under the strategy priority."""
    selection_strategy: SelectionStrategy
    """How they are ranked when nobody is named."""
    total_requests_today: int
    """All calls since midnight UTC."""
    total_cost_today: float
    """US dollars since midnight UTC."""
    scope: UsageScope
    """Whose requests and costs these are."""


class UsagePeriod(StrEnum):
    """The days that a summary covers, UTC."""

    TODAY = "today"
    YESTERDAY = "yesterday"
    MONTH = "month"
    LAST_7_DAYS = "7d"


class UsageFigures(_Body):
    """Calls to providers and how they ended, tokens, US dollars; savings are what cached answers would have cost."""

    requests: int
    """Calls to providers."""
    successes: int
    """Those that gave a verdict."""
    failures: int
    """Those that gave none."""
    prompt_tokens: int
    """Of the questions."""
    completion_tokens: int
    """Of the answers."""
    cost_usd: float
    """US dollars spent."""
    unpriced_purchases: int
    """Calls whose price is unknown; their cost is not in cost_usd."""
    cache_hits: int
    """Answers that were known."""
    saved_usd: float
    """US dollars that those would have cost."""


class ModelUsage(_Body):
    """One model's share."""

    provider: ProviderName
    """Whose model."""
    model: str
    """Its id."""
    usage: UsageFigures
    """Its figures."""


class UsageSummaryResponse(_Body):
    """GET /api/v1/usage/summary."""

    scope: UsageScope
    """Whose figures these are."""
    period: UsagePeriod
    """As asked."""
    first_day: date
    """UTC."""
    last_day: date
    """UTC, included."""
    total: UsageFigures
    """Everything together."""
    by_provider: dict[ProviderName, UsageFigures]
    """Only those that were asked."""
    by_model: list[ModelUsage]
    """Only those that were asked."""


class ProviderTestResponse(_Body):
    """POST /api/v1/providers/{provider}/test."""

    success: bool
    """Whether it answered well."""
    provider: ProviderName
    """Who was tried."""
    message: str
    """What happened, in our own words."""
    response_time_ms: int
    """Milliseconds."""
    model: str | None
    """The model that judged, null for a look-up."""


class ModelPrices(_Body):
    """US dollars for a million tokens today; long prompts may cost more."""

    input: float
    """Prompt tokens."""
    cached_input: float
    """Prompt tokens that the provider had cached."""
    cache_write: float
    """Prompt tokens that it puts into its cache."""
    output: float
    """Completion tokens."""


class ModelReport(_Body):
    """One model of the catalogue. reasoning_efforts: the overrides that it takes; prices: null when unknown."""

    id: str
    """What model_override names."""
    provider: ProviderName
    """Whose model it is."""
    tier: ModelTier | None
    """For little money, for the best judgement, or null."""
    is_default: bool
    """Whether it is asked when nobody names a model."""
    context_tokens: int | None
    """The window, null when unknown."""
    max_output_tokens: int | None
    """The most that it writes, null when unknown."""
    temperature: TemperatureUse
    """When it takes one."""
    reasoning_efforts: list[ReasoningEffort]
    """The values of reasoning_effort_override that it takes."""
    min_cacheable_tokens: int | None
    """The shortest beginning of a prompt that the provider caches, null when unknown."""
    deprecated_on: date | None
    """When the vendor withdraws it, null when unknown."""
    prices_usd_per_million_tokens: ModelPrices | None
    """Of today, null when unknown."""


class ModelsResponse(_Body):
    """GET /api/v1/models, in priority order of the providers."""

    models: list[ModelReport]
    """In priority order of the providers."""


class CacheReport(_Body):
    """The cache as /healthz shows it."""

    cache_mode: CacheMode
    """How much of it works."""
    local_cache_available: bool
    """The tier in this process."""
    redis_available: bool
    """The tier that replicas share."""
    redis_failure_count: int
    """Since the start."""


class CacheTierReport(_Body):
    """One tier since the start of this process; null where the tier does not tell."""

    hits: int
    """Found."""
    misses: int
    """Not found."""
    hit_rate: float
    """Between 0 and 1."""
    stores: int
    """Answers kept."""
    evictions: int | None
    """Answers that had to make room."""
    entries: int | None
    """Answers held now."""
    size_bytes: int | None
    """Bytes held now."""


class CacheStatsResponse(_Body):
    """GET /api/v1/cache/stats: this process since its start; saved_usd is what the hits would have cost."""

    cache_mode: CacheMode
    """How much of it works."""
    generation: int
    """How often it was cleared."""
    hits: int
    """Found in any tier."""
    misses: int
    """Found in none."""
    hit_rate: float
    """Between 0 and 1."""
    saved_usd: float
    """US dollars."""
    local: CacheTierReport
    """The tier in this process."""
    redis: CacheTierReport | None
    """The tier that replicas share, null when none is configured."""


class CacheClearedResponse(_Body):
    """POST /api/v1/admin/cache/clear; everywhere is false while Redis is away: the other replicas are told later.

    Without any Redis it is true of a single replica only (REPLICAS).
    """

    cleared: bool
    """Always true."""
    everywhere: bool
    """Whether the other replicas know already."""
    generation: int
    """The number that every key holds from now on."""


class Dependencies(_Body):
    """What the service leans on; none of it is needed to answer."""

    redis: DependencyStatus
    """Shared cache and money."""
    kafka: DependencyStatus
    """Events."""
    cache: CacheReport
    """Both tiers."""


class ProviderHealth(_Body):
    """One provider as /healthz shows it."""

    enabled: bool
    """Whether the operator wants it."""
    configured: bool
    """Whether key or address are there."""
    available: bool
    """Whether it would be asked now."""
    circuit_breaker_state: CircuitState
    """Whether calls pass."""
    circuit_forced: bool
    """Whether somebody holds the circuit in its state."""


class StatusResponse(_Body):
    """GET /livez and GET /readyz."""

    status: str
    """One word or two."""


class HealthResponse(_Body):
    """GET /healthz, answered from known state."""

    service: str
    """Its name."""
    version: str
    """Its version."""
    status: HealthStatus
    """All in all."""
    environment: str
    """As configured."""
    dependencies: Dependencies
    """None of them is needed to answer."""
    providers: dict[ProviderName, ProviderHealth]
    """By name."""
    warnings: list[str]
    """What is not well, in words."""


# --- Steering ---------------------------------------------------------------------------------------------------------


class SettingReport(_Body):
    """One setting as it is in force."""

    name: str
    """As in the environment, without the prefix and in lower case."""
    value: JsonValue
    """In force now; of a secret only that it is set."""
    environment_value: JsonValue
    """What it returns to."""
    source: SettingSource
    """Who decided."""
    changeable: bool
    """Whether it may change at run time."""


class SettingsResponse(_Body):
    """GET, PATCH and DELETE of /api/v1/admin/settings."""

    version: int
    """Grows with every change; also the ETag."""
    scope: UsageScope
    """`replica` when the others do not know (yet)."""
    settings: list[SettingReport]
    """In the order of the documentation."""


class CircuitOrder(BaseModel):
    """PUT /api/v1/admin/circuits/{provider}."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    state: ForcedState
    """The state in which it is held."""
    reason: Reason
    """One line, shown to everybody."""
    for_s: Annotated[float, Strict(), Field(gt=0, le=LONGEST_HOLD_S)] | None = None
    """Seconds; null: until it is reset."""


class CircuitResponse(_Body):
    """A circuit, and who holds it in its state."""

    provider: ProviderName
    """Whose circuit."""
    circuit_breaker_state: CircuitState
    """Whether calls pass."""
    forced: bool
    """Whether somebody holds it."""
    reason: str | None
    """Why it is held."""
    actor: str | None
    """An administrator, or `service` itself for a key or an account."""
    expires_in_s: float | None
    """Seconds; null: until it is reset."""
    scope: UsageScope
    """`replica` when the others do not know (yet)."""


class CircuitsResponse(_Body):
    """GET /api/v1/admin/circuits."""

    circuits: list[CircuitResponse]
    """One for each provider."""


class AlertsResetResponse(_Body):
    """POST /api/v1/admin/alerts/reset."""

    reset: bool
    """Always true."""
    everywhere: bool
    """Whether Redis forgot them, too; without any, whether there is no other replica (REPLICAS)."""
    forgotten: int
    """Alerts that may be told again."""


class AdminChange(_Body):
    """One change as it was audited."""

    at: datetime
    """UTC."""
    actor: str
    """Who, and from which address."""
    action: AdminAction
    """What was done."""
    field: str | None
    """A setting or a provider, null for acts on the whole service."""
    old: JsonValue
    """The value before, without secrets."""
    new: JsonValue
    """The value after, without secrets."""
    request_id: UUID
    """The correlation id of the request."""


class ChangesResponse(RootModel[list[AdminChange]]):
    """GET /api/v1/admin/changes: the latest of this process, the newest first."""


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
    LLM_ADMIN_CHANGED = "llm_provider.admin.changed"

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


class RejectReason(StrEnum):
    """What was wrong with a request that was turned away before anybody was asked."""

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
    """Why a request found no place: too many wait, none became free in time, no memory is left, the service stops."""

    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    MEMORY = "memory"
    STOPPING = "stopping"


class RequestPhase(StrEnum):
    """What is done for a caller: his body is read, or his answer is in the making."""

    READING = "reading"
    ANSWERING = "answering"


class DegradedMode(StrEnum):
    """What may be amiss while the service serves: each is a gauge, a warning and a line of the runbook."""

    CACHE_LOCAL_ONLY = "cache_local_only"
    CACHE_READ_ONLY = "cache_read_only"
    EVENTS_BUFFERING = "events_buffering"
    EVENTS_DROPPING = "events_dropping"
    PROVIDER_OPEN = "provider_open"
    BUDGET_LOCAL = "budget_local"


class HoldReason(StrEnum):
    """Why a circuit is held: the provider refused our key or our credit is used up, or an operator wanted it."""

    AUTHENTICATION = "authentication"
    QUOTA = "quota"
    OPERATOR = "operator"


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
    """A comparison was accepted; provider is the pinned one, caller the name of the key that was shown."""

    event = ProcessingEvent.LLM_REQUEST_STARTED

    request_type: str
    user_id: str | None
    caller: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCompleted(RequestEventData):
    """A started comparison ended, however it ended; cost_estimate is USD of this call, null when unknown.

    When the caller left it is 0, whatever was bought for him: each purchase is told in cost tracking.
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
    """One purchase, published from inside the flight, so that it is billed once whoever waits for it.

    caller: for whom it was made; others who wait for it pay nothing.
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
class AdminChanged(EventData):
    """An administrator changed something; told once, by the replica that was asked. request_id: its correlation id.

    field: the setting or the provider, null for acts on the whole service. Values never hold a secret.
    """

    event = ProcessingEvent.LLM_ADMIN_CHANGED

    actor: str
    action: AdminAction
    field: str | None
    old_value: JsonValue
    new_value: JsonValue
    request_id: UUID


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
    """What callers were told since the start of this process."""

    answers: int
    """Comparisons with a verdict."""
    errors: int
    """Errors, but for paths and methods that do not exist."""
    errors_by_type: dict[ErrorCode, int]
    """The same by their code, the most frequent first."""
    coalesced: int
    """Answers that shared somebody else's purchase."""
    callers_left: int
    """Callers who left before the answer."""


class LatencyReport(_Body):
    """How long the latest answers took, known ones among them; null when there were none."""

    window_s: float
    """So many seconds are looked back."""
    answers: int
    """In that time, the latest thousand at most."""
    median_ms: float | None
    """Half of them took no longer."""
    p95_ms: float | None
    """95 of 100 took no longer."""
    slowest_ms: float | None
    """None took longer."""


class RecentError(_Body):
    """One error that a caller was told, without its details, which may name what was sent."""

    at: datetime
    """When, UTC."""
    error_type: ErrorCode
    """Its code."""
    status: int
    """Its HTTP status."""
    error: str
    """Its sentence."""
    provider: ProviderName | None
    """Whom it is about."""
    correlation_id: UUID
    """Finds the request in the log."""


class PlacesReport(_Body):
    """How full something is."""

    in_flight: int
    """Places that are taken."""
    limit: int
    """Places that there are."""
    waiting: int
    """Who waits for one."""


class ProviderPlacesReport(PlacesReport):
    """How full one provider is."""

    paused_s: float
    """Seconds until it is called again after it throttled; 0 when it may be."""


class SaturationReport(_Body):
    """How full the service is, and each of its providers."""

    service: PlacesReport
    """Comparisons."""
    providers: dict[ProviderName, ProviderPlacesReport]
    """Calls to each provider of the priority order."""


class EventsReport(_Body):
    """What became of the events since the start of this process."""

    kafka: DependencyStatus
    """Whether Kafka takes them."""
    buffering: str | None
    """What they wait for, in a word; null while they are sent."""
    published: int
    """Taken for sending."""
    waiting: int
    """Not yet acknowledged."""
    oldest_s: float
    """Seconds for which the oldest of these waits."""
    delivered: int
    """Acknowledged by Kafka."""
    dropped: int
    """Given up."""
    dropped_by_reason: dict[EventDropReason, int]
    """The same by reason."""


class PeriodMoney(_Body):
    """US dollars of one UTC day or month."""

    period: str
    """The day or the month, as ISO 8601 has it."""
    spent_usd: float
    """Spent; a call of unknown price counts what it may have cost."""
    limit_usd: float | None
    """The limit, null without one."""
    left_usd: float | None
    """What may still be put aside, null without a limit."""


class MoneyReport(_Body):
    """What counts against the limits."""

    scope: UsageScope
    """Whose spending is known."""
    day: PeriodMoney
    """Today."""
    month: PeriodMoney
    """This month."""


class OperationsResponse(_Body):
    """GET /api/v1/operations: this process as it is now, from known state."""

    started_at: datetime
    """When it was started, UTC."""
    uptime_s: float
    """Seconds since then."""
    mock_judges: bool
    """Whether the mock judges: no verdict is real."""
    draining: bool
    """Whether it is stopping."""
    degraded_modes: list[DegradedMode]
    """How it goes on without what is missing."""
    tasks_down: list[str]
    """Background tasks that died and are started again."""
    traffic: TrafficReport
    """Answers and errors."""
    latency: LatencyReport
    """How long answers take."""
    recent_errors: list[RecentError]
    """The latest fifty, the newest first."""
    saturation: SaturationReport
    """How full it is."""
    events: EventsReport
    """The way to Kafka."""
    money: MoneyReport
    """Spent and left."""
