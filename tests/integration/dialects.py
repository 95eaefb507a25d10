"""How each provider's API looks on the wire, written from its documentation.

Nothing here is taken from our own code, so that a mistake there is not repeated. Canaries stand in the key, in the
essays and in everything that an upstream failure says: none of them may come out again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from api_models import JsonObject, ProviderName
from tests.integration.stand_in import Act, answer

KEY, ESSAY, UPSTREAM = "kanarie-key-0123456789", "kanarienvogel", "spottdrossel"
CANARIES = (KEY, ESSAY, UPSTREAM)
QUESTION: Mapping[str, Any] = {
    "user_prompt": "Which essay argues better?",
    "essay_a": f"Phones distract pupils, because a {ESSAY} sings in every one of them.",
    "essay_b": f"phone is good or bad, says my {ESSAY}",
}

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "justification": {"type": "string", "description": "At most 120 words."},
        "winner": {"type": "string", "enum": ["Essay A", "Essay B"]},
        "confidence": {"type": "integer", "enum": [1, 2, 3, 4, 5], "description": "1 = guess, 5 = certain"},
    },
    "required": ["justification", "winner", "confidence"],
    "additionalProperties": False,
}

Failure = tuple[int, JsonObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Tokens as billed: cached and written are parts of prompt, thought is a part of completion."""

    prompt: int = 3000
    completion: int = 400
    cached: int = 1000
    written: int = 500
    thought: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One provider's documented API.

    group: its settings' common beginning. base: what the base URL ends in. looked_up: the answer to the free look-up.
    key: header and value. answered: the model that a good answer names. sent: every field of a request, `...` where
    other tests look. instructions, question, room: where a request has the judge's instructions, the question, and how
    much may be written. reply: a body from text, reason to stop and usage. stops: that reason when all is well, at the
    token limit, by a filter. counted: what usage tells of the tokens. input_count: usage's main field. good_usd: what a
    good answer costs, computed by hand from the published prices. failures: answers by case. conventions: how those of
    OpenTelemetry call provider and operation.
    """

    name: ProviderName
    group: str
    base: str
    ask_path: str
    probe_target: str
    looked_up: JsonObject
    key: tuple[str, str]
    model: str
    answered: str
    sent: Mapping[str, object]
    instructions: Callable[[JsonObject], str]
    question: Callable[[JsonObject], str]
    room: Callable[[JsonObject], object]
    reply: Callable[[object, str, object], JsonObject]
    stops: tuple[str, str, str]
    usage: Callable[[Counts], JsonObject]
    counted: Counts = Counts()
    input_count: str
    refusal: JsonObject
    good_usd: float
    failures: Mapping[str, Failure]
    conventions: tuple[str, str]

    def variables(self, url: str) -> dict[str, str]:
        """The settings, without prefix, under which this provider is asked at the URL."""
        named = "NAME" if self.name is ProviderName.INTERNAL else "DEFAULT_MODEL"
        return {
            f"{self.group}_ENABLED": "true",
            f"{self.group}_BASE_URL": url + self.base,
            f"{self.group}_API_KEY": KEY,
            f"{self.group}_{named}": self.model,
        }

    def good(self, **usage: object) -> JsonObject:
        """A verdict; usage: fields of it that are replaced."""
        return self.says(verdict(), usage=self.usage(Counts()) | usage)

    def says(self, text: object, *, usage: object = None) -> JsonObject:
        """A complete answer with this text in the place of the verdict."""
        return self.reply(text, self.stops[0], self.usage(Counts()) if usage is None else usage)

    def cut(self) -> JsonObject:
        """An answer that the token limit ended."""
        return self.reply(verdict()[:20], self.stops[1], self.usage(Counts()))

    def filtered(self) -> JsonObject:
        """An answer that a content filter ended."""
        return self.reply("", self.stops[2], self.usage(Counts()))

    def fails(self, case: str, status: int | None = None, /, **headers: str) -> Act:
        """The documented error of that case, with another status if one is given."""
        documented, body = self.failures[case]
        return answer(body, status or documented, **headers)


def verdict(**changes: object) -> str:
    """The JSON text of a verdict; its justification is upstream text, which only a valid verdict may carry out."""
    plain = {"justification": f"The {UPSTREAM} gives reasons.", "winner": "Essay A", "confidence": 4}
    return orjson.dumps(plain | changes).decode()


# --- Anthropic --------------------------------------------------------------------------------------------------------


def _message(text: object, stop: str, usage: object) -> JsonObject:
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "thinking", "thinking": "{", "signature": "c2ln"}, {"type": "text", "text": text}],
        "stop_reason": stop,
        "stop_sequence": None,
        "stop_details": None,
        "usage": usage,
    }


def _anthropic_usage(counts: Counts) -> JsonObject:
    return {
        "input_tokens": counts.prompt - counts.cached - counts.written,
        "cache_creation_input_tokens": counts.written,
        "cache_read_input_tokens": counts.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": counts.written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": counts.completion,
        "output_tokens_details": {"thinking_tokens": counts.thought},
        "service_tier": "standard",
    }


def anthropic_error(kind: str, message: str = UPSTREAM, **more: object) -> JsonObject:
    """The body of one of Anthropic's errors."""
    return {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "req_011C"}


