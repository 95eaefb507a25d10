"""Anthropic's Messages API, with native schemas (`output_config.format`); it rejects prefill and forced tools."""

from typing import Any

from api_models import JsonObject
from config import AnthropicSettings
from implementations.judging.verdict import VERDICT_SCHEMA, read_reply
from implementations.wire.endpoint import Endpoint, own_header
from implementations.wire.finish_reasons import ANTHROPIC, unless_calling
from implementations.wire.json_reading import at, expect, list_at, text_at
from implementations.wire.transport import Transport
from implementations.wire.usage import read_usage
from protocols import Completion, FinishReason, ProviderReply, ProviderRequest

API_VERSION = "2026-10-21"
API_VERSION_WITH_TEMPERATURE = "2023-06-01"  # newer versions refuse sampling parameters for every model
US_ONLY, US_ONLY_FACTOR = "us", 1.1  # a workspace may be set to it; the models that cannot be asked for it never say so
THINKING_WORDS = frozenset({"disabled", "between_tools"})
BILLED_REFUSALS = frozenset({"bio", "frontier_llm", "reasoning_extraction"})  # before any output; others are free


class AnthropicProviderImpl:
    """Speaks the Messages API."""

    def __init__(self, transport: Transport, settings: AnthropicSettings) -> None:
        self._endpoint = Endpoint(transport, settings.base_url, own_header("x-api-key", settings.api_key))

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """Judge one pair."""
        version = API_VERSION if request.temperature is None else API_VERSION_WITH_TEMPERATURE
        answer = await self._endpoint.post("/v1/messages", payload(request), {"anthropic-version": version})
        return read_reply(request, completion(answer))

    async def probe(self) -> str:
        """List the models, which is free and requires the key."""
        expect(await self._endpoint.get("/v1/models?limit=1", {"anthropic-version": API_VERSION}), "data", list)
        return "The key is accepted."


def payload(request: ProviderRequest) -> JsonObject:
    """The request body; the cacheable prefix ends with the caller's task."""
    prompt = request.prompt
    marked: JsonObject = {"type": "text", "text": prompt.lead, "cache_control": {"type": "ephemeral"}}
    rest = prompt.user_text.removeprefix(prompt.lead)
    blocks = [marked, _text(rest)] if request.marks_prefix else [_text(prompt.user_text)]
    output: JsonObject = {"format": {"type": "json_schema", "schema": VERDICT_SCHEMA}}
    body: JsonObject = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "system": [_text(prompt.system)],
        "messages": [{"role": "user", "content": blocks}],
        "output_config": output,
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.reasoning in THINKING_WORDS:
        body["thinking"] = {"type": request.reasoning}
    elif request.reasoning:
        output["effort"] = request.reasoning
    return body


def completion(answer: JsonObject) -> Completion:
    """The text blocks joined, without thinking blocks. Prompt tokens are reported in three parts."""
    usage = at(answer, "usage")
    read, written = at(usage, "cache_read_input_tokens"), at(usage, "cache_creation_input_tokens")
    for_an_hour = at(usage, "cache_creation", "ephemeral_1h_input_tokens")
    blocks = list_at(answer, "content")
    finish_reason = _finish_reason(answer, blocks)
    is_mute = finish_reason is FinishReason.REFUSED and not blocks
    is_free = is_mute and text_at(answer, "stop_details", "category") not in BILLED_REFUSALS
    return Completion(
        text="".join(text_at(block, "text") for block in blocks if at(block, "type") == "text"),
        finish_reason=finish_reason,
        model=text_at(answer, "model"),
        usage=read_usage(
            prompt=(at(usage, "input_tokens"), written, read),
            completion=(at(usage, "output_tokens"),),
            cached=read,
            written=written,
            written_for_long=for_an_hour,
            reasoning=at(usage, "output_tokens_details", "thinking_tokens"),
            price_factor=US_ONLY_FACTOR if text_at(usage, "inference_geo") == US_ONLY else 1.0,
        ),
        cost_usd=0.0 if is_free else None,
    )


def _finish_reason(answer: JsonObject, blocks: list[Any]) -> FinishReason:
    """Refusal details mean a refusal, whatever the stop reason; a finished answer uses no tool."""
    if at(answer, "stop_details", "type") == "refusal":
        return FinishReason.REFUSED
    finish_reason = ANTHROPIC.get(text_at(answer, "stop_reason"), FinishReason.UNEXPECTED)
    return unless_calling(finish_reason, calls=any(at(block, "type") == "tool_use" for block in blocks))


def _text(text: str) -> JsonObject:
    return {"type": "text", "text": text}
