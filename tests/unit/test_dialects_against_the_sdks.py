"""What we send and how we read, held against a second opinion: the vendors' own SDKs.

An SDK's request type is read as a closed world: a key that it does not know is a mistake of ours. The schema of the
verdict is free there, as it is for the vendors.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any, get_args

import anthropic.types as anthropic
import httpx
import openai.types.chat as openai
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from google.genai import Client
from google.genai import types as google
from openai.types.chat.chat_completion import Choice
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openrouter import components as openrouter
from pydantic import TypeAdapter
from pydantic.alias_generators import to_camel

from api_models import JsonObject, ProviderName, TemperatureUse, Usage
from implementations import (
    anthropic_provider_impl,
    google_provider_impl,
    internal_provider_impl,
    openai_provider_impl,
    openrouter_provider_impl,
)
from implementations.judging.catalogue import ModelCatalogue
from implementations.judging.prompt import build_prompt
from implementations.wire import chat_completions, finish_reasons
from protocols import Completion, FinishReason, ProviderRequest
from tests.fakes import VERDICT, query, request

pytestmark = pytest.mark.untraced

CATALOGUE = ModelCatalogue.load(None)
UNLISTED = "any-model"
ANTHROPIC_REQUEST: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
OPENAI_REQUEST: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
ANTHROPIC_SCHEMA, OPENAI_SCHEMA = ANTHROPIC_REQUEST.json_schema(), OPENAI_REQUEST.json_schema()
OPENROUTER_SCHEMA = openrouter.ChatRequest.model_json_schema()


def models(provider: ProviderName) -> list[str]:
    return [UNLISTED, *CATALOGUE.models(provider)]


def questions(provider: ProviderName, model: str) -> list[ProviderRequest]:
    """Each effort of a model, with and without a temperature where it takes one, with and without a marked prefix."""
    traits = CATALOGUE.traits(provider, model)
    temperatures = (None,) if traits.temperature is TemperatureUse.NEVER else (None, 0.2)
    words = {None, *(word or None for word in traits.efforts.values())}
    return [
        request(provider=provider, model=model, reasoning=word, temperature=temperature, marks_prefix=is_marked)
        for word, temperature, is_marked in product(words, temperatures, (False, True))
    ]


def unknown_keys(schema: JsonObject, value: Any, definitions: JsonObject | None = None) -> set[str]:
    """The keys, at any depth, that the schema does not name; of several alternatives the one that knows most counts."""
    definitions = definitions or schema["$defs"]
    if reference := schema.get("$ref"):
        return unknown_keys(definitions[reference.rpartition("/")[2]], value, definitions)
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return min((unknown_keys(one, value, definitions) for one in alternatives), key=len)
    if isinstance(value, list):
        found = [unknown_keys(schema.get("items", {}), item, definitions) for item in value]
        return set[str]().union(*found)
    if not isinstance(value, dict):
        return set()
    named = schema.get("properties")
    if named is None:  # anything goes in an object without named keys, and no object goes where a text is wanted
        return set() if schema.get("type") == "object" else set(value)
    found = [unknown_keys(named[key], value[key], definitions) for key in value.keys() & named.keys()]
    return set[str](value.keys() - named.keys()).union(*found)


@pytest.mark.parametrize("model", models(ProviderName.ANTHROPIC))
def test_anthropic_knows_what_we_send(model: str) -> None:
    """Its newest type has no temperature any more: that goes out with the older version of the API only."""
    for asked in questions(ProviderName.ANTHROPIC, model):
        body = anthropic_provider_impl.payload(asked)
        ANTHROPIC_REQUEST.validate_python(body, strict=True)
        assert unknown_keys(ANTHROPIC_SCHEMA, body) == (set() if asked.temperature is None else {"temperature"})


@pytest.mark.parametrize("model", models(ProviderName.OPENAI))
def test_openai_knows_what_we_send(model: str) -> None:
    for asked in questions(ProviderName.OPENAI, model):
        body = openai_provider_impl.payload(asked)
        OPENAI_REQUEST.validate_python(body, strict=True)
        assert unknown_keys(OPENAI_SCHEMA, body) == set()


def test_what_a_self_hosted_server_gets_are_words_of_openai() -> None:
    for asked in questions(ProviderName.INTERNAL, UNLISTED):
        body = internal_provider_impl.payload(asked)
        OPENAI_REQUEST.validate_python(body, strict=True)
        assert unknown_keys(OPENAI_SCHEMA, body) == set()


@pytest.mark.parametrize("model", models(ProviderName.OPENROUTER))
def test_openrouter_knows_what_we_send(model: str) -> None:
    """Its type of an effort is open, so the closed part of it is looked up as well."""
    closed, _ = get_args(openrouter.ChatRequestEffort)
    for asked in questions(ProviderName.OPENROUTER, model):
        body = openrouter_provider_impl.payload(asked)
        openrouter.ChatRequest.model_validate_json(json.dumps(body), strict=True)
        assert unknown_keys(OPENROUTER_SCHEMA, body) == set()
        assert asked.reasoning is None or asked.reasoning in get_args(closed)


def test_a_key_that_an_sdk_does_not_know_is_seen_at_any_depth() -> None:
    body = openai_provider_impl.payload(request())
    body["messages"][0]["mood"] = "good"
    body["top_secret"] = 1
    assert unknown_keys(OPENAI_SCHEMA, body) == {"mood", "top_secret"}


def by_google(asked: ProviderRequest, answer: JsonObject) -> tuple[httpx.Request, google.GenerateContentResponse]:
    """Let the SDK ask our question: the request that it sends, and how it reads the answer."""
    sent: list[httpx.Request] = []

    def respond(outgoing: httpx.Request) -> httpx.Response:
        sent.append(outgoing)
        return httpx.Response(200, json=answer)

    body = google_provider_impl.payload(asked)
    options = google.HttpOptions(api_version="v1beta", client_args={"transport": httpx.MockTransport(respond)})
    with Client(api_key="key", http_options=options) as client:
        read = client.models.generate_content(
            model=asked.model,
            contents=[google.Content.model_validate(content) for content in body["contents"]],
            config=google.GenerateContentConfig.model_validate(
                {**body["generationConfig"], "systemInstruction": body["systemInstruction"], "store": body["store"]}
            ),
        )
    return sent[0], read


def camel(value: Any) -> Any:
    """The SDK writes some names with underscores, which the API takes as well."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {to_camel(key): item if key == "responseJsonSchema" else camel(item) for key, item in value.items()}


