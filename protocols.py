"""The data classes that modules exchange (nouns) and the protocols they implement (verbs).

Data classes are read-only (decision 17), except `Account`, `Reservation` and `ProviderActivity`. A `ProviderRequest` is
complete: in its parameters `None` means "not sent". Implementations conform structurally; mypy checks that in `di.py`.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from operator import add
from typing import Annotated, Any, NamedTuple, Protocol, Self, TypeVar
from uuid import UUID

import orjson
from pydantic import Field, JsonValue

from api_models import (
    ANONYMOUS,
    LARGEST_INT64,
    AdminAction,
    AdminChange,
    AlertsResetResponse,
    AttemptOutcome,
    CacheClearedResponse,
    CacheMode,
    CacheOutcome,
    CacheStatsResponse,
    CircuitOrder,
    CircuitResponse,
    CircuitState,
    DegradedMode,
    DependencyStatus,
    ErrorCode,
    EventData,
    LatencyReport,
    ModelTier,
    MoneyReport,
    ProviderName,
    ProviderTestResponse,
    Purchase,
    ReasoningEffort,
    RecentError,
    RoutingRule,
    SelectionStrategy,
    SettingsResponse,
    TemperatureUse,
    UnknownPrice,
    Usage,
    UsageScope,
    Winner,
)
from exceptions import ServiceError
from value_object import value_object

T = TypeVar("T")
KEPT_CHARACTERS = 16_384  # of a text kept between requests

AttributeValue = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, AttributeValue]

TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]{0,200})?")
LONGEST_TRACESTATE = 512
KNOWN_FLAGS = 3  # sampled, random; W3C requires the others to be dropped


# --- Nouns: a question ------------------------------------------------------------------------------------------------


class CacheUse(StrEnum):
    """What the caller's Cache-Control asks for."""

    NORMAL = "normal"
    REFRESH = "no-cache"
    BYPASS = "no-store"
    ONLY = "only-if-cached"
    NOTHING = "only-if-cached, no-store"

    @property
    def reads(self) -> bool:
        """Whether a cached answer may be used."""
        return self in {CacheUse.NORMAL, CacheUse.ONLY}

    @property
    def buys(self) -> bool:
        """Whether a provider may be asked."""
        return self not in {CacheUse.ONLY, CacheUse.NOTHING}

    @property
    def writes(self) -> bool:
        """Whether the answer may be cached."""
        return self is not CacheUse.BYPASS


@value_object
class ComparisonQuery:
    """The caller's request; what is `None` is left to us.

    caller: the name of the key used, for accounting; not part of the question. In seconds: timeout_s, the caller's own
    limit; reading_s, the time from the headers to the complete query, which counts towards the request's time.
    """

    user_prompt: str
    essay_a: str
    essay_b: str
    correlation_id: UUID
    provider: ProviderName | None = None
    model: str | None = None
    temperature: float | None = None
    system_prompt: str | None = None
    max_tokens: int | None = None
    reasoning_effort: ReasoningEffort | None = None
    allow_fallback: bool = False
    user_id: str | None = None
    caller: str = ANONYMOUS
    metadata: Mapping[str, Any] = field(default_factory=dict)
    replicate: int = 0
    cache_use: CacheUse = CacheUse.NORMAL
    timeout_s: float | None = None
    reading_s: float = 0.0

    @property
    def characters(self) -> int:
        """Length of task and essays."""
        return len(self.user_prompt) + len(self.essay_a) + len(self.essay_b)

    @property
    def size_bytes(self) -> int:
        """Size of task and essays in UTF-8."""
        return sum(len(text.encode()) for text in (self.user_prompt, self.essay_a, self.essay_b))


BYTES_PER_TOKEN = 4  # of UTF-8, where nothing better is known: for any script a better guess than by characters


