"""The nouns our modules exchange and the verbs they expect of each other.

Nouns are frozen, but for the two that money moves in; in a `ProviderRequest` nothing is left to decide, and `None`
there means "not sent". Implementations conform structurally; `di.py` is where mypy proves it.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from operator import add, attrgetter
from sys import getsizeof
from typing import Any, Protocol, Self, TypeVar
from uuid import UUID

import orjson
from pydantic import JsonValue, PositiveInt

from api_models import (
    ANONYMOUS,
    AdminAction,
    AdminChange,
    AttemptOutcome,
    CacheMode,
    CacheOutcome,
    CircuitOrder,
    CircuitResponse,
    CircuitState,
    DegradedMode,
    DependencyStatus,
    ErrorCode,
    EventData,
    ModelTier,
    ProviderName,
    Purchase,
    ReasoningEffort,
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

T = TypeVar("T")
KEPT_CHARACTERS = 16_384  # of a text that is remembered between requests

AttributeValue = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, AttributeValue]

TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]{0,200})?")
LONGEST_TRACESTATE = 512
KNOWN_FLAGS = 3  # sampled, random; W3C wants the others to be dropped


# --- Nouns: a question ------------------------------------------------------------------------------------------------


class CacheUse(StrEnum):
    """What the caller's Cache-Control asks for."""

    NORMAL = "normal"
    REFRESH = "no-cache"
    BYPASS = "no-store"
    ONLY = "only-if-cached"

    @property
    def reads(self) -> bool:
        """Whether a known answer will do."""
        return self in {CacheUse.NORMAL, CacheUse.ONLY}

    @property
    def writes(self) -> bool:
        """Whether the answer may be kept."""
        return self is not CacheUse.BYPASS


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonQuery:
    """What the caller asked; `None` is left to us.

    caller: whose key was shown, for the books; no part of the question. In seconds: timeout_s, the caller's own wish;
    reading_s, how long it took from the headers to the whole query, which is part of the request's time.
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
    def size(self) -> int:
        """Characters of task and essays."""
        return len(self.user_prompt) + len(self.essay_a) + len(self.essay_b)

    @property
    def size_bytes(self) -> int:
        """What its texts take of memory: one rare character makes a text up to four times as large."""
        return sum(map(getsizeof, (self.user_prompt, self.essay_a, self.essay_b, self.system_prompt)))


CHARACTERS_PER_TOKEN = 4  # of English prose, where nothing better is known


class PromptProtocol(Protocol):
    """The question as text. An answer that is known needs its identity alone: it is laid out when somebody reads it."""

    @property
    def version(self) -> str:
        """Of the way in which it is laid out."""
        ...

    @property
    def identity(self) -> Sequence[str]:
        """What stands for all of it where two of them are told apart."""
        ...

    @property
    def essays(self) -> tuple[str, str]:
        """The plain texts, for whoever reads and does not send."""
        ...

    @property
    def system(self) -> str:
        """The system text, complete."""
        ...

    @property
    def lead(self) -> str:
        """The caller's task as far as the first essay: with the system text, what many questions begin with."""
        ...

    @property
    def user(self) -> tuple[str, str, str, str]:
        """The lead, the first essay's block, the second one's, the closing line; joined they are the user message."""
        ...

    @property
    def sha256(self) -> str:
        """Hex digest over the system and the user text, each preceded by its length."""
        ...

    @property
    def size_bytes(self) -> int:
        """Of system and user text in UTF-8, with their lengths."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MockKnobs:
    """How the mock judge behaves. error_rate and position_bias are shares from 0 to 1, latencies milliseconds."""

    seed: int
    error_rate: float
    latency_ms: int
    latency_jitter_ms: int
    position_bias: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRequest:
    """One complete question to one model.

    max_tokens_limit: the most that the model can write, None when we do not know. reasoning: how much to think, in the
    model's own word. marks_prefix: the stable part is long enough for the provider to keep. mock: the mock's knobs,
    None for every real judge.
    """

    provider: ProviderName
    model: str
    prompt: PromptProtocol
    max_tokens: int
    max_tokens_limit: int | None = None
    temperature: float | None
    reasoning: str | None
    marks_prefix: bool = False
    verdict_schema: str
    replicate: int
    mock: MockKnobs | None = None

    def fingerprint(self) -> str:
        """SHA-256, in hex, over all fields: the identity under which answers are kept and shared."""
        told = {name: getattr(self, name) for name in self.__slots__}
        told["prompt"] = self.prompt.identity
        return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A provider to be asked, and the model that was wished for there; None leaves it to the settings."""

    provider: ProviderName
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A provider that may be asked, with the question to it.

    dropped_parameters: the overrides that its model cannot take. is_fallback: it is not the first choice.
    """

    request: ProviderRequest
    provider: "LLMProviderProtocol"
    dropped_parameters: tuple[str, ...] = ()
    is_fallback: bool = False


# --- Nouns: an answer -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which essay is better, why, and how sure the judge is: 1.0 (a guess) to 5.0 (certain)."""

    winner: Winner
    justification: str
    confidence: float