@pytest.mark.parametrize("model", ["gemini-3.8-flash", "gemini-3.1-flash-lite", UNLISTED])
def test_googles_sdk_sends_what_we_send(model: str) -> None:
    for asked in questions(ProviderName.GOOGLE, model):
        sent, _ = by_google(asked, {})
        assert camel(json.loads(sent.content)) == google_provider_impl.payload(asked)
        assert sent.url.path == f"/v1beta/models/{model}:generateContent"
        assert (sent.url.query, sent.headers["x-goog-api-key"]) == (b"", "key")


@pytest.mark.parametrize(
    ("word", "sent"),
    [
        ("0", {"thinkingBudget": 0}),
        ("512", {"thinkingBudget": 512}),
        ("-1", {"thinkingBudget": -1}),
        ("LOW", {"thinkingLevel": "LOW"}),
        ("\u00b2", {"thinkingLevel": "\u00b2"}),
    ],
)
def test_google_is_sent_a_number_as_a_budget_and_any_other_word_as_a_level(word: str, sent: JsonObject) -> None:
    assert google_provider_impl.payload(request(reasoning=word))["generationConfig"]["thinkingConfig"] == sent


@pytest.mark.parametrize(
    ("payload", "name"),
    [(openai_provider_impl.payload, "prompt_cache_key"), (openrouter_provider_impl.payload, "session_id")],
)
def test_questions_share_a_place_in_the_vendor_s_cache_if_they_begin_alike(
    payload: Callable[[ProviderRequest], JsonObject], name: str
) -> None:
    def place(**changes: str) -> str:
        return str(payload(request(prompt=build_prompt(query(**changes))))[name])

    assert place(essay_a="Another one.", essay_b="Yet another.") == place()
    assert len({place(), place(user_prompt="Which one is longer?"), place(system_prompt="Judge harshly.")}) == 3
    assert len(bytes.fromhex(place())) == 16