ANTHROPIC = Dialect(
    name=ProviderName.ANTHROPIC,
    group="ANTHROPIC",
    base="",
    ask_path="/v1/messages",
    probe_target="/v1/models?limit=1",
    looked_up={"data": [{"id": "m"}]},
    key=("x-api-key", KEY),
    model="claude-haiku-5-5",
    answered="claude-haiku-5-5",
    sent={
        "model": "claude-haiku-5-5",
        "max_tokens": 4096,
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "system": ...,
        "messages": ...,
    },
    instructions=lambda body: body["system"][0]["text"],
    question=lambda body: "".join(block["text"] for block in body["messages"][0]["content"]),
    room=lambda body: body["max_tokens"],
    reply=_message,
    stops=("end_turn", "max_tokens", "refusal"),
    usage=_anthropic_usage,
    input_count="input_tokens",
    refusal={
        **_message(UPSTREAM, "refusal", _anthropic_usage(Counts())),
        "stop_details": {"type": "refusal", "category": "general_harms", "explanation": UPSTREAM},
    },
    good_usd=(1500 * 0.10 + 1000 * 0.01 + 500 * 0.125 + 400 * 0.50) / 1_000_000,
    failures={
        "throttled": (429, anthropic_error("rate_limit_error")),
        "quota": (429, anthropic_error("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"})),
        "key": (401, anthropic_error("authentication_error", f"invalid x-api-key {KEY} {UPSTREAM}")),
        "forbidden": (403, anthropic_error("permission_error")),
        "invalid": (400, anthropic_error("invalid_request_error")),
        "too long": (400, anthropic_error("invalid_request_error", f"prompt is too long: 210000 tokens {UPSTREAM}")),
        "model": (404, anthropic_error("not_found_error")),
        "too large": (413, anthropic_error("request_too_large")),
        "failed": (500, anthropic_error("api_error")),
        "overloaded": (529, anthropic_error("overloaded_error")),
    },
    conventions=("anthropic", "chat"),
)

# --- OpenAI and what speaks like it -----------------------------------------------------------------------------------


STRICT_FORMAT = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA}}


def _first_message(body: JsonObject) -> str:
    return str(body["messages"][0]["content"])


def _last_message(body: JsonObject) -> str:
    return str(body["messages"][-1]["content"])


def _chat(model: str) -> Callable[[object, str, object], JsonObject]:
    def reply(text: object, stop: str, usage: object) -> JsonObject:
        message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "finish_reason": stop, "logprobs": None}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": usage,
        }

    return reply


def _chat_usage(counts: Counts) -> JsonObject:
    return {
        "prompt_tokens": counts.prompt,
        "prompt_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": counts.written},
        "completion_tokens": counts.completion,
        "completion_tokens_details": {"reasoning_tokens": counts.thought},
        "total_tokens": counts.prompt + counts.completion,
    }


def _openrouter_usage(counts: Counts) -> JsonObject:
    return {**_chat_usage(counts), "cost": 0.0011, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}


def _internal_usage(counts: Counts) -> JsonObject:
    return {**_chat_usage(counts), "prompt_tokens_details": None, "completion_tokens_details": None}


def _refused(body: JsonObject) -> JsonObject:
    body["choices"][0]["message"] |= {"content": None, "refusal": UPSTREAM}
    return body


def openai_error(code: object, kind: str = "invalid_request_error", message: str = UPSTREAM) -> JsonObject:
    """The body of one of OpenAI's errors."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


OWN = {"provider_name": None, "raw": None}  # of OpenRouter's own account with it, not of one with a vendor


def openrouter_error(code: int, kind: str, **metadata: object) -> JsonObject:
    """The body of one of OpenRouter's errors."""
    told = {"error_type": kind, "provider_name": "Google", "raw": UPSTREAM, **metadata}
    return {"error": {"code": code, "message": UPSTREAM, "metadata": told}, "user_id": "user_1"}


