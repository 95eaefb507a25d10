"""Reads a comparison request: bounded, strict JSON, validated; what is wrong is named, never echoed."""

import json
from collections.abc import Iterable
from itertools import chain
from uuid import UUID

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from quart import Request

from api.request_headers import cache_use, require_plain_json, timeout_s
from api.request_scope import adopt_correlation_id
from api_models import ComparisonRequest, LLMConfigOverrides
from exceptions import InvalidQueryError
from protocols import CacheUse, ComparisonQuery

MAX_DEPTH = 64
MAX_VALUES = 20_000
TOO_MANY_VALUES = f"the body holds more than {MAX_VALUES} values"
MAX_COMPLAINTS = 5
BIGGEST_EXACT = 2.0**63

# Messages of pydantic that hold nothing of the input; every other kind of mistake gets a sentence of ours.
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
        "dict_type",
    ]
)
SENTENCES = {
    "missing": "is required",
    "string_pattern_mismatch": "must be a model id",
    "uuid_parsing": "must be a UUID",
    "uuid_type": "must be a UUID",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


async def read_comparison(request: Request) -> ComparisonQuery:
    """The caller's query. Raises InvalidQueryError, UnsupportedContentTypeError or what the server makes of the body.

    The correlation id is taken over as soon as it is readable, so that a refusal carries it too.
    """
    require_plain_json(request)
    body = parsed(await request.get_data(cache=False, as_text=False, parse_form_data=False))
    correlation_id = adopt_correlation_id(body.get("correlation_id"))
    try:
        comparison = ComparisonRequest.model_validate(body)
    except ValidationError as error:
        raise InvalidQueryError(complaints(error)) from None
    return _query(
        comparison,
        correlation_id,
        cache_use=cache_use(request),
        timeout_s=timeout_s(request),
    )


def parsed(body: bytes) -> dict[str, object]:
    """The JSON object in the body; of duplicate keys the last wins. Raises InvalidQueryError."""
    _refuse_too_many_values(body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidQueryError("the body is not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise InvalidQueryError("the body must be a JSON object")
    if _has_inexact_number(value):
        _refuse_large_integers(body)
    return value


def _refuse_too_many_values(body: bytes) -> None:
    """Count what stands outside of strings, because parsing builds everything before anything can be counted.

    No JSON of MAX_VALUES values is refused: each brings two strings, one comma and one bracket at most, and escapes
    go first, so that a quote is the end of a string. It is only a bound: what it lets through is counted exactly.
    """
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * MAX_VALUES:
        raise InvalidQueryError(TOO_MANY_VALUES)
    outside = b"".join(plain.split(b'"')[::2])
    openings = outside.count(b"[") + outside.count(b"{") - 1  # the body's own is none of its values
    if max(outside.count(b","), openings) > MAX_VALUES:
        raise InvalidQueryError(TOO_MANY_VALUES)


def complaints(error: ValidationError) -> str:
    """What is wrong, as "path: what is expected", a few at most."""
    mistakes = error.errors(include_input=False, include_url=False)
    told = "; ".join(_complaint(mistake) for mistake in mistakes[:MAX_COMPLAINTS])
    return told if len(mistakes) <= MAX_COMPLAINTS else f"{told}; and more"


def _complaint(mistake: ErrorDetails) -> str:
    path = ".".join(str(step) for step in mistake["loc"])
    kind = mistake["type"]
    if kind in SAFE_KINDS:
        return f"{path}: {mistake['msg']}"
    return f"{path}: {SENTENCES.get(kind, 'is not valid')}"


def _has_inexact_number(root: dict[str, object]) -> bool:
    """Walk everything once. Raises InvalidQueryError for what is too deep, too much or holds a NUL."""
    inexact = False
    seen = 0
    pending: list[tuple[dict[str, object] | list[object], int]] = [(root, 1)]
    while pending:
        container, depth = pending.pop()
        seen += len(container)
        if depth > MAX_DEPTH:
            raise InvalidQueryError(f"the body is nested deeper than {MAX_DEPTH} levels")
        if seen > MAX_VALUES:
            raise InvalidQueryError(TOO_MANY_VALUES)
        for value in _members(container):
            if isinstance(value, dict | list):
                pending.append((value, depth + 1))
            elif isinstance(value, str) and "\x00" in value:
                raise InvalidQueryError("the body holds a NUL character")
            inexact = inexact or (isinstance(value, float) and abs(value) >= BIGGEST_EXACT)
    return inexact


def _members(container: dict[str, object] | list[object]) -> Iterable[object]:
    """Keys count as members: they are text of the caller as well."""
    return chain(container, container.values()) if isinstance(container, dict) else container


def _refuse_large_integers(body: bytes) -> None:
    """Orjson reads an integer beyond 64 bits as a float; only another reading tells it from a written float."""

    def exact(digits: str) -> int:
        number = int(digits) if len(digits) <= len("-18446744073709551615") else 1 << 64
        if not -(1 << 63) <= number < 1 << 64:
            raise InvalidQueryError("the body holds an integer beyond 64 bits")
        return number

    json.loads(body, parse_int=exact)


def _query(
    comparison: ComparisonRequest, correlation_id: UUID, *, cache_use: CacheUse, timeout_s: float | None
) -> ComparisonQuery:
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
        metadata=comparison.metadata,
        replicate=comparison.replicate,
        cache_use=cache_use,
        timeout_s=timeout_s,
    )