class PromptProtocol(Protocol):
    """The question as text. A cache hit needs only the identity, so the text is rendered lazily."""

    @property
    def version(self) -> str:
        """Version of the layout."""
        ...

    @property
    def identity(self) -> Sequence[str]:
        """The parts that determine the whole text, for comparing two prompts."""
        ...

    @property
    def essays(self) -> tuple[str, str]:
        """The plain essays, for a judge that does not send the prompt."""
        ...

    @property
    def system(self) -> str:
        """The complete system text."""
        ...

    @property
    def lead(self) -> str:
        """The caller's task up to the first essay: with the system text, the prefix that many questions share."""
        ...

    @property
    def user_text(self) -> str:
        """The user message: the lead, the blocks of the first and the second essay, the closing line."""
        ...

    @property
    def sha256(self) -> str:
        """Hex digest over the system and the user text, each preceded by its length."""
        ...

    @property
    def size_bytes(self) -> int:
        """Size of system and user text in UTF-8, with their length prefixes."""
        ...


@value_object
class MockKnobs:
    """The mock judge's settings. error_rate and position_bias are shares from 0 to 1, latencies milliseconds."""

    seed: int
    error_rate: float
    latency_ms: int
    latency_jitter_ms: int
    position_bias: float


@value_object
class ProviderRequest:
    """One complete question to one model.

    max_tokens_limit: the most that max_tokens may be raised to. reasoning: the effort, in the model's own vocabulary.
    marks_prefix: whether the stable prefix is long enough for the provider to cache; only Anthropic wants it marked.
    mock: the mock's settings, None for real judges. base_url: of the server that is asked; another one may know a
    different model by the same name.
    """

    provider: ProviderName
    base_url: str | None = None
    model: str
    prompt: PromptProtocol
    max_tokens: int
    max_tokens_limit: int
    temperature: float | None
    reasoning: str | None
    marks_prefix: bool = False
    verdict_schema: str
    replicate: int
    mock: MockKnobs | None = None

    def fingerprint(self) -> str:
        """SHA-256, in hex, over all fields: the key under which answers are cached and shared."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["prompt"] = self.prompt.identity
        return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()


@value_object
class Choice:
    """A provider to ask, and the requested model; None leaves it to the settings."""

    provider: ProviderName
    model: str | None = None


class TimeShare(StrEnum):
    """How much of the time left one candidate gets, retries included, by what the candidates after it may do."""

    ALL = "all"  # there are none
    MOST = "most"  # they may have the answer in their cache
    HALF = "half"  # they may be asked


@value_object
class Candidate:
    """A provider that may be asked, with its request.

    dropped_parameters: the overrides that its model does not accept. is_fallback: it is not the first choice.
    may_be_asked: whether a call that comes after this many seconds, with as many left, would pass its circuit and its
    pause, as far as known. window_tokens: its model's context window, None if unknown.
    """

    request: ProviderRequest
    provider: "LLMProviderProtocol"
    dropped_parameters: tuple[str, ...]
    is_fallback: bool
    may_be_asked: Callable[[float], bool]
    window_tokens: int | None

    def holds_more_than(self, other: "Candidate") -> bool:
        """Whether a question too long for the other may fit here; not if only the other's window is known."""
        return other.window_tokens is None or (self.window_tokens or 0) > other.window_tokens


# --- Nouns: an answer -------------------------------------------------------------------------------------------------


@value_object
class Verdict:
    """Which essay is better, why, and how sure the judge is: 1.0 (a guess) to 5.0 (certain)."""

    winner: Winner
    justification: str
    confidence: Annotated[float, Field(ge=1, le=5)]


class FinishReason(StrEnum):
    """How a model's answer came to its end, in the common vocabulary of all dialects."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"
    WINDOW_FULL = "window_full"
    PROMPT_CUT = "prompt_cut"  # it answered, but had read only a part of the prompt
    REFUSED = "refused"
    ACCOUNT_REFUSED = "account_refused"
    INTERRUPTED = "interrupted"  # by the server, which paused or stopped
    UNEXPECTED = "unexpected"


@value_object
class Completion:
    """A model's output, not yet parsed as a verdict. model: the provider's name for it. cost_usd: if reported."""

    text: str
    finish_reason: FinishReason
    model: str
    usage: Usage
    cost_usd: float | None = None


@value_object
class ProviderReply:
    """One model's verdict and the purchase behind it. prompt_sha256: of the prompt that it answers."""

    verdict: Verdict
    provider: ProviderName
    purchase: Purchase
    prompt_sha256: str