OPENAI = Dialect(
    name=ProviderName.OPENAI,
    group="OPENAI",
    base="/v1",
    ask_path="/v1/chat/completions",
    probe_target="/v1/models",
    looked_up={"data": [{"id": "m"}]},
    key=("authorization", f"Bearer {KEY}"),
    model="gpt-6-luna",
    answered="gpt-6-luna-2026-09-22",
    sent={
        "model": "gpt-6-luna",
        "max_completion_tokens": 4096,
        "store": False,
        "service_tier": "default",
        "response_format": STRICT_FORMAT,
        "stream": False,
        "prompt_cache_key": ...,
        "messages": ...,
    },
    instructions=_first_message,
    question=_last_message,
    room=lambda body: body["max_completion_tokens"],
    reply=_chat("gpt-6-luna-2026-09-22"),
    stops=("stop", "length", "content_filter"),
    usage=_chat_usage,
    input_count="prompt_tokens",
    refusal=_refused(_chat("gpt-6-luna-2026-09-22")(None, "stop", _chat_usage(Counts()))),
    good_usd=(1500 * 0.10 + 1000 * 0.01 + 500 * 0.125 + 400 * 0.50) / 1_000_000,
    failures={
        "throttled": (429, openai_error("rate_limit_exceeded", "tokens")),
        "quota": (429, openai_error("insufficient_quota", "insufficient_quota")),
        "key": (401, openai_error("invalid_api_key", message=f"Incorrect API key provided: {KEY} {UPSTREAM}")),
        "forbidden": (403, openai_error("unsupported_country_region_territory", "request_forbidden")),
        "invalid": (400, openai_error("unsupported_value")),
        "too long": (400, openai_error("context_length_exceeded")),
        "model": (404, openai_error("model_not_found")),
        "too large": (413, openai_error(None)),
        "failed": (500, openai_error(None, "server_error")),
        "overloaded": (503, openai_error("server_is_overloaded", "service_unavailable_error")),
    },
    conventions=("openai", "chat"),
)

OPENROUTER = Dialect(
    name=ProviderName.OPENROUTER,
    group="OPENROUTER",
    base="/api/v1",
    ask_path="/api/v1/chat/completions",
    probe_target="/api/v1/key",
    looked_up={"data": {"limit_remaining": 5}},
    key=("authorization", f"Bearer {KEY}"),
    model="anthropic/claude-haiku-5.5",
    answered="anthropic/claude-haiku-5.5",
    sent={
        "model": "anthropic/claude-haiku-5.5",
        "max_tokens": 4096,
        "response_format": STRICT_FORMAT,
        "stream": False,
        "provider": {"require_parameters": True, "data_collection": "deny", "allow_fallbacks": True},
        "plugins": [
            {"id": "context-compression", "enabled": False},
            {"id": "response-healing", "enabled": False},
            {"id": "web", "enabled": False},
        ],
        "session_id": ...,
        "messages": ...,
    },
    instructions=_first_message,
    question=_last_message,
    room=lambda body: body["max_tokens"],
    reply=_chat("anthropic/claude-haiku-5.5"),
    stops=("stop", "length", "content_filter"),
    usage=_openrouter_usage,
    input_count="prompt_tokens",
    refusal=_refused(_chat("anthropic/claude-haiku-5.5")(None, "stop", _openrouter_usage(Counts()))),
    good_usd=0.0011,
    failures={
        "throttled": (429, openrouter_error(429, "rate_limit_exceeded")),
        "quota": (402, openrouter_error(402, "payment_required", **OWN)),
        "key": (401, openrouter_error(401, "authentication", key=KEY, **OWN)),
        "forbidden": (403, openrouter_error(403, "permission_denied", **OWN)),
        "invalid": (400, openrouter_error(400, "invalid_request")),
        "too long": (400, openrouter_error(400, "context_length_exceeded")),
        "model": (404, openrouter_error(404, "not_found")),
        "too large": (413, openrouter_error(413, "payload_too_large")),
        "failed": (500, openrouter_error(500, "server")),
        "overloaded": (503, openrouter_error(503, "provider_overloaded")),
    },
    conventions=("openrouter", "chat"),
)

