"""An example of every request and response body. As instances of the models, they are always valid."""

from datetime import UTC, date, datetime
from uuid import UUID

from api_models import (
    AttemptOutcome,
    AttemptReport,
    CacheMode,
    CacheReport,
    CacheStatsResponse,
    CacheTierReport,
    CircuitState,
    ComparisonRequest,
    ComparisonResponse,
    DegradedMode,
    Dependencies,
    DependencyStatus,
    ErrorCode,
    EventsReport,
    HealthResponse,
    HealthStatus,
    LatencyReport,
    LLMConfigOverrides,
    ModelPrices,
    ModelReport,
    ModelsResponse,
    ModelTier,
    ModelUsage,
    MoneyReport,
    OperationsResponse,
    PeriodMoney,
    ProbeReport,
    Provenance,
    ProviderHealth,
    ProviderName,
    ProviderReport,
    ProviderSlotsReport,
    ProvidersResponse,
    ProviderTestResponse,
    ReasoningEffort,
    RecentError,
    SaturationReport,
    SelectionStrategy,
    SlotsReport,
    StatusResponse,
    TemperatureUse,
    TokenUsage,
    TrafficReport,
    UsageFigures,
    UsagePeriod,
    UsageScope,
    UsageSummaryResponse,
    Winner,
)
from config import VERSION

CORRELATION_ID = UUID("1f0c2b4e-6a5d-4c3b-9e8f-0a1b2c3d4e5f")
ANTHROPIC, MODEL = ProviderName.ANTHROPIC, "claude-haiku-5-5"
NOON, TODAY = datetime(2026, 11, 24, 12, 0, tzinfo=UTC), date(2026, 11, 24)
TASK = "Which essay argues better whether phones belong in classrooms?"
ESSAY_A = "Phones distract pupils, because every message is a temptation. Therefore a ban helps most classrooms."
ESSAY_B = "phone is good or bad it is what it is"