class FinishReason(StrEnum):
    """Why a model stopped writing, in the one vocabulary into which every dialect translates."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"
    WINDOW_FULL = "window_full"
    REFUSED = "refused"
    ACCOUNT_REFUSED = "account_refused"
    UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model wrote, not yet read as a verdict. model: as the provider names it; cost_usd: if it tells."""

    text: str
    finish_reason: FinishReason
    model: str
    usage: Usage
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReply:
    """A verdict as one model gave it, and what was bought with it. prompt_sha256: of the question that it answers."""

    verdict: Verdict
    provider: ProviderName
    purchase: Purchase
    prompt_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedReply:
    """A reply bought earlier, and how many seconds ago."""

    reply: ProviderReply
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One call to a provider that a request caused. purchase: what was billed for it, priced; None for nothing."""

    provider: ProviderName
    model: str
    outcome: AttemptOutcome
    duration_s: float
    purchase: Purchase | None = None

    @property
    def in_words(self) -> str:
        """For people: who was asked, how it ended, how long it took."""
        return f"{self.provider}: {self.outcome} after {self.duration_s * 1000:.0f} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where a request's time went, in seconds. queued: waiting for a place; upstream: inside providers."""

    total_s: float
    cache_s: float
    queued_s: float
    upstream_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonResult:
    """An answered query. cost_usd is what *this* call cost: 0 for a hit and a coalesced answer, None when unknown."""

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
        """The answer was known."""
        return self.cache_outcome is CacheOutcome.HIT

    @property
    def coalesced(self) -> bool:
        """The answer is somebody else's purchase."""
        return self.cache_outcome is CacheOutcome.COALESCED


# --- Nouns: models and prices -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTraits:
    """What we know of one model; the defaults are what we dare to send to one that we do not know.

    context_tokens, max_output_tokens: its limits, in tokens. efforts: the model's own word for each wish; an effort
    that it has anyway is an empty word, for which nothing is sent. min_cacheable_tokens: the shortest prefix that its
    provider keeps.
    """

    tier: ModelTier | None = None
    context_tokens: PositiveInt | None = None
    max_output_tokens: PositiveInt | None = None
    temperature: TemperatureUse = TemperatureUse.NEVER
    efforts: Mapping[ReasoningEffort, str] = field(default_factory=dict)
    min_cacheable_tokens: PositiveInt | None = None
    deprecated_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars for a million tokens, below the first tier's end."""

    input: float
    cached_input: float
    cache_write: float
    output: float


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """What was used: calls and how they ended, tokens, money in micro-dollars.

    unpriced: purchases whose price is unknown; saved: what cached answers would have cost.
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
        return self.cost_micro_usd / 1_000_000

    @property
    def saved_usd(self) -> float:
        """Likewise."""
        return self.saved_micro_usd / 1_000_000

    def __add__(self, other: Self) -> Self:
        """Field by field, in the order of the fields."""
        return type(self)(*map(add, _figures(self), _figures(other)))


_figures = attrgetter(*UsageTotals.__slots__)


@dataclass(slots=True, kw_only=True, eq=False)
class Account:
    """What this process holds of one period's money, in micro-dollars: spent, and in `held` what is reserved as well.

    sent_held, sent_spent: how much of it the other replicas know. period: a UTC day or month, as ISO 8601 has it.
    """

    period: str
    held: int = 0
    spent: int = 0
    sent_held: int = 0
    sent_spent: int = 0


@dataclass(slots=True, kw_only=True)
class Reservation:
    """Money put aside for one attempt, in micro-dollars, in the day and the month in which it began."""

    ceiling: int
    accounts: tuple[Account, Account]
    is_open: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRows:
    """What was used, by provider and model, and by whom."""

    scope: UsageScope
    rows: Mapping[tuple[ProviderName, str], UsageTotals]

    def of(self, provider: ProviderName) -> UsageTotals:
        """All models of one provider."""
        return sum((entry for (name, _), entry in self.rows.items() if name is provider), UsageTotals())


# --- Nouns: the state of things ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRules:
    """What may be spent, in US dollars by UTC day and month, and when somebody is told. alert_levels: shares."""

    limit_usd_per_day: float | None = None
    limit_usd_per_month: float | None = None
    alert_threshold_usd: float = 100.0
    alert_levels: tuple[float, ...] = (0.8, 1.0)
    unknown_price: UnknownPrice = UnknownPrice.CHARGE
    unknown_ceiling_usd: float = 0.1

    @property
    def has_limits(self) -> bool:
        """Something may not be passed."""
        return self.limit_usd_per_day is not None or self.limit_usd_per_month is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentSettings:
    """What is in force, the operator's changes included: one immutable snapshot, taken once per request.

    mock: the mock's knobs while it stands in the place of every provider, else None.
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
    costs: CostRules = field(default_factory=CostRules)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderActivity:
    """How one provider is doing in this process. Times are UTC."""

    in_flight: int = 0
    failure_count: int = 0
    last_success: datetime | None = None
    last_failure: datetime | None = None
    average_response_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFinding:
    """What a free look-up found, and when (UTC)."""

    at: datetime
    success: bool
    message: str


