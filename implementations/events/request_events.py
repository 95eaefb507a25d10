"""Builds the events about one request; the code that handles the request publishes them."""

from datetime import datetime

from api_models import (
    REQUEST_TYPE,
    CacheHit,
    CacheMiss,
    CostTracked,
    ProviderFailed,
    ProviderName,
    Purchase,
    RequestCompleted,
    RequestStarted,
)
from exceptions import ProviderError, ServiceError
from protocols import Attempt, Candidate, ComparisonQuery, ComparisonResult, ProviderRequest


def started(query: ComparisonQuery) -> RequestStarted:
    """The query was accepted."""
    return RequestStarted(
        provider=query.provider,
        correlation_id=query.correlation_id,
        metadata=query.metadata,
        request_type=REQUEST_TYPE,
        user_id=query.user_id,
        caller=query.caller,
    )


def answered(query: ComparisonQuery, result: ComparisonResult) -> RequestCompleted:
    """The query ended with a verdict."""
    return RequestCompleted(
        provider=result.reply.provider,
        correlation_id=query.correlation_id,
        metadata=query.metadata,
        request_type=REQUEST_TYPE,
        user_id=query.user_id,
        caller=query.caller,
        success=True,
        response_time_ms=round(result.timings.total_s * 1000),
        error_message=None,
        token_usage=result.reply.purchase.usage.as_token_usage(),
        cost_estimate=result.cost_usd,
        cached=result.cached,
        prompt_sha256=result.reply.prompt_sha256,
    )


def unanswered(
    query: ComparisonQuery,
    message: str,
    elapsed_s: float,
    *,
    provider: ProviderName | None,
    cost_usd: float | None,
) -> RequestCompleted:
    """The query ended without a verdict.

    message: one of our own sentences; provider: the one that failed last, or was asked for; cost_usd: what it cost
    nonetheless.
    """
    return RequestCompleted(
        provider=provider,
        correlation_id=query.correlation_id,
        metadata=query.metadata,
        request_type=REQUEST_TYPE,
        user_id=query.user_id,
        caller=query.caller,
        success=False,
        response_time_ms=round(elapsed_s * 1000),
        error_message=message,
        token_usage=None,
        cost_estimate=cost_usd,
        cached=False,
        prompt_sha256=None,
    )


def looked_up(query: ComparisonQuery, candidate: Candidate, key: str, *, known: bool) -> CacheHit | CacheMiss:
    """The cache was asked."""
    event = CacheHit if known else CacheMiss
    return event(
        provider=candidate.request.provider,
        correlation_id=query.correlation_id,
        metadata=query.metadata,
        cache_key=key,
    )


def provider_failed(query: ComparisonQuery, candidate: Candidate, failure: ServiceError) -> ProviderFailed:
    """A candidate gave no verdict, after all its attempts."""
    return ProviderFailed(
        provider=candidate.request.provider,
        correlation_id=query.correlation_id,
        metadata=query.metadata,
        failure_type=failure.code,
        error_details=failure.details,
        circuit_breaker_opened=isinstance(failure, ProviderError) and failure.opened_circuit,
    )


def purchased(
    query: ComparisonQuery,
    request: ProviderRequest,
    attempt: Attempt,
    purchase: Purchase,
    *,
    service_name: str,
    requested_at: datetime,
) -> CostTracked:
    """An attempt was billed, whether or not its answer was usable."""
    return CostTracked(
        provider=attempt.provider,
        correlation_id=query.correlation_id,
        metadata=query.metadata,
        model=purchase.model,
        request_type=REQUEST_TYPE,
        cost_estimate_usd=purchase.cost_usd,
        token_usage=purchase.usage.as_token_usage(),
        user_id=query.user_id,
        caller=query.caller,
        service_name=service_name,
        request_timestamp=requested_at,
        response_time_ms=round(attempt.duration_s * 1000),
        cached=False,
        cache_cost_savings_usd=0.0,
        prompt_sha256=request.prompt.sha256,
    )