QUESTION = ComparisonRequest(user_prompt=TASK, essay_a=ESSAY_A, essay_b=ESSAY_B)
QUESTION_IN_FULL = ComparisonRequest(
    user_prompt=f"{TASK}\n\nThe first: {{essay_a}}\n\nThe second: {{essay_b}}",
    essay_a=ESSAY_A,
    essay_b=ESSAY_B,
    llm_config_overrides=LLMConfigOverrides(
        provider_override=ANTHROPIC,
        model_override=MODEL,
        max_tokens_override=2048,
        reasoning_effort_override=ReasoningEffort.LOW,
        allow_fallback=True,
    ),
    correlation_id=CORRELATION_ID,
    user_id="teacher-7",
    metadata={"batch": "b-17"},
    replicate=1,
)
VERDICT = ComparisonResponse(
    winner=Winner.ESSAY_A,
    justification="Essay A gives a reason for its claim and draws a conclusion; essay B takes no position.",
    confidence=4.0,
    provider=ANTHROPIC,
    model=MODEL,
    response_time_ms=1840,
    cached=False,
    token_usage=TokenUsage(prompt_tokens=2600, completion_tokens=400, total_tokens=3000, cached_prompt_tokens=0),
    cost_estimate=0.00046,
    correlation_id=CORRELATION_ID,
    trace_id=None,
    metadata={"batch": "b-17"},
    provenance=Provenance(
        prompt_sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        prompt_version="4",
        replicate=1,
        requested_provider=ANTHROPIC,
        fallback_used=False,
        coalesced=False,
        dropped_parameters=[],
        attempts=[
            AttemptReport(provider=ANTHROPIC, model=MODEL, outcome=AttemptOutcome.UNAVAILABLE, duration_ms=95),
            AttemptReport(provider=ANTHROPIC, model=MODEL, outcome=AttemptOutcome.SUCCESS, duration_ms=1632),
        ],
    ),
)
PROVIDERS = ProvidersResponse(
    providers=[
        ProviderReport(
            name=ANTHROPIC,
            enabled=True,
            configured=True,
            available=True,
            circuit_breaker_state=CircuitState.CLOSED,
            circuit_forced=False,
            default_model=MODEL,
            last_success=NOON,
            last_failure=None,
            failure_count=0,
            average_response_time_ms=1832.5,
            in_flight=2,
            requests_today=41,
            cost_today_usd=0.021,
            reason=None,
            last_probe=ProbeReport(at=NOON, success=True, message="The key is accepted."),
        )
    ],
    default_provider=ANTHROPIC,
    selection_strategy=SelectionStrategy.PRIORITY,
    total_requests_today=41,
    total_cost_today=0.021,
    scope=UsageScope.FLEET,
)
TESTED = ProviderTestResponse(
    success=True, provider=ANTHROPIC, message="The key is accepted.", response_time_ms=212, model=None
)
MODELS = ModelsResponse(
    models=[
        ModelReport(
            id=MODEL,
            provider=ANTHROPIC,
            tier=ModelTier.CHEAP,
            is_default=True,
            context_tokens=1_000_000,
            max_output_tokens=128_000,
            temperature=TemperatureUse.NEVER,
            max_temperature=None,
            reasoning_efforts=list(ReasoningEffort),
            min_cacheable_tokens=512,
            deprecated_on=None,
            prices_usd_per_million_tokens=ModelPrices(input=0.1, cached_input=0.01, cache_write=0.125, output=0.5),
        )
    ]
)
_FIGURES = UsageFigures(
    requests=41,
    successes=40,
    failures=1,
    prompt_tokens=104_000,
    completion_tokens=16_000,
    cost_usd=0.021,
    unpriced_purchases=0,
    cache_hits=9,
    saved_usd=0.0046,
)
USAGE = UsageSummaryResponse(
    scope=UsageScope.FLEET,
    period=UsagePeriod.TODAY,
    first_day=TODAY,
    last_day=TODAY,
    total=_FIGURES,
    by_provider={ANTHROPIC: _FIGURES},
    by_model=[ModelUsage(provider=ANTHROPIC, model=MODEL, usage=_FIGURES)],
)
CACHE = CacheStatsResponse(
    cache_mode=CacheMode.HEALTHY,
    generation=3,
    hits=9,
    misses=41,
    hit_rate=0.18,
    saved_usd=0.0046,
    local=CacheTierReport(hits=6, misses=44, hit_rate=0.12, stores=41, evictions=0, entries=41, size_bytes=47_232),
    redis=CacheTierReport(hits=3, misses=41, hit_rate=0.0682, stores=41, evictions=None, entries=None, size_bytes=None),
)
OPERATING = OperationsResponse(
    started_at=datetime(2026, 11, 24, 6, 0, tzinfo=UTC),
    uptime_s=14_400.0,
    mock_judges=False,
    draining=False,
    degraded_modes=[DegradedMode.CACHE_LOCAL_ONLY],
    tasks_down=[],
    traffic=TrafficReport(
        answers=812, errors=3, errors_by_type={ErrorCode.CIRCUIT_BREAKER_OPEN: 3}, coalesced=14, callers_left=1
    ),
    latency=LatencyReport(window_s=60.0, answers=41, median_ms=1840.2, p95_ms=3902.5, slowest_ms=5120.9),
    recent_errors=[
        RecentError(
            at=datetime(2026, 11, 24, 9, 59, 30, tzinfo=UTC),
            error_type=ErrorCode.CIRCUIT_BREAKER_OPEN,
            status=503,
            error="The circuit breaker for this provider is open.",
            provider=ANTHROPIC,
            correlation_id=CORRELATION_ID,
        )
    ],
    saturation=SaturationReport(
        service=SlotsReport(in_flight=3, limit=200, waiting=0),
        providers={ANTHROPIC: ProviderSlotsReport(in_flight=0, limit=32, waiting=0, paused_s=0.0)},
    ),
    events=EventsReport(
        kafka=DependencyStatus.HEALTHY,
        buffering=None,
        published=2491,
        waiting=0,
        oldest_s=0.0,
        delivered=2491,
        dropped=0,
        dropped_by_reason={},
    ),
    money=MoneyReport(
        scope=UsageScope.REPLICA,
        day=PeriodMoney(period="2026-11-24", spent_usd=0.42, limit_usd=10.0, left_usd=9.58),
        month=PeriodMoney(period="2026-11", spent_usd=8.31, limit_usd=None, left_usd=None),
    ),
)
HEALTHY = HealthResponse(
    service="llm-provider-service",
    version=VERSION,
    status=HealthStatus.HEALTHY,
    environment="production",
    dependencies=Dependencies(
        redis=DependencyStatus.HEALTHY,
        kafka=DependencyStatus.HEALTHY,
        cache=CacheReport(
            cache_mode=CacheMode.HEALTHY, local_cache_available=True, redis_available=True, redis_failure_count=0
        ),
    ),
    providers={
        ANTHROPIC: ProviderHealth(
            enabled=True,
            configured=True,
            available=True,
            circuit_breaker_state=CircuitState.CLOSED,
            circuit_forced=False,
        )
    },
    warnings=[],
)
UNHEALTHY = HEALTHY.model_copy(update={"status": HealthStatus.UNHEALTHY, "warnings": ["the service is stopping"]})
ALIVE, READY, NOT_READY = (StatusResponse(status=text) for text in ("alive", "ready", "not ready"))
SCRAPED = """# HELP llm_provider_cache_hits_total Answers served from the cache.
# TYPE llm_provider_cache_hits_total counter
llm_provider_cache_hits_total 9.0
"""