INTERNAL = Dialect(
    name=ProviderName.INTERNAL,
    group="INTERNAL_MODEL",
    base="/v1",
    ask_path="/v1/chat/completions",
    probe_target="/v1/models",
    looked_up={"data": [{"id": "m"}]},
    key=("authorization", f"Bearer {KEY}"),
    model="Qwen/Qwen3-32B",
    answered="Qwen/Qwen3-32B",
    sent={
        "model": "Qwen/Qwen3-32B",
        "max_tokens": 4096,
        "response_format": STRICT_FORMAT,
        "stream": False,
        "messages": ...,
    },
    instructions=_first_message,
    question=_last_message,
    room=lambda body: body["max_tokens"],
    reply=_chat("Qwen/Qwen3-32B"),
    stops=("stop", "length", "content_filter"),
    usage=_internal_usage,
    counted=Counts(cached=0, written=0, thought=0),
    input_count="prompt_tokens",
    refusal=_refused(_chat("Qwen/Qwen3-32B")(None, "stop", _internal_usage(Counts()))),
    good_usd=0.0,
    failures={
        "throttled": (429, openai_error(429, "RateLimitError")),
        "quota": (402, {"error": UPSTREAM}),
        "key": (401, {"error": f"Unauthorized {KEY} {UPSTREAM}"}),
        "forbidden": (403, {"error": UPSTREAM}),
        "invalid": (400, openai_error(400, "BadRequestError")),
        "too long": (400, openai_error(400, "BadRequestError", f"This model's maximum context length is 8 {UPSTREAM}")),
        "model": (404, openai_error(None, "not_found_error")),
        "too large": (413, {"error": UPSTREAM}),
        "failed": (500, {"error": f"the model failed to generate a response {UPSTREAM}"}),
        "overloaded": (503, openai_error(503, "ServiceUnavailableError")),
    },
    conventions=("internal", "chat"),
)

# --- Google -----------------------------------------------------------------------------------------------------------


def _generated(text: object, stop: str, usage: object) -> JsonObject:
    parts = [{"text": "{", "thought": True}, {"text": text, "thoughtSignature": "c2ln"}]
    candidate = {"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": stop}
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": "gemini-3.5-flash-lite",
        "responseId": "r1",
    }


def _google_usage(counts: Counts) -> JsonObject:
    return {
        "promptTokenCount": counts.prompt,
        "cachedContentTokenCount": counts.cached,
        "candidatesTokenCount": counts.completion - counts.thought,
        "thoughtsTokenCount": counts.thought,
        "totalTokenCount": counts.prompt + counts.completion,
    }


def google_error(code: int, status: str, *details: JsonObject) -> JsonObject:
    """The body of one of Google's errors."""
    return {"error": {"code": code, "message": UPSTREAM, "status": status, "details": list(details)}}


PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "20"}],
}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "metadata": {"key": KEY}}
TOO_LONG = f"The input token count (9) exceeds the maximum number of tokens allowed (8). {UPSTREAM}"

GOOGLE = Dialect(
    name=ProviderName.GOOGLE,
    group="GOOGLE",
    base="",
    ask_path="/v1beta/models/gemini-3.5-flash-lite:generateContent",
    probe_target="/v1beta/models?pageSize=1",
    looked_up={"models": [{"name": "m"}]},
    key=("x-goog-api-key", KEY),
    model="gemini-3.5-flash-lite",
    answered="gemini-3.5-flash-lite",
    sent={
        "generationConfig": {
            "maxOutputTokens": 4096,
            "responseMimeType": "application/json",
            "responseJsonSchema": {**SCHEMA, "propertyOrdering": ["justification", "winner", "confidence"]},
        },
        "store": False,
        "systemInstruction": ...,
        "contents": ...,
    },
    instructions=lambda body: body["systemInstruction"]["parts"][0]["text"],
    question=lambda body: "".join(part["text"] for part in body["contents"][0]["parts"]),
    room=lambda body: body["generationConfig"]["maxOutputTokens"],
    reply=_generated,
    stops=("STOP", "MAX_TOKENS", "SAFETY"),
    usage=_google_usage,
    counted=Counts(written=0),
    input_count="promptTokenCount",
    refusal={
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": UPSTREAM},
        "usageMetadata": _google_usage(Counts()),
        "modelVersion": "gemini-3.5-flash-lite",
    },
    good_usd=(2000 * 0.30 + 1000 * 0.03 + 400 * 2.50) / 1_000_000,
    failures={
        "throttled": (429, google_error(429, "RESOURCE_EXHAUSTED")),
        "quota": (429, google_error(429, "RESOURCE_EXHAUSTED", PER_DAY)),
        "key": (400, google_error(400, "INVALID_ARGUMENT", BAD_KEY)),
        "forbidden": (403, google_error(403, "PERMISSION_DENIED")),
        "invalid": (400, google_error(400, "INVALID_ARGUMENT")),
        "too long": (400, {"error": {"code": 400, "message": TOO_LONG, "status": "INVALID_ARGUMENT"}}),
        "model": (404, google_error(404, "NOT_FOUND")),
        "too large": (413, google_error(413, "INVALID_ARGUMENT")),
        "failed": (500, google_error(500, "INTERNAL")),
        "overloaded": (503, google_error(503, "UNAVAILABLE")),
    },
    conventions=("gcp.gemini", "generate_content"),
)

DIALECTS = (ANTHROPIC, OPENAI, GOOGLE, OPENROUTER, INTERNAL)
