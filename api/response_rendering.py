"""Renders response bodies, and a verdict with its headers."""

import orjson
from pydantic import BaseModel
from quart import Response

from api.request_scope import current_scope
from api_models import AttemptReport, ComparisonResponse, Provenance
from protocols import ComparisonQuery, ComparisonResult, Timings


def json_answer(body: BaseModel, *, status: int = 200) -> Response:
    """The body with this status."""
    return Response(body.model_dump_json(), status=status, content_type="application/json")


def render_result(query: ComparisonQuery, result: ComparisonResult) -> Response:
    """200 with the verdict."""
    body = ComparisonResponse(
        winner=result.reply.verdict.winner,
        justification=result.reply.verdict.justification,
        confidence=result.reply.verdict.confidence,
        provider=result.reply.provider,
        model=result.reply.purchase.model,
        response_time_ms=round(result.timings.total_s * 1000),
        cached=result.cached,
        token_usage=result.reply.purchase.usage.as_token_usage(),
        cost_estimate=result.cost_usd,
        correlation_id=query.correlation_id,
        trace_id=current_scope().trace_id,
        metadata=dict(query.metadata),
        provenance=_provenance(query, result),
    )
    response = Response(orjson.dumps(body), content_type="application/json")
    response.headers.add("X-Cache", result.cache_outcome)
    response.headers.add("Server-Timing", server_timing(result.timings))
    if result.age_s is not None:
        response.headers.add("Age", str(int(result.age_s)))
    return response


def server_timing(timings: Timings) -> str:
    """Milliseconds by stage. upstream adds up this request's own attempts.

    The rest of total is not all ours: a coalesced answer waits for another request's attempts, a retry backs off.
    """
    return (
        f"total;dur={timings.total_s * 1000:.3f}, cache;dur={timings.cache_s * 1000:.3f}, "
        f"queue;dur={timings.queued_s * 1000:.3f}, upstream;dur={timings.upstream_s * 1000:.3f}"
    )


def _provenance(query: ComparisonQuery, result: ComparisonResult) -> Provenance:
    return Provenance(
        prompt_sha256=result.reply.prompt_sha256,
        prompt_version=result.prompt_version,
        replicate=query.replicate,
        requested_provider=query.provider,
        fallback_used=result.fallback_used,
        coalesced=result.coalesced,
        dropped_parameters=list(result.dropped_parameters),
        attempts=[
            AttemptReport(
                provider=attempt.provider,
                model=attempt.model,
                outcome=attempt.outcome,
                duration_ms=round(attempt.duration_s * 1000),
            )
            for attempt in result.attempts
        ],
    )
