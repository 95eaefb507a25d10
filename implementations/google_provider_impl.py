"""Google's Gemini API (`generateContent`). The key is sent in a header, never in the URL, which others may log."""

from typing import Any
from urllib.parse import quote

from api_models import JsonObject
from config import GoogleSettings
from implementations.judging.verdict import FIELDS, VERDICT_SCHEMA, read_reply
from implementations.wire.endpoint import Endpoint, own_header
from implementations.wire.finish_reasons import GEMINI, unless_calling
from implementations.wire.json_reading import at, expect, list_at, text_at
from implementations.wire.transport import Transport
from implementations.wire.usage import read_usage, uncounted
from protocols import Completion, FinishReason, ProviderReply, ProviderRequest


class GoogleProviderImpl:
    """Speaks the generateContent API."""

    def __init__(self, transport: Transport, settings: GoogleSettings) -> None:
        self._endpoint = Endpoint(transport, settings.base_url, own_header("x-goog-api-key", settings.api_key))

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """Judge one pair."""
        model = quote(request.model, safe="")  # always a single path segment
        answer = await self._endpoint.post(f"/v1beta/models/{model}:generateContent", payload(request))
        return read_reply(request, completion(answer))

    async def probe(self) -> str:
        """List the models, which is free and requires the key."""
        expect(await self._endpoint.get("/v1beta/models?pageSize=1"), "models", list)
        return "The key is accepted."


def payload(request: ProviderRequest) -> JsonObject:
    """The request body; Gemini needs the order of the fields spelled out.

    `store`: projects created since October 2026 keep requests and answers for 55 days unless a request says no.
    """
    config: JsonObject = {
        "maxOutputTokens": request.max_tokens,
        "responseMimeType": "application/json",
        "responseJsonSchema": {**VERDICT_SCHEMA, "propertyOrdering": list(FIELDS)},
    }
    if request.temperature is not None:
        config["temperature"] = request.temperature
    if request.reasoning:
        config["thinkingConfig"] = _thinking(request.reasoning)
    return {
        "systemInstruction": {"role": "user", "parts": [{"text": request.prompt.system}]},
        "contents": [{"role": "user", "parts": [{"text": request.prompt.user_text}]}],
        "generationConfig": config,
        "store": False,
    }


def completion(answer: JsonObject) -> Completion:
    """The parts of the only candidate joined, without thoughts, which are billed as output but counted separately."""
    usage = at(answer, "usageMetadata")
    prompt, answered, thoughts = (at(usage, f"{part}TokenCount") for part in ("prompt", "candidates", "thoughts"))
    parts = list_at(answer, "candidates", 0, "content", "parts")
    return Completion(
        text="".join(text_at(part, "text") for part in parts if at(part, "thought") is not True),
        finish_reason=_finish_reason(answer, parts),
        model=text_at(answer, "modelVersion"),
        usage=read_usage(
            prompt=(prompt,),
            completion=(answered, thoughts, uncounted(at(usage, "totalTokenCount"), prompt, answered, thoughts)),
            cached=at(usage, "cachedContentTokenCount"),
            reasoning=thoughts,
        ),
    )


def _finish_reason(answer: JsonObject, parts: list[Any]) -> FinishReason:
    """A finished answer is a single candidate that calls no function."""
    if at(answer, "promptFeedback", "blockReason"):
        return FinishReason.REFUSED
    candidates = list_at(answer, "candidates")
    if len(candidates) != 1:
        return FinishReason.UNEXPECTED
    finish_reason = GEMINI.get(text_at(candidates, 0, "finishReason"), FinishReason.UNEXPECTED)
    return unless_calling(finish_reason, calls=any(at(part, "functionCall") is not None for part in parts))


def _thinking(word: str) -> JsonObject:
    """Models of the 2.5 family take a budget in tokens (-1: the model decides), later ones a level."""
    return {"thinkingBudget": int(word)} if word.removeprefix("-").isdecimal() else {"thinkingLevel": word}