@value_object
class CachedReply:
    """A reply bought earlier, and its age in seconds."""

    reply: ProviderReply
    age_s: float


@value_object
class Attempt:
    """One call to a provider made for a request. purchase: what was billed, priced; None if nothing was.

    provider_request_id: the provider's own name for the call, None if it gave none.
    """

    provider: ProviderName
    model: str
    outcome: AttemptOutcome
    duration_s: float
    purchase: Purchase | None
    provider_request_id: str | None = None

    @property
    def in_words(self) -> str:
        """Provider, outcome, duration and the provider's own id, for people."""
        named = f" ({self.provider_request_id})" if self.provider_request_id else ""
        return f"{self.provider}: {self.outcome} after {self.duration_s * 1000:.0f} ms{named}"


@value_object
class Answer:
    """A candidate's reply and where it came from; age_s: set on a cache hit."""

    candidate: Candidate
    reply: ProviderReply
    outcome: CacheOutcome
    age_s: float | None = None


@value_object
class Timings:
    """Where a request's time went, in seconds. upstream: at providers.

    queued: waiting for admission, for the end of a provider's pause and for a slot there.
    """

    total_s: float
    cache_s: float
    queued_s: float
    upstream_s: float


@value_object
class ComparisonResult:
    """An answered query. cost_usd: of this call's own attempts, failed ones too; None when a price is unknown."""

    reply: ProviderReply
    cost_usd: float | None
    cache_outcome: CacheOutcome
    age_s: float | None
    prompt_version: str
    fallback_used: bool
    dropped_parameters: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    timings: Timings

    @property
    def cached(self) -> bool:
        """Whether the answer came from the cache."""
        return self.cache_outcome is CacheOutcome.HIT

    @property
    def coalesced(self) -> bool:
        """Whether the answer is another request's purchase."""
        return self.cache_outcome is CacheOutcome.COALESCED


# --- Nouns: models and prices -----------------------------------------------------------------------------------------


TokenLimit = Annotated[int, Field(gt=0, le=LARGEST_INT64)]


@value_object
class ModelTraits:
    """What is known about one model; the defaults are the conservative ones for an unknown model.

    context_tokens, max_output_tokens: its limits, in tokens. efforts: the model's own word for each effort; an empty
    word means that this is its default and nothing is sent. max_temperature: the highest that it accepts, where it
    accepts any. min_cacheable_tokens: the shortest prefix that its provider caches.
    """

    tier: ModelTier | None = None
    context_tokens: TokenLimit | None = None
    max_output_tokens: TokenLimit | None = None
    temperature: TemperatureUse = TemperatureUse.NEVER
    max_temperature: float = 2.0
    efforts: Mapping[ReasoningEffort, str] = field(default_factory=dict)
    min_cacheable_tokens: TokenLimit | None = None
    deprecated_on: date | None = None


RATED_TOKENS = 1_000_000  # so many tokens cost what a rate says
COST_DIGITS = 12  # of a cost in US dollars, because listed rates have six


@value_object
class Rates:
    """US dollars per million tokens, in the lowest tier of prompt length."""

    input: float
    cached_input: float
    cache_write: float
    output: float


MICRO = 1_000_000  # micro-dollars in a dollar


class UsageTotals(NamedTuple):
    """Usage: calls and their results, tokens, money in micro-dollars. A tuple, because every call adds some up.

    unpriced: purchases of unknown price. saved: what cached answers would have cost.
    """

    requests: int = 0
    successes: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_micro_usd: int = 0
    unpriced: int = 0
    cache_hits: int = 0
    saved_micro_usd: int = 0

    @property
    def cost_usd(self) -> float:
        """In US dollars."""
        return self.cost_micro_usd / MICRO

    @property
    def saved_usd(self) -> float:
        """Likewise."""
        return self.saved_micro_usd / MICRO

    def __add__(self, other: "UsageTotals") -> "UsageTotals":  # type: ignore[override]  # of a tuple, which appends
        """Field by field."""
        return UsageTotals._make(map(add, self, other))


