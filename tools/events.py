"""Writes or checks docs/events.md: every event with its topic, an example and the JSON Schema of its data."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from api.openapi.bodies import ANTHROPIC, CORRELATION_ID, MODEL, NOON, VERDICT
from api_models import (
    AdminAction,
    AdminChanged,
    CacheHit,
    CacheMiss,
    CostAlerted,
    CostAlertType,
    CostTracked,
    ErrorCode,
    EventData,
    EventEnvelope,
    ProviderFailed,
    ProviderUsage,
    RequestCompleted,
    RequestStarted,
    UsageReported,
)
from implementations.events.message import Message, message_of
from tools import generated

PAGE = Path("docs/events.md")
EVENT_ID = "5b1f7a52-0d0e-4b6a-8c35-7f2f9a6f1c11"
METADATA, TOKENS, HASH = VERDICT.metadata, VERDICT.token_usage, VERDICT.provenance.prompt_sha256

EXAMPLES: tuple[EventData, ...] = (
    RequestStarted(
        provider=None,
        correlation_id=CORRELATION_ID,
        metadata=METADATA,
        request_type="comparison",
        user_id="teacher-7",
        caller="cj-assessment",
    ),
    RequestCompleted(
        provider=ANTHROPIC,
        correlation_id=CORRELATION_ID,
        metadata=METADATA,
        request_type="comparison",
        user_id="teacher-7",
        caller="cj-assessment",
        success=True,
        response_time_ms=1840,
        error_message=None,
        token_usage=TOKENS,
        cost_estimate=0.00046,
        cached=False,
        prompt_sha256=HASH,
    ),
    ProviderFailed(
        provider=ANTHROPIC,
        correlation_id=CORRELATION_ID,
        metadata=METADATA,
        failure_type=ErrorCode.EXTERNAL_SERVICE_ERROR,
        error_details="it answered 503",
        circuit_breaker_opened=False,
    ),
    CacheHit(provider=ANTHROPIC, correlation_id=CORRELATION_ID, metadata=METADATA, cache_key=HASH),
    CacheMiss(provider=ANTHROPIC, correlation_id=CORRELATION_ID, metadata=METADATA, cache_key=HASH),
    UsageReported(
        period_start=NOON.replace(hour=11, minute=59),
        period_end=NOON,
        provider_stats={
            "anthropic": ProviderUsage(
                requests=12,
                successful=11,
                failed=1,
                purchases=9,
                tokens=27_000,
                cost_usd=0.00414,
                average_response_time_ms=1702.5,
            )
        },
        total_requests=12,
        successful_requests=11,
        failed_requests=1,
        total_tokens=27_000,
        total_cost=0.00414,
        cache_hit_rate=0.25,
        average_response_time_ms=1702.5,
    ),
    CostAlerted(
        alert_type=CostAlertType.DAILY_LIMIT,
        provider=None,
        current_cost=80.02,
        threshold=80.0,
        period="2026-11-24",
    ),
    CostTracked(
        provider=ANTHROPIC,
        correlation_id=CORRELATION_ID,
        metadata=METADATA,
        model=MODEL,
        request_type="comparison",
        cost_estimate_usd=0.00046,
        token_usage=TOKENS,
        user_id="teacher-7",
        caller="cj-assessment",
        service_name="llm-provider-service",
        request_timestamp=NOON,
        response_time_ms=1832,
        cached=False,
        cache_cost_savings_usd=0.0,
        prompt_sha256=HASH,
    ),
    AdminChanged(
        actor="admin@10.0.3.7",
        action=AdminAction.SETTING_CHANGED,
        field="cost_limit_usd_per_day",
        old_value=20.0,
        new_value=5.0,
        request_id=CORRELATION_ID,
    ),
)


class _WithOpenEnumerations(GenerateJsonSchema):
    """Known values are examples: classes generated from an `enum` refuse the first event of a new provider."""

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        described = super().enum_schema(schema)
        described["examples"] = described.pop("enum")
        return described


def main() -> int:
    """Return the exit code."""
    return generated.main(__doc__, lambda: {PAGE: page(PAGE.read_text())})


def page(text: str) -> str:
    """The page with fresh events between its markers."""
    return generated.replaced(text, "events", "".join(_parts()))


def _parts() -> Iterator[str]:
    yield "\n## The envelope\n\n" + _block(schema(EventEnvelope))
    for example in EXAMPLES:
        kind = type(example)
        yield (
            f"\n## {example.event.name}\n\n{inspect.getdoc(kind)}\n\n"
            f"- topic `{example.event.topic}`\n- key `{message_for(example).key.decode()}` in the example\n\n"
        )
        yield "Example:\n\n" + _block(envelope(example)) + "\nSchema of `data`:\n\n" + _block(schema(kind))


def message_for(example: EventData) -> Message:
    """The example as the service sends it."""
    return message_of(example, service_name="llm-provider-service", traceparent=None, now=NOON, now_s=0.0)


def envelope(example: EventData) -> object:
    """The message value of the example, with a fixed event id."""
    sent = orjson.loads(message_for(example).encoded())
    random_id = sent["event_id"]
    return {name: EVENT_ID if value == random_id else value for name, value in sent.items()}


def schema(kind: type[EventData | EventEnvelope]) -> dict[str, object]:
    """The JSON Schema of a payload or the envelope. `data` of the envelope is any of the payloads."""
    found = TypeAdapter(kind).json_schema(mode="serialization", schema_generator=_WithOpenEnumerations)
    if kind is EventEnvelope:
        found.pop("$defs")
        found["properties"]["data"] = {"type": "object"}
    return found


def _block(value: object) -> str:
    return f"```json\n{orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()}\n```\n"


if __name__ == "__main__":
    sys.exit(main())