ProviderFindings = MutableMapping[ProviderName, ProbeFinding]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """Whether a provider can be asked now; reason says why not. held_because: why its circuit was forced, if it was."""

    name: ProviderName
    enabled: bool
    configured: bool
    circuit_state: CircuitState
    default_model: str
    reason: str | None
    activity: ProviderActivity
    last_probe: ProbeFinding | None = None
    held_because: str | None = None

    @property
    def available(self) -> bool:
        """A call would be sent now."""
        return self.reason is None

    @property
    def is_usable(self) -> bool:
        """The operator wants and allows it; whether it works is another question."""
        return self.enabled and self.configured


CACHE_MODES: Mapping[CacheMode, DegradedMode] = {
    CacheMode.READ_ONLY: DegradedMode.CACHE_READ_ONLY,
    CacheMode.DEGRADED: DegradedMode.CACHE_LOCAL_ONLY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodSpending:
    """Money of one UTC day or month, in US dollars. limit_usd, left_usd: None without a limit.

    left_usd: what may still be put aside here; what running calls put aside is taken off.
    """

    period: str
    spent_usd: float
    limit_usd: float | None
    left_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Money of today and of this month, and whose it is."""

    scope: UsageScope
    day: PeriodSpending
    month: PeriodSpending


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a caller was told instead of an answer: our own words only, and nothing of what was sent."""

    at: datetime
    code: ErrorCode
    status: int
    sentence: str
    provider: ProviderName | None
    correlation_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long the answers of the last window_s seconds took, in seconds; None when there were none."""

    window_s: float
    answers: int
    median_s: float | None = None
    p95_s: float | None = None
    slowest_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheHealth:
    """The state of the cache and of the Redis behind it. cause: what is wrong, in a word."""

    mode: CacheMode
    redis: DependencyStatus
    redis_failure_count: int
    cause: str | None = None

    @property
    def degraded_mode(self) -> DegradedMode | None:
        """How this is called among all that may be amiss; None when nothing is."""
        return CACHE_MODES.get(self.mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventHealth:
    """The state of Kafka and of the events on their way. buffering: what they wait for, in a word; None: they are sent.

    dropping: some were given up within the last minute.
    """

    kafka: DependencyStatus
    buffering: str | None = None
    dropping: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TierStatistics:
    """What one tier of the cache did since the start. None: the tier does not tell."""

    hits: int
    misses: int
    stores: int
    evictions: int | None
    entries: int | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatistics:
    """What the cache did since the start, in this process. saved_usd: what the hits would have cost."""

    mode: CacheMode
    generation: int
    hits: int
    misses: int
    saved_usd: float
    local: TierStatistics
    redis: TierStatistics | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCleared:
    """Everything known is forgotten here. everywhere: by all replicas; else they will be told when Redis is back."""

    generation: int
    everywhere: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """Who changes something, and in which request: its correlation id."""

    actor: str
    request_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsReset:
    """How many alerts may be told again. everywhere: the fleet forgot them; else this replica alone did."""

    forgotten: int
    everywhere: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReport:
    """What a test of one provider found. message: one sentence of ours."""

    success: bool
    provider: ProviderName
    message: str
    elapsed_s: float
    model: str | None


# --- Nouns: traces ----------------------------------------------------------------------------------------------------


class SpanKind(StrEnum):
    """Whether a span answers somebody, asks somebody, or neither."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """A place in a distributed trace, as W3C Trace Context writes it: hex digits; state is a `tracestate`."""

    trace_id: str
    span_id: str
    flags: str
    state: str | None = None

    @classmethod
    def read(cls, traceparent: str, tracestate: str) -> Self | None:
        """What the two headers say; None when the first is not valid. A state that is too long is left out."""
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
        """What goes on to whoever is asked: this and no baggage."""
        told = {"traceparent": self.traceparent}
        return told if self.state is None else {**told, "tracestate": self.state}


# --- Verbs ------------------------------------------------------------------------------------------------------------


class ClockProtocol(Protocol):
    """Monotonic time, in seconds."""

    def __call__(self) -> float:
        """The moment now; only differences mean anything."""
        ...


class SleepProtocol(Protocol):
    """Waiting."""

    async def __call__(self, seconds: float, /) -> None:
        """Let so many seconds pass."""
        ...


Work = Callable[[], Awaitable[None]]  # of a task that lives as long as the service


class LLMProviderProtocol(Protocol):
    """A judge, or a policy around one."""

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """Judge one pair. Raises a ServiceError whose class says what the failure means."""
        ...


class LLMProbeProtocol(Protocol):
    """The free look-up of a provider, which no policy wraps."""

    async def probe(self) -> str:
        """Say in one sentence what was found. Raises a ServiceError when the provider cannot be used."""
        ...


class LLMDialectProtocol(LLMProviderProtocol, LLMProbeProtocol, Protocol):
    """One provider's own language: what a provider file implements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """One provider as wired: the stack of policies that comparisons use, the metered dialect that tests use."""

    provider: LLMProviderProtocol
    metered: LLMProviderProtocol
    probe: LLMProbeProtocol


Judges = Mapping[ProviderName, Judge]


class LLMOrchestratorProtocol(Protocol):
    """Walks one request."""

    async def compare(self, query: ComparisonQuery) -> ComparisonResult:
        """Answer the query or raise a ServiceError."""
        ...


class LLMProviderSelectorProtocol(Protocol):
    """The one place that knows which providers can be asked, and in which order."""

    def candidates(self, query: ComparisonQuery, settings: CurrentSettings) -> Sequence[Candidate]:
        """At least one candidate, best first. Raises NoUsableProviderError or InvalidQueryError."""
        ...

    def status(self, name: ProviderName, settings: CurrentSettings) -> ProviderStatus:
        """One provider, in the order or not."""
        ...

    def statuses(self, settings: CurrentSettings) -> Sequence[ProviderStatus]:
        """Every provider of the priority order, then who can be asked all the same; only the mock while it judges."""
        ...


class LLMRequestBuilderProtocol(Protocol):
    """Turns a query into complete questions."""

    def build(
        self, query: ComparisonQuery, choices: Sequence[Choice], settings: CurrentSettings
    ) -> Sequence[tuple[ProviderRequest, tuple[str, ...]]]:
        """To each choice its question, and the names of the overrides that its model does not take."""
        ...


class ModelCatalogueProtocol(Protocol):
    """What is known of the models."""

    def traits(self, provider: ProviderName, model: str) -> ModelTraits:
        """Those of a model that we do not know are conservative."""
        ...

    def models(self, provider: ProviderName) -> Mapping[str, ModelTraits]:
        """Every known model of a provider, by id."""
        ...


class PricesProtocol(Protocol):
    """What tokens cost."""

    def cost_usd(self, provider: ProviderName, purchase: Purchase, *, asked: str) -> float | None:
        """In US dollars at this moment, None when unknown. asked: the model that was asked for."""
        ...

    def rates(self, provider: ProviderName, model: str) -> Rates | None:
        """Those of this moment, None when unknown."""
        ...


class LLMCacheManagerProtocol(Protocol):
    """Keeps validated replies under their request's fingerprint. No method raises for a fault of its own."""

    async def get(self, key: str) -> CachedReply | None:
        """The reply, or None when it is not known or too old."""
        ...

    def put(self, key: str, reply: ProviderReply, *, ttl_s: float) -> None:
        """Keep the reply for ttl_s seconds; never waits."""
        ...

    def health(self) -> CacheHealth:
        """The known state, without looking."""
        ...

    def statistics(self) -> CacheStatistics:
        """What was found, kept and saved since the start."""
        ...

    async def clear(self) -> CacheCleared:
        """Forget every reply, in all replicas."""
        ...


class LLMEventPublisherProtocol(Protocol):
    """Tells the rest of the platform."""

    def publish(self, event: EventData) -> None:
        """Take the event; never waits and never raises."""
        ...

    def health(self) -> EventHealth:
        """The known state of Kafka and of what waits for it, without looking."""
        ...


class LLMRetryManagerProtocol(Protocol):
    """The one owner of retries."""

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Call until it succeeds, fails for good or the time is used up; then raise the last failure."""
        ...


class LLMAccountingProtocol(Protocol):
    """Books every attempt, usable or not."""

    def started(self, request: ProviderRequest) -> None:
        """An attempt is under way."""
        ...

    def succeeded(self, request: ProviderRequest, reply: ProviderReply, elapsed_s: float) -> ProviderReply:
        """Book the purchase; the reply comes back priced."""
        ...

    def failed(
        self, request: ProviderRequest, outcome: AttemptOutcome, elapsed_s: float, purchase: Purchase | None
    ) -> Purchase | None:
        """Book a failure, and what was billed for it; that comes back priced."""
        ...

    def saved(self, request: ProviderRequest, reply: ProviderReply) -> None:
        """Book what a known answer did not cost."""
        ...

    def activity(self, provider: ProviderName) -> ProviderActivity:
        """What the provider did so far."""
        ...


class BudgetProtocol(Protocol):
    """Money is put aside before a call and settled after it, so that no limit is passed."""

    @property
    def is_local(self) -> bool:
        """There are limits, a Redis to share them, and it is away: each replica keeps to its part."""
        ...

    async def reserve(self, request: ProviderRequest) -> Reservation:
        """Put aside the most that the attempt can cost. Raises CostLimitExceededError when so much is not left."""
        ...

    def release(self, reservation: Reservation) -> None:
        """Give all of it back, because nobody was asked; never waits."""
        ...

    def settle(self, reservation: Reservation, outcome: AttemptOutcome, purchase: Purchase | None) -> None:
        """Charge what was bought, or what may have been, and give back the rest; never waits."""
        ...

    def spending(self) -> Spending:
        """What is spent and what is left, as far as this process knows; it asks nobody."""
        ...


class LLMUsageProtocol(Protocol):
    """What was used and what it cost."""

    @property
    def today(self) -> date:
        """The day that is booked now, UTC."""
        ...

    async def read(self, first: date, last: date) -> UsageRows:
        """By provider and model, over these days, the last one included: of all replicas while Redis answers."""
        ...


class RuntimeSettingsProtocol(Protocol):
    """What an operator may change while the service runs."""

    def current(self) -> CurrentSettings:
        """The snapshot in force now."""
        ...


class SettingsSteeringProtocol(Protocol):
    """Changes settings of the running service, in all replicas. matches: whether a version is the one that was meant.

    What is refused leaves everything as it was: InvalidQueryError, StaleVersionError, ServiceOverloadedError.
    """

    async def report(self) -> SettingsResponse:
        """Every setting as it is in force."""
        ...

    async def change(
        self, changes: Mapping[str, object], *, by: Administrator, matches: Callable[[int], bool]
    ) -> SettingsResponse:
        """Put these values in the place of the environment's, all or none."""
        ...

    async def withdraw(
        self, name: str | None, *, by: Administrator, matches: Callable[[int], bool]
    ) -> SettingsResponse:
        """Return one setting, or with None every one, to the environment's value."""
        ...


class CircuitSteeringProtocol(Protocol):
    """Overrules circuits, in all replicas. Raises InvalidQueryError and ServiceOverloadedError."""

    async def poll(self) -> None:
        """Follow what other replicas were told."""
        ...

    def report(self, provider: ProviderName) -> CircuitResponse:
        """One circuit as it is."""
        ...

    async def force(self, provider: ProviderName, order: CircuitOrder, *, by: Administrator) -> CircuitResponse:
        """Hold it open or closed."""
        ...

    async def reset(self, provider: ProviderName, *, by: Administrator) -> CircuitResponse:
        """Forget what was forced and what was counted."""
        ...


class CostAlertsProtocol(Protocol):
    """The alerts on spending."""

    async def reset(self) -> AlertsReset:
        """Let those that were told be told again, if their marks are still passed."""
        ...


class AuditProtocol(Protocol):
    """Remembers who changed what."""

    def record(
        self, by: Administrator, action: AdminAction, field: str | None, *, old: JsonValue, new: JsonValue
    ) -> None:
        """One line, one event; the values without secrets."""
        ...

    def latest(self) -> Sequence[AdminChange]:
        """The latest changes that this process made, the newest first."""
        ...


class LLMProviderTesterProtocol(Protocol):
    """Tries one provider for an operator."""

    async def test(self, provider: ProviderName, *, deep: bool, caller: str = ANONYMOUS) -> TrialReport:
        """Within ten seconds: the free look-up, or with deep one paid verdict. Raises TestedTooOftenError."""
        ...


class AdminAccessProtocol(Protocol):
    """Who may change the running service."""

    def check(self, key: str | None, *, peer: str) -> None:
        """Pass whoever shows the key. peer: the address of who asks.

        Raises AdminKeyRefusedError, or before it looks AdminTriedTooOftenError and AdminAddressRefusedError.
        """
        ...


class CallerAccessProtocol(Protocol):
    """Who may ask."""

    def identify(self, shown: Callable[[], str | None], *, peer: Callable[[], str], admin_may: bool) -> str:
        """The name under which this request is booked. admin_may: the administrator's key will do as well.

        shown: tells the key, which is not looked at where everybody may ask. peer: tells from where it is shown, which
        matters only when it is wrong.

        Raises CallerKeyRefusedError.
        """
        ...


class AdmissionProtocol(Protocol):
    """The door: it counts who is inside and closes when the service stops."""

    @property
    def is_draining(self) -> bool:
        """The service is about to stop: new work should go to another replica."""
        ...

    def admit(self) -> AbstractContextManager[None]:
        """Hold a place inside. Raises ServiceStoppingError when closed, or turned out before the work was done."""
        ...


class MemoryProtocol(Protocol):
    """Memory for what callers send, bounded together."""

    def take(self, size_bytes: int) -> None:
        """Raises ServiceOverloadedError, and takes nothing, when so much is not left."""
        ...

    def give_back(self, size_bytes: int) -> None:
        """What was taken before."""
        ...


class HistoryProtocol(Protocol):
    """What this process told its callers lately, kept in bounded memory."""

    @property
    def began_at(self) -> datetime:
        """When the service was built, UTC."""
        ...

    @property
    def uptime_s(self) -> float:
        """Seconds since then."""
        ...

    def answered(self, elapsed_s: float) -> None:
        """A comparison was answered in so many seconds."""
        ...

    def failed(self, failure: ServiceError, *, correlation_id: UUID) -> None:
        """A caller was told of this failure."""
        ...

    def pace(self) -> Pace:
        """That of the latest answers."""
        ...

    def failures(self) -> Sequence[Failure]:
        """The latest ones, the newest first."""
        ...

    def failures_by_code(self) -> Mapping[ErrorCode, int]:
        """How many there were since the start."""
        ...


class BackgroundProtocol(Protocol):
    """The service's own tasks."""

    @property
    def down(self) -> frozenset[str]:
        """Those that died and wait to be started again."""
        ...


class SpanProtocol(Protocol):
    """One step of a trace, while it is under way."""

    def set_attributes(self, attributes: Attributes) -> None:
        """Add what is known by now; never a prompt, an essay, a key or anybody else's text."""
        ...

    def fail(self, error_type: str) -> None:
        """It ends badly. The first word counts."""
        ...


class TracerProtocol(Protocol):
    """Where the service tells how it spends a request's time. No method waits or raises for a fault of its own."""

    @property
    def records(self) -> bool:
        """Somebody will look at the spans; without that nobody needs to make any."""
        ...

    def serve(
        self, name: str, *, caller: TraceContext | None, attributes: Attributes
    ) -> AbstractContextManager[SpanProtocol]:
        """The span of a whole request, in the caller's trace or in one of its own."""
        ...

    def span(
        self, name: str, *, attributes: Attributes, kind: SpanKind = SpanKind.INTERNAL
    ) -> AbstractContextManager[SpanProtocol]:
        """A step inside of whatever is under way; an exception that passes makes it fail."""
        ...

    def current(self) -> TraceContext | None:
        """The place at which this code runs, None outside of every trace."""
        ...
