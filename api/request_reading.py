"""Reads and validates a comparison request: headers, strict JSON; errors name the field, never the input."""

import asyncio
import time
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from api.connection import ServiceRequest
from api.request_headers import cache_use, require_plain_json, timeout_s
from api.request_scope import adopt_correlation_id, caller, current_scope
from api.strict_json import parse_object
from api_models import ANONYMOUS, ComparisonRequest, LLMConfigOverrides, RequestPhase
from environment import IN_JSON
from exceptions import InvalidQueryError
from protocols import CacheUse, ComparisonQuery

MAX_COMPLAINTS = 5

# Error types whose pydantic message contains nothing of the input; the others get a sentence of ours.
SAFE_KINDS = frozenset(
    [
        "blank",
        "placeholders",
        "too_large",
        "model_id",
        "string_type",
        "enum",
        "greater_than",
        "greater_than_equal",
        "less_than_equal",
        "float_type",
        "int_type",
        "bool_type",
        "one_line",
        "string_too_long",
    ]
)
SENTENCES = {
    "missing": "is required",
    "string_pattern_mismatch": "must be a model id",
    "uuid_parsing": "must be a UUID",
    "uuid_type": "must be a UUID",
    **IN_JSON,
}


async def read_comparison(request: ServiceRequest) -> ComparisonQuery:
    """The caller's query. Raises InvalidQueryError, UnsupportedContentTypeError or what reading the body raises.

    The correlation id is adopted as soon as it is known, so that errors carry it too.
    """
    scope = current_scope()
    scope.phase = RequestPhase.READING
    body = await read_object(request)
    scope.phase = RequestPhase.ANSWERING
    correlation_id = adopt_correlation_id(body.get("correlation_id"))
    try:
        comparison = ComparisonRequest.model_validate(body)
    except ValidationError as error:
        raise InvalidQueryError(complaints(error)) from None
    await asyncio.sleep(0)  # let other ready requests go first (decision 14)
    return query_of(
        comparison,
        correlation_id,
        caller=caller(),
        cache_use=cache_use(request),
        timeout_s=timeout_s(request),
        reading_s=time.perf_counter() - current_scope().began_s,
    )


async def read_object(request: ServiceRequest) -> dict[str, object]:
    """The JSON object in the body. Raises likewise."""
    require_plain_json(request)
    body = await request.body
    request.body.clear()  # else every waiting request would hold it twice
    await asyncio.sleep(0)  # let other ready requests go first (decision 14)
    return parse_object(body)


def complaints(error: ValidationError) -> str:
    """The first few mistakes, as "path: what is expected"."""
    mistakes = error.errors(include_input=False, include_url=False)
    listed = "; ".join(_complaint(mistake) for mistake in mistakes[:MAX_COMPLAINTS])
    return listed if len(mistakes) <= MAX_COMPLAINTS else f"{listed}; and more"


def _complaint(mistake: ErrorDetails) -> str:
    kind = mistake["type"]
    if kind == "extra_forbidden":
        return "the body contains an unknown field"
    path = ".".join(str(step) for step in mistake["loc"])
    if kind in SAFE_KINDS:
        return f"{path}: {mistake['msg']}"
    return f"{path}: {SENTENCES.get(kind, 'is not valid')}"


def query_of(
    comparison: ComparisonRequest,
    correlation_id: UUID,
    *,
    caller: str = ANONYMOUS,
    cache_use: CacheUse = CacheUse.NORMAL,
    timeout_s: float | None = None,
    reading_s: float = 0.0,
) -> ComparisonQuery:
    """The query of a validated body; the rest, which is no part of the question, as `ComparisonQuery` has it."""
    overrides = comparison.llm_config_overrides or LLMConfigOverrides()
    return ComparisonQuery(
        user_prompt=comparison.user_prompt,
        essay_a=comparison.essay_a,
        essay_b=comparison.essay_b,
        correlation_id=correlation_id,
        provider=overrides.provider_override,
        model=overrides.model_override,
        temperature=overrides.temperature_override,
        system_prompt=overrides.system_prompt_override,
        max_tokens=overrides.max_tokens_override,
        reasoning_effort=overrides.reasoning_effort_override,
        allow_fallback=bool(overrides.allow_fallback),
        user_id=comparison.user_id,
        caller=caller,
        metadata=comparison.metadata,
        replicate=comparison.replicate,
        cache_use=cache_use,
        timeout_s=timeout_s,
        reading_s=reading_s,
    )