@dataclass(slots=True, kw_only=True, eq=False)
class Account:
    """This process's part of one period's money, in micro-dollars. held: spent plus reserved.

    undecided: the part of it that waits for an answer of the shared budget. sent_held, sent_spent: the amounts that are
    already shared with the other replicas. period: a UTC day or month in ISO 8601.
    """

    period: str
    held: int = 0
    undecided: int = 0
    spent: int = 0
    sent_held: int = 0
    sent_spent: int = 0

    @property
    def decided(self) -> int:
        """What is held whatever the answers will be: what the other replicas are told."""
        return self.held - self.undecided


@dataclass(slots=True, kw_only=True)
class Reservation:
    """Money reserved for one attempt, in micro-dollars, in the accounts of the day and month in which it began."""

    ceiling: int
    accounts: tuple[Account, Account]
    is_undecided: bool = True
    is_open: bool = True


@value_object
class UsageRows:
    """Usage by provider and model. scope: whether of all replicas or of this one."""

    scope: UsageScope
    rows: Mapping[tuple[ProviderName, str], UsageTotals]

    def of(self, provider: ProviderName) -> UsageTotals:
        """The sum over all models of one provider."""
        return sum((entry for (name, _), entry in self.rows.items() if name is provider), UsageTotals())


# --- Nouns: the state of things ---------------------------------------------------------------------------------------


@value_object
class CostRules:
    """Limits, in US dollars per UTC day and month, and alerts. alert_levels: shares of a limit."""

    limit_usd_per_day: float | None
    limit_usd_per_month: float | None
    alert_threshold_usd: float
    alert_levels: tuple[float, ...]
    unknown_price: UnknownPrice
    unknown_ceiling_usd: float

    @property
    def has_limits(self) -> bool:
        """Whether there is any limit."""
        return self.limit_usd_per_day is not None or self.limit_usd_per_month is not None


@value_object
class CurrentSettings:
    """An immutable snapshot of the settings in force, operators' changes included, taken once per request.

    costs and log_level take effect at once, for running requests as well. mock: the mock's settings while it replaces
    every provider, else None.
    """

    selection_strategy: SelectionStrategy
    routing_rules: tuple[RoutingRule, ...]
    priority_order: tuple[ProviderName, ...]
    default_provider: ProviderName
    enabled_providers: frozenset[ProviderName]
    default_models: Mapping[ProviderName, str]
    default_max_tokens: int
    default_temperature: float | None
    request_timeout_s: float
    attempt_timeout_s: float
    cache_enabled: bool
    cache_ttl_s: float
    log_level: str
    mock: MockKnobs | None
    costs: CostRules

    @property
    def models(self) -> frozenset[str]:
        """The models that the operator named: defaults and those of routing rules."""
        return frozenset(self.default_models.values()) | {rule.model for rule in self.routing_rules if rule.model}


@dataclass(slots=True, kw_only=True)
class ProviderActivity:
    """How one provider is doing in this process. Times are UTC; last_heard_s: of the last outcome, monotonic."""

    in_flight: int = 0
    failure_count: int = 0
    last_success: datetime | None = None
    last_failure: datetime | None = None
    last_heard_s: float | None = None
    average_response_s: float | None = None


@value_object
class ProbeFinding:
    """The result of a free probe, and its time (UTC). last_success: that of the provider's calls before the probe."""

    at: datetime
    success: bool
    message: str
    last_success: datetime | None = None


ProviderFindings = MutableMapping[ProviderName, ProbeFinding]