@pytest.mark.parametrize("model", models(ProviderName.GOOGLE))
def test_google_knows_what_we_send(model: str) -> None:
    """Its own types forbid what they do not name."""
    for asked in questions(ProviderName.GOOGLE, model):
        body = google_provider_impl.payload(asked)
        assert body.keys() == {"contents", "systemInstruction", "generationConfig", "store"}
        config = google.GenerationConfig.model_validate(body["generationConfig"])
        level = config.thinking_config and config.thinking_config.thinking_level
        assert level is None or level in set(google.ThinkingLevel)
        for content in (*body["contents"], body["systemInstruction"]):
            google.Content.model_validate(content)


ANTHROPIC_ANSWER: JsonObject = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5",
    "content": [
        {"type": "thinking", "thinking": "Which one?", "signature": "sig"},
        {"type": "text", "text": VERDICT[:20]},
        {"type": "text", "text": VERDICT[20:]},
    ],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 1200,
        "cache_creation_input_tokens": 700,
        "cache_read_input_tokens": 3000,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 500},
        "output_tokens": 350,
        "output_tokens_details": {"thinking_tokens": 180},
    },
}
MESSAGE = {"role": "assistant", "content": VERDICT, "refusal": None}
OPENAI_ANSWER: JsonObject = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-6-luna-2026-09-22",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop", "logprobs": None}],
    "usage": {
        "prompt_tokens": 8000,
        "prompt_tokens_details": {"cached_tokens": 4096, "cache_write_tokens": 2048},
        "completion_tokens": 600,
        "completion_tokens_details": {"reasoning_tokens": 400},
        "total_tokens": 8600,
    },
}
OPENROUTER_ANSWER: JsonObject = {
    **OPENAI_ANSWER,
    "system_fingerprint": None,
    "usage": {**OPENAI_ANSWER["usage"], "cost": 0.0011, "is_byok": False},
}
GOOGLE_PARTS = [{"text": "Which one?", "thought": True}, {"text": VERDICT, "thoughtSignature": "c2ln"}]
GOOGLE_ANSWER: JsonObject = {
    "candidates": [{"index": 0, "content": {"role": "model", "parts": GOOGLE_PARTS}, "finishReason": "STOP"}],
    "usageMetadata": {
        "promptTokenCount": 8000,
        "cachedContentTokenCount": 4096,
        "candidatesTokenCount": 200,
        "thoughtsTokenCount": 500,
        "totalTokenCount": 8700,
    },
    "modelVersion": "gemini-3.8-flash",
}


def read_by_anthropic() -> tuple[str, Usage]:
    read = anthropic.Message.model_validate(ANTHROPIC_ANSWER)
    cached, written = read.usage.cache_read_input_tokens or 0, read.usage.cache_creation_input_tokens or 0
    assert read.usage.output_tokens_details
    assert read.usage.cache_creation
    return "".join(block.text for block in read.content if block.type == "text"), Usage(
        prompt=read.usage.input_tokens + cached + written,
        completion=read.usage.output_tokens,
        cached=cached,
        written=written,
        written_for_long=read.usage.cache_creation.ephemeral_1h_input_tokens,
        reasoning=read.usage.output_tokens_details.thinking_tokens,
    )


def read_as_chat(read: openai.ChatCompletion | openrouter.ChatResult) -> tuple[str, Usage]:
    usage = read.usage
    assert usage
    assert usage.prompt_tokens_details
    assert usage.completion_tokens_details
    return str(read.choices[0].message.content), Usage(
        prompt=usage.prompt_tokens,
        completion=usage.completion_tokens,
        cached=usage.prompt_tokens_details.cached_tokens or 0,
        written=usage.prompt_tokens_details.cache_write_tokens or 0,
        reasoning=usage.completion_tokens_details.reasoning_tokens or 0,
    )


