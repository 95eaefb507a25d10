"""OpenRouter: chat completions routed to other vendors. A 200 may hold an error; its usage reports the actual cost."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from api_models import JsonObject, Purchase
from config import OpenRouterSettings
from exceptions import BrokenReplyError, ProviderError, ProviderUnavailableError
from implementations.judging.verdict import VERDICT_SCHEMA, read_reply
from implementations.wire import chat_completions as chat
from implementations.wire.endpoint import Endpoint, bearer
from implementations.wire.failures import failure_in_success
from implementations.wire.finish_reasons import CHAT_COMPLETIONS
from implementations.wire.json_reading import at, expect, text_at
from implementations.wire.transport import Transport
from protocols import Completion, FinishReason, ProviderReply, ProviderRequest

# An account may switch them on, and the first is on for small models: it cuts the essays in the middle. The others
# repair answers and add texts from the web.
NO_PLUGINS = [{"id": name, "enabled": False} for name in ("context-compression", "response-healing", "web")]
NO_COPIES = {"X-OpenRouter-Cache": "false"}  # a preset may switch it on: a replicate would be a copy, a retry too
GEMINI_ROUTES = "google/"  # they accept enums of strings only
MOST_DOLLARS = 10_000  # per call; anything above is not a plausible price

# Words of Gemini, OpenAI's Responses and Anthropic for what is no answer, whatever text there is.
UNFINISHED = (
    "OTHER",
    "MALFORMED_RESPONSE",
    "MALFORMED_FUNCTION_CALL",
    "incomplete",
    "failed",
    "cancelled",
    "pause_turn",
)

NATIVE_FINISH_REASONS: Mapping[str, FinishReason] = {
    **CHAT_COMPLETIONS,
    **dict.fromkeys(UNFINISHED, FinishReason.UNEXPECTED),
    "completed": FinishReason.COMPLETE,
    "max_output_tokens": FinishReason.TRUNCATED,
}


class OpenRouterProviderImpl:
    """Speaks chat completions as OpenRouter does, only to routes that support our parameters and train on no prompt.

    Such a route may retain prompts for a time; that, the account decides.
    """

    def __init__(self, transport: Transport, settings: OpenRouterSettings) -> None:
        self._endpoint = Endpoint(transport, settings.base_url, bearer(settings.api_key))

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """Judge one pair."""
        answer = await self._endpoint.post(
            chat.PATH, payload(request), NO_COPIES, failure_in=partial(_failure_of_route, request)
        )
        return read_reply(request, completion(answer))

    async def probe(self) -> str:
        """Look up the key: the model list is public and would prove nothing."""
        expect(await self._endpoint.get("/key"), "data", dict)
        return "The key is accepted."


def payload(request: ProviderRequest) -> JsonObject:
    """The request body, with the requirements on the route."""
    body = chat.payload(request, role="system", schema=_schema(request.model))
    body |= {
        "max_tokens": request.max_tokens,
        "provider": {"require_parameters": True, "data_collection": "deny", "allow_fallbacks": True},
        "plugins": NO_PLUGINS,
        "session_id": chat.prefix_group(request.prompt),
    }
    if request.reasoning:
        body["reasoning"] = {"effort": request.reasoning}
    return body


def completion(answer: JsonObject) -> Completion:
    """Includes the amount charged."""
    return replace(chat.completion(answer, _finish_reason), cost_usd=_charged_usd(answer))


def _finish_reason(choice: Any) -> FinishReason:
    """Why the choice ended, by OpenRouter's word and the routed vendor's; either may be missing.

    Where OpenRouter says that the answer is complete, a vendor's word that says otherwise counts. Without any word the
    text decides: `read_reply` accepts nothing less than a whole verdict, so not a truncated one.
    """
    is_stated = at(choice, "finish_reason") is not None
    reason = chat.stated_finish_reason(choice) if is_stated else FinishReason.COMPLETE
    if reason is not FinishReason.COMPLETE or at(choice, "native_finish_reason") is None:
        return reason
    unknown = FinishReason.COMPLETE if is_stated else FinishReason.UNEXPECTED
    return NATIVE_FINISH_REASONS.get(text_at(choice, "native_finish_reason"), unknown)


def _charged_usd(answer: JsonObject) -> float | None:
    """The amount charged, if it is known; with our own vendor key (BYOK), plus the vendor's charge."""
    usage = at(answer, "usage")
    charged = _dollars(at(usage, "cost"))
    upstream = _dollars(at(usage, "cost_details", "upstream_inference_cost")) if at(usage, "is_byok") is True else 0.0
    return None if charged is None or upstream is None else charged + upstream


def _failure_of_route(request: ProviderRequest, answer: JsonObject, now_s: float) -> ProviderError | None:
    """The failure if the answer or its choice holds an error, or there is no choice; with what was charged."""
    choice = at(answer, "choices", 0)
    failure = failure_in_success(answer, now_s) or failure_in_success(choice, now_s)
    if failure is None and not choice:
        failure = BrokenReplyError("the answer holds no choice")
    if failure is None and at(choice, "finish_reason") == "error":
        failure = ProviderUnavailableError("the route failed during the answer")
    if failure is not None:
        failure.purchase = _purchase(request, answer)
    return failure


def _purchase(request: ProviderRequest, answer: JsonObject) -> Purchase | None:
    """What a failed route charged, possibly nothing; None if it does not say."""
    usage, cost_usd = chat.reported_usage(answer), _charged_usd(answer)
    is_told = cost_usd is not None or usage.prompt + usage.completion > 0
    return Purchase(model=request.model, usage=usage, cost_usd=cost_usd) if is_told else None


def _dollars(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= MOST_DOLLARS else None


def _schema(model: str) -> JsonObject:
    if not model.startswith(GEMINI_ROUTES):
        return VERDICT_SCHEMA
    properties = VERDICT_SCHEMA["properties"]
    confidence = {name: value for name, value in properties["confidence"].items() if name != "enum"}
    return {**VERDICT_SCHEMA, "properties": {**properties, "confidence": confidence}}