@value_object
class ProviderStatus:
    """Whether a provider can be asked now; reason says why not. held_because: why its circuit is held, if it is.

    model_deprecated_on: when the vendor retires the default model, if it is known to.
    """

    name: ProviderName
    enabled: bool
    configured: bool
    circuit_state: CircuitState
    default_model: str
    model_deprecated_on: date | None
    reason: str | None
    activity: ProviderActivity
    last_probe: ProbeFinding | None
    held_because: str | None

    @property
    def available(self) -> bool:
        """Whether a call would be sent now."""
        return self.reason is None

    @property
    def is_usable(self) -> bool:
        """Whether it is enabled and configured, working or not."""
        return self.enabled and self.configured


@value_object
class CacheHealth:
    """The state of the cache and of the Redis behind it. degraded_mode, cause (in a word): None while it is healthy."""

    mode: CacheMode
    redis: DependencyStatus
    redis_failure_count: int
    degraded_mode: DegradedMode | None = None
    cause: str | None = None


@value_object
class EventHealth:
    """The state of Kafka and of event delivery. dropping: events were dropped within the last minute.

    buffering: what the events are waiting for, in a word; None while they are being sent.
    spool_fault: what is wrong with the spool, in a word each; None if nothing is, or if there is none.
    """

    kafka: DependencyStatus
    buffering: str | None = None
    dropping: bool = False
    spool_fault: str | None = None


@value_object
class Administrator:
    """Who makes a change. request_id: the correlation id of the request."""

    actor: str
    request_id: UUID


# --- Nouns: traces ----------------------------------------------------------------------------------------------------


@value_object
class TraceContext:
    """A position in a distributed trace, in the hex digits of W3C Trace Context; state is a `tracestate`."""

    trace_id: str
    span_id: str
    flags: str
    state: str | None = None

    @classmethod
    def read(cls, traceparent: str, tracestate: str) -> Self | None:
        """Parse the two headers; None when the first is invalid. A tracestate that is too long is dropped."""
        found = TRACEPARENT.fullmatch(traceparent.strip())
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if version == "ff" or (version == "00" and more) or not (int(trace_id, 16) and int(span_id, 16)):
            return None
        state = tracestate.strip() if len(tracestate) <= LONGEST_TRACESTATE else ""
        return cls(trace_id=trace_id, span_id=span_id, flags=f"{int(flags, 16) & KNOWN_FLAGS:02x}", state=state or None)

    @property
    def traceparent(self) -> str:
        """The header of that name."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def headers(self) -> Mapping[str, str]:
        """The headers to propagate: these, and no baggage."""
        told = {"traceparent": self.traceparent}
        return told if self.state is None else {**told, "tracestate": self.state}


# --- Verbs ------------------------------------------------------------------------------------------------------------


class ClockProtocol(Protocol):
    """Monotonic time, in seconds."""

    def __call__(self) -> float:
        """The current time; only differences are meaningful."""
        ...


class SleepProtocol(Protocol):
    """Waiting."""

    async def __call__(self, seconds: float, /) -> None:
        """Sleep for this many seconds."""
        ...


Work = Callable[[], Awaitable[None]]  # the body of a background task


class LLMProviderProtocol(Protocol):
    """A dialect, or a policy around one."""

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """Judge one pair. Raises a ServiceError whose class defines how the failure is handled."""
        ...


class LLMProbeProtocol(Protocol):
    """The free probe of a provider, which no policy wraps."""

    async def probe(self) -> str:
        """The result in one sentence. Raises a ServiceError when the provider cannot be used."""
        ...


class LLMDialectProtocol(LLMProviderProtocol, LLMProbeProtocol, Protocol):
    """One provider's API: what a provider file implements."""


@value_object
class Judge:
    """One provider as wired: the policy stack for comparisons, the metered dialect for provider tests, the probe."""

    provider: LLMProviderProtocol
    metered: LLMProviderProtocol
    probe: LLMProbeProtocol


Judges = Mapping[ProviderName, Judge]


class LLMOrchestratorProtocol(Protocol):
    """Runs one comparison from query to result."""

    async def compare(self, query: ComparisonQuery) -> ComparisonResult:
        """Answer the query or raise a ServiceError."""
        ...