def read_by_google() -> tuple[str, Usage]:
    _, read = by_google(request(), GOOGLE_ANSWER)
    usage = read.usage_metadata
    assert usage
    thoughts = usage.thoughts_token_count or 0
    return read.text or "", Usage(
        prompt=usage.prompt_token_count or 0,
        completion=(usage.candidates_token_count or 0) + thoughts,
        cached=usage.cached_content_token_count or 0,
        reasoning=thoughts,
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (anthropic_provider_impl.completion(ANTHROPIC_ANSWER), read_by_anthropic),
        (
            chat_completions.completion(OPENAI_ANSWER),
            lambda: read_as_chat(openai.ChatCompletion.model_validate(OPENAI_ANSWER)),
        ),
        (
            openrouter_provider_impl.completion(OPENROUTER_ANSWER),
            lambda: read_as_chat(openrouter.ChatResult.model_validate(OPENROUTER_ANSWER)),
        ),
        (google_provider_impl.completion(GOOGLE_ANSWER), read_by_google),
    ],
    ids=["anthropic", "openai", "openrouter", "google"],
)
def test_we_read_the_text_and_the_counts_as_the_sdk_does(
    ours: Completion, theirs: Callable[[], tuple[str, Usage]]
) -> None:
    assert (ours.text, ours.usage) == theirs()
    assert (ours.text, ours.finish_reason) == (VERDICT, FinishReason.COMPLETE)


def test_the_model_that_answered_is_read_whatever_was_asked() -> None:
    assert anthropic_provider_impl.completion(ANTHROPIC_ANSWER).model == "claude-haiku-5-5"
    assert chat_completions.completion(OPENAI_ANSWER).model == "gpt-6-luna-2026-09-22"
    assert google_provider_impl.completion(GOOGLE_ANSWER).model == "gemini-3.8-flash"


def test_feedback_on_a_prompt_without_a_reason_blocks_nothing() -> None:
    answer = {**GOOGLE_ANSWER, "promptFeedback": {"safetyRatings": []}}
    assert google_provider_impl.completion(answer).finish_reason is FinishReason.COMPLETE


def test_openrouter_tells_the_cost_to_us_and_to_its_sdk() -> None:
    read = openrouter.ChatResult.model_validate(OPENROUTER_ANSWER)
    assert read.usage
    assert openrouter_provider_impl.completion(OPENROUTER_ANSWER).cost_usd == read.usage.cost == 0.0011


UNEXPECTED = {
    "anthropic": {"tool_use", "pause_turn"},
    "openai": {"tool_calls", "function_call"},
    "google": {
        *("FINISH_REASON_UNSPECIFIED", "OTHER", "MALFORMED_RESPONSE", "MALFORMED_FUNCTION_CALL"),
        *("UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "NO_IMAGE"),
        *("IMAGE_PROHIBITED_CONTENT", "IMAGE_OTHER", "IMAGE_RECITATION"),
    },
}


OF_OTHER_SERVERS = {
    *("abort", "error", "insufficient_system_resource", "network_error"),
    *("model_length", "eos", "eos_token", "sensitive", "guardrail_intervened", "content_filtered"),
    *finish_reasons.ANTHROPIC,
    *finish_reasons.GEMINI,
}
OF_OPENAI = {said: meant for said, meant in finish_reasons.CHAT_COMPLETIONS.items() if said not in OF_OTHER_SERVERS}


@pytest.mark.parametrize(
    ("vendor", "ours", "theirs"),
    [
        ("anthropic", finish_reasons.ANTHROPIC, get_args(anthropic.StopReason)),
        ("openai", OF_OPENAI, get_args(Choice.model_fields["finish_reason"].annotation)),
        ("google", finish_reasons.GEMINI, [reason.value for reason in google.FinishReason]),
    ],
)
def test_every_ending_that_an_sdk_knows_was_decided_upon(
    vendor: str, ours: Mapping[str, FinishReason], theirs: Iterable[str]
) -> None:
    assert set(theirs) == ours.keys() | UNEXPECTED[vendor]
    assert not ours.keys() & UNEXPECTED[vendor]
