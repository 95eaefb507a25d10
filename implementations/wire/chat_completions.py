"""The chat completions format shared by OpenAI, OpenRouter and self-hosted servers; each adds its own parameters."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from api_models import JsonObject, Usage
from implementations.wire.finish_reasons import CHAT_COMPLETIONS, unless_calling
from implementations.wire.json_reading import at, expect, list_at, text_at
from implementations.wire.usage import read_usage, uncounted
from protocols import KEPT_CHARACTERS, Completion, FinishReason, PromptProtocol, ProviderRequest

PATH = "/chat/completions"
GROUP_HEX_DIGITS = 32


def payload(request: ProviderRequest, *, role: str, schema: JsonObject) -> JsonObject:
    """The request body common to all of them. role: of the judge's instructions."""
    body: JsonObject = {
        "model": request.model,
        "messages": [
            {"role": role, "content": request.prompt.system},
            {"role": "user", "content": request.prompt.user_text},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "strict": True, "schema": schema},
        },
        "stream": False,  # some servers and gateways stream an answer of which nothing is said
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return body


def prefix_group(prompt: PromptProtocol) -> str:
    """A key shared by all questions with the same stable prefix, so that they hit the same prompt cache."""
    stable = prompt.system + prompt.lead
    return (_kept_name if len(stable) <= KEPT_CHARACTERS else _name)(stable)


def _name(stable: str) -> str:
    return hashlib.sha256(stable.encode()).hexdigest()[:GROUP_HEX_DIGITS]


_kept_name = lru_cache(maxsize=8)(_name)  # many questions share one prefix


def stated_finish_reason(choice: Any) -> FinishReason:
    """Why the choice ended, by its `finish_reason`; Google adds a detail: `content_filter: RECITATION`."""
    word, _, _ = text_at(choice, "finish_reason").partition(": ")
    return CHAT_COMPLETIONS.get(word, FinishReason.UNEXPECTED)


def completion(
    answer: JsonObject, finish_reason_of: Callable[[Any], FinishReason] = stated_finish_reason
) -> Completion:
    """What the model wrote in its only choice. finish_reason_of: reads why a choice ended."""
    choices = list_at(answer, "choices")
    choice = at(choices, 0)
    return Completion(
        text=_text(choice),
        finish_reason=_finish_reason(choice, finish_reason_of) if len(choices) == 1 else FinishReason.UNEXPECTED,
        model=text_at(answer, "model"),
        usage=reported_usage(answer),
    )


def _text(choice: Any) -> str:
    """The content; where Mistral's models think, that of its parts which is not a thought."""
    content = at(choice, "message", "content")
    if isinstance(content, str):
        return content
    return "".join(text_at(part, "text") for part in list_at(content) if at(part, "type") == "text")


def _finish_reason(choice: Any, finish_reason_of: Callable[[Any], FinishReason]) -> FinishReason:
    """A refusal of any shape is one, also as a part of the content; a finished answer calls no tool."""
    message = at(choice, "message")
    if at(message, "refusal") or any(at(part, "type") == "refusal" for part in list_at(message, "content")):
        return FinishReason.REFUSED
    calls = bool(at(message, "tool_calls") or at(message, "function_call"))
    return unless_calling(finish_reason_of(choice), calls=calls)


def reported_usage(answer: JsonObject) -> Usage:
    """The token counts, also of an answer that holds an error."""
    usage = at(answer, "usage")
    total, prompt, completed = at(usage, "total_tokens"), at(usage, "prompt_tokens"), at(usage, "completion_tokens")
    return read_usage(
        prompt=(prompt,),
        completion=(completed, uncounted(total, prompt, completed)),
        cached=at(usage, "prompt_tokens_details", "cached_tokens"),
        written=at(usage, "prompt_tokens_details", "cache_write_tokens"),
        reasoning=at(usage, "completion_tokens_details", "reasoning_tokens"),
    )


def listed_models(answer: JsonObject) -> str:
    """A model list as a message for operators. Raises UnreadableReplyError if the answer is not one.

    Ollama without a model says that its list is null.
    """
    if at(answer, "object") != "list" or at(answer, "data") is not None:
        expect(answer, "data", list)
    return f"It answers and lists {len(answer.get('data') or ())} models."