class AnswersProtocol(Protocol):
    """Answers one query, from one candidate after the other."""

    async def answer(self, candidate: Candidate, *, share: TimeShare) -> Answer:
        """From the cache (which has its own timeout), from a flight in progress, or by a new call.

        Within this share of the current call's deadline. If the flight of an earlier candidate, which was left under
        way, lands first, its answer is returned. Raises ServiceError.
        """
        ...

    async def late_answer(self) -> Answer | None:
        """The answer of a flight that an earlier `answer` has left under way, if one lands before the deadline."""
        ...

    def end(self) -> None:
        """The request has ended: flights that were left for its sake alone buy nothing more."""
        ...


AnswersTo = Callable[[ComparisonQuery, CurrentSettings], AnswersProtocol]  # to one query, under one snapshot


class LLMProviderSelectorProtocol(Protocol):
    """The one place that decides which providers can be asked, and in which order."""

    def candidates(self, query: ComparisonQuery, settings: CurrentSettings) -> Sequence[Candidate]:
        """At least one candidate, best first. Raises NoUsableProviderError or InvalidQueryError."""
        ...

    def status(self, name: ProviderName, settings: CurrentSettings) -> ProviderStatus:
        """One provider, whether or not in the priority order."""
        ...

    def statuses(self, settings: CurrentSettings) -> Sequence[ProviderStatus]:
        """The priority order, then the other providers that can be asked; only the mock while it judges."""
        ...


class LLMRequestBuilderProtocol(Protocol):
    """Turns a query into complete provider requests."""

    def build(
        self, query: ComparisonQuery, choices: Sequence[Choice], settings: CurrentSettings
    ) -> Sequence[tuple[ProviderRequest, tuple[str, ...]]]:
        """For each choice its request, and the names of the overrides that its model does not accept."""
        ...


class ModelCatalogueProtocol(Protocol):
    """The model catalogue."""

    def traits(self, provider: ProviderName, model: str) -> ModelTraits:
        """The model's traits; conservative ones for an unknown model."""
        ...

    def models(self, provider: ProviderName) -> Mapping[str, ModelTraits]:
        """Every known model of a provider, by id."""
        ...


class PricesProtocol(Protocol):
    """Token prices."""

    def cost_usd(self, provider: ProviderName, purchase: Purchase, *, asked: str) -> float | None:
        """The cost at current prices, None when unknown. asked: the model that was requested."""
        ...

    def rates(self, provider: ProviderName, model: str) -> Rates | None:
        """The current rates, None when unknown."""
        ...


LookUp = Callable[[str], Awaitable[CachedReply | None]]  # in the cache, by a request's fingerprint


class LLMCacheManagerProtocol(Protocol):
    """Caches validated replies by their request's fingerprint. Its own faults never raise."""

    @property
    def generation(self) -> int:
        """Raised when the cache is cleared: what was bought under an earlier one is not stored."""
        ...

    async def get(self, key: str) -> CachedReply | None:
        """The reply, or None when it is missing or expired."""
        ...

    def put(self, key: str, reply: ProviderReply, *, ttl_s: float) -> None:
        """Store the reply for ttl_s seconds; never waits."""
        ...

    def health(self) -> CacheHealth:
        """The known state, without I/O."""
        ...

    def statistics(self) -> CacheStatsResponse:
        """Hits, misses, stores and savings since the start."""
        ...

    async def clear(self) -> CacheClearedResponse:
        """Clear the cache in all replicas."""
        ...


class LLMEventPublisherProtocol(Protocol):
    """Publishes events to the platform."""

    def publish(self, event: EventData) -> None:
        """Accept the event; never waits and never raises."""
        ...

    async def stored(self) -> None:
        """Wait until what was published survives a crash, if it is to; a moment at most."""
        ...

    def health(self) -> EventHealth:
        """The known state of Kafka and of event delivery, without I/O."""
        ...


class LLMRetryManagerProtocol(Protocol):
    """The one owner of retries."""

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Call until it succeeds, fails for good or time runs out; then raise the last failure."""
        ...


class LLMAccountingProtocol(Protocol):
    """Books every attempt, usable or not."""

    def started(self, request: ProviderRequest, *, is_retry: bool = False) -> None:
        """Record that an attempt has started. is_retry: it repeats one that failed."""
        ...

    def succeeded(self, request: ProviderRequest, reply: ProviderReply, elapsed_s: float) -> ProviderReply:
        """Book the purchase; returns the reply with its price."""
        ...

    def failed(
        self, request: ProviderRequest, outcome: AttemptOutcome, elapsed_s: float, purchase: Purchase | None
    ) -> Purchase | None:
        """Book a failure and what was billed for it; returns the latter with its price."""
        ...

    def saved(self, request: ProviderRequest, reply: ProviderReply) -> None:
        """Book what a cache hit saved."""
        ...

    def activity(self, provider: ProviderName) -> ProviderActivity:
        """The provider's activity so far."""
        ...


class BudgetProtocol(Protocol):
    """Money is reserved before a call and settled after it, so that no limit is exceeded."""

    @property
    def is_local(self) -> bool:
        """Whether the Redis that shares the limits is away, so that each replica keeps to its part of them."""
        ...

    async def reserve(self, request: ProviderRequest) -> Reservation:
        """Reserve the most that the attempt can cost. Raises CostLimitExceededError when less is left."""
        ...

    def release(self, reservation: Reservation) -> None:
        """Give it all back, because no provider was asked; never waits."""
        ...

    def settle(self, reservation: Reservation, outcome: AttemptOutcome, purchase: Purchase | None) -> None:
        """Charge what was, or may have been, bought and give back the rest; never waits."""
        ...

    def spending(self) -> MoneyReport:
        """What is spent and what is left, as far as this process knows, without I/O."""
        ...


class LLMUsageProtocol(Protocol):
    """Usage and costs."""

    @property
    def today(self) -> date:
        """The current accounting day, UTC."""
        ...

    async def read(self, first: date, last: date) -> UsageRows:
        """Usage by provider and model over these days, inclusive: of all replicas while Redis answers."""
        ...


class RuntimeSettingsProtocol(Protocol):
    """The settings that an operator may change at run time."""

    def current(self) -> CurrentSettings:
        """The snapshot in force now."""
        ...


class SettingsSteeringProtocol(Protocol):
    """Changes settings at run time, in all replicas. matches: whether a version is the one the administrator meant.

    A refused change has no effect; raises InvalidQueryError, StaleVersionError, ServiceOverloadedError.
    """

    async def report(self) -> SettingsResponse:
        """Every setting in force."""
        ...

    async def change(
        self, changes: Mapping[str, object], *, by: Administrator, matches: Callable[[int], bool]
    ) -> SettingsResponse:
        """Override the environment's values with these, all or none."""
        ...

    async def withdraw(
        self, name: str | None, *, by: Administrator, matches: Callable[[int], bool]
    ) -> SettingsResponse:
        """Reset one setting, or with None all of them, to the environment's value."""
        ...


class CircuitSteeringProtocol(Protocol):
    """Forces circuits open or closed, in all replicas. Raises InvalidQueryError and ServiceOverloadedError."""

    async def report(self) -> Sequence[CircuitResponse]:
        """The current state of every circuit."""
        ...

    async def force(self, provider: ProviderName, order: CircuitOrder, *, by: Administrator) -> CircuitResponse:
        """Hold it open or closed."""
        ...

    async def reset(self, provider: ProviderName, *, by: Administrator) -> CircuitResponse:
        """Release it, clear its counts, lift a throttle pause."""
        ...


class CostAlertsProtocol(Protocol):
    """Spending alerts."""

    async def reset(self) -> AlertsResetResponse:
        """Let sent alerts be sent again if their thresholds are still passed."""
        ...


class AuditProtocol(Protocol):
    """Records who changed what."""

    def record(
        self, by: Administrator, action: AdminAction, field: str | None, *, old: JsonValue, new: JsonValue
    ) -> None:
        """Write one log line and one event, without secrets."""
        ...

    def latest(self) -> Sequence[AdminChange]:
        """The latest changes made through this process, newest first."""
        ...


class LLMProviderTesterProtocol(Protocol):
    """Tests one provider on demand."""

    async def test(
        self, provider: ProviderName, *, deep: bool, caller: str, correlation_id: UUID
    ) -> ProviderTestResponse:
        """Within ten seconds: the free probe, or with deep one paid verdict. Raises TestedTooOftenError."""
        ...


class AdminAccessProtocol(Protocol):
    """Who may change the running service."""

    def check(self, key: str | None, *, peer: str) -> None:
        """Return if the key is right. peer: the client's address.

        Raises AdminKeyRefusedError or, before the key is checked, AdminTriedTooOftenError or AdminAddressRefusedError.
        """
        ...


class CallerAccessProtocol(Protocol):
    """Authenticates callers."""

    def identify(self, shown: Callable[[], str | None], *, peer: Callable[[], str], admin_may: bool) -> str:
        """The caller's name, for accounting. admin_may: the administrator's key is accepted as well.

        shown: returns the key; not called when no key is required. peer: returns the client's address; called only if
        no caller's key matches.

        Raises CallerKeyRefusedError.
        """
        ...


class AdmissionProtocol(Protocol):
    """Admission control: counts running requests and closes when the service stops."""

    @property
    def is_draining(self) -> bool:
        """Whether the service is about to stop and new work should go to another replica."""
        ...

    def admit(self) -> AbstractContextManager[None]:
        """Admit one request. Raises ServiceStoppingError when closed, or when the drain cuts the request short."""
        ...


class MemoryProtocol(Protocol):
    """A shared bound on the memory for what callers send."""

    def take(self, size_bytes: int) -> None:
        """Reserve this much. Raises ServiceOverloadedError, and reserves nothing, when less is left."""
        ...

    def give_back(self, size_bytes: int) -> None:
        """Release what was taken."""
        ...


class HistoryProtocol(Protocol):
    """Recent responses of this process, kept in bounded memory."""

    @property
    def began_at(self) -> datetime:
        """Start time of the service, UTC."""
        ...

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        ...

    def answered(self, elapsed_s: float) -> None:
        """Record a comparison answered in this many seconds."""
        ...

    def failed(self, failure: ServiceError, *, correlation_id: UUID) -> None:
        """Record an error response."""
        ...

    def latency(self) -> LatencyReport:
        """The latency of recent answers."""
        ...

    def failures(self) -> Sequence[RecentError]:
        """The latest errors, newest first."""
        ...

    def failures_by_code(self) -> Mapping[ErrorCode, int]:
        """Error counts since the start."""
        ...


class BackgroundProtocol(Protocol):
    """The service's background tasks."""

    @property
    def down(self) -> frozenset[str]:
        """The tasks that died and await their restart."""
        ...


class SpanProtocol(Protocol):
    """An open span."""

    def set_attributes(self, attributes: Attributes) -> None:
        """Add attributes; never a prompt, an essay, a key or foreign text."""
        ...

    def fail(self, error_type: str) -> None:
        """Mark it as failed. The first error_type counts."""
        ...


class TracerProtocol(Protocol):
    """Records the spans of requests. No method waits; its own faults never raise."""

    @property
    def records(self) -> bool:
        """Whether spans are recorded; if not, none need to be made."""
        ...

    def serve(
        self, name: str, *, caller: TraceContext | None, attributes: Attributes
    ) -> AbstractContextManager[SpanProtocol]:
        """The span of a whole request, in the caller's trace or in one of its own."""
        ...

    def span(self, name: str, *, attributes: Attributes, is_call: bool = False) -> AbstractContextManager[SpanProtocol]:
        """A child of the current span; an exception that passes through marks it as failed. is_call: to a server."""
        ...

    def current(self) -> TraceContext | None:
        """The current position in the trace, None outside any trace."""
        ...
