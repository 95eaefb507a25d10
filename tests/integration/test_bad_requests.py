"""What is refused before anybody judges: bodies, headers, paths, methods; no refusal repeats what was sent."""

import json
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from quart.typing import TestClientProtocol as Client

from api_models import ComparisonRequest, LLMConfigOverrides
from tests.integration.contract import (
    CANARY,
    JSON,
    compare,
    mocked,
    nested,
    question,
    raw,
    refusal,
    send,
    serving,
)
from tests.integration.service_process import COMPARISON, QUESTION


@dataclass(frozen=True, slots=True)
class Bad:
    """A body that must be refused; path is the field that the details name, private what no answer may repeat."""

    name: str
    body: bytes
    path: str | None = None
    private: str = CANARY


def without(name: str) -> bytes:
    return orjson.dumps({key: value for key, value in QUESTION.items() if key != name})


def overriding(name: str, value: object, private: str = CANARY) -> Bad:
    return Bad(
        f"{name}={value!r}"[:60],
        question(llm_config_overrides={name: value}),
        f"llm_config_overrides.{name}",
        private,
    )


TEST = "/api/v1/providers/mock/test"
TEXT_FIELDS = ("user_prompt", "essay_a", "essay_b")
BAD_BODIES = [
    Bad("malformed", f'{{"user_prompt": "{CANARY}'.encode()),
    Bad("empty", b""),
    Bad("blank", b"  \n"),
    Bad("array", orjson.dumps([QUESTION, CANARY])),
    Bad("string", f'"{CANARY}"'.encode()),
    Bad("number", b"7654321", private="7654321"),
    Bad("null", b"null"),
    Bad("trailing text", question() + CANARY.encode()),
    Bad("single quotes", str({"essay_a": CANARY}).encode()),
    Bad("65 deep", raw(metadata=nested(64))),
    Bad("65 deep in an unknown field", raw(unknown=nested(64))),
    Bad("100,000 arrays deep", b"[" * 100_000 + b"]" * 100_000),
    Bad("100,000 objects deep", raw(metadata=nested(100_000))),
    Bad("NaN", raw(metadata=f'{{"{CANARY}": NaN}}')),
    Bad("Infinity", raw(metadata=f'{{"{CANARY}": Infinity}}')),
    Bad("1e999", raw(metadata=f'{{"{CANARY}": 1e999}}')),
    Bad("2**64", raw(metadata='{"n": 18446744073709551616}'), private="18446744073709551616"),
    Bad("2**64 before a float", raw(metadata='{"n": 18446744073709551616, "m": 0.5}'), private="18446744073709551616"),
    Bad("-2**63-1", raw(metadata='{"n": -9223372036854775809}'), private="9223372036854775809"),
    *(
        Bad(f"a {7 + zeros} digit integer", raw(metadata=f'{{"n": 7654321{"0" * zeros}}}'), private="7654321")
        for zeros in (293, 493, 4993)
    ),
    Bad("an integer beyond 64 bits in an unknown field", raw(unknown="18446744073709551616"), private="1844674"),
    Bad("NUL in an essay", raw(essay_a=f'"{CANARY}\\u0000"')),
    Bad("NUL in metadata", raw(metadata=f'{{"a": ["{CANARY}\\u0000"]}}')),
    Bad("NUL in a key of metadata", raw(metadata=f'{{"{CANARY}\\u0000": 1}}')),
    Bad("raw NUL", question(essay_a=CANARY).replace(CANARY.encode(), CANARY.encode() + b"\0")),
    Bad("lone high surrogate", raw(essay_a=f'"{CANARY}\\ud800"')),
    Bad("lone low surrogate", raw(essay_a=f'"{CANARY}\\udc00"')),
    Bad("lone surrogate in metadata", raw(metadata=f'{{"{CANARY}": "\\ud800"}}')),
    Bad("invalid UTF-8", question(essay_a=CANARY).replace(CANARY.encode(), CANARY.encode() + b"\xff\xfe")),
    Bad("Latin-1", json.dumps({**QUESTION, "essay_a": f"{CANARY} é"}, ensure_ascii=False).encode("latin-1")),
    Bad("UTF-16", json.dumps({**QUESTION, "essay_a": CANARY}).encode("utf-16")),
    Bad("UTF-32", json.dumps({**QUESTION, "essay_a": CANARY}).encode("utf-32-le")),
    Bad("byte order mark", b"\xef\xbb\xbf" + question()),
    *(Bad(f"{name} missing", without(name), name) for name in TEXT_FIELDS),
    *(
        Bad(f"{name} {kind}", question(**{name: value}), name)
        for name in TEXT_FIELDS
        for kind, value in {
            "empty": "",
            "blank": " \n\t",
            "nothing to be seen": "\ufeff\u200b\u00ad\u2800\u202e\ufe0f\u0001",
            "null": None,
            "number": 5,
            "list": [CANARY],
            "object": {CANARY: 1},
        }.items()
    ),
    Bad("only essay_a's placeholder", question(user_prompt=f"{CANARY} {{essay_a}}"), "user_prompt"),
    Bad("only essay_b's placeholder", question(user_prompt=f"{CANARY} {{essay_b}}"), "user_prompt"),
    Bad("metadata too large", question(metadata={CANARY: "x" * (16 * 1024)}), "metadata"),
    Bad("metadata null", question(metadata=None), "metadata"),
    Bad("metadata list", question(metadata=[CANARY]), "metadata"),
    Bad("metadata string", question(metadata=CANARY), "metadata"),
    Bad("replicate negative", question(replicate=-7654321), "replicate", "7654321"),
    Bad("replicate float", question(replicate=1.5), "replicate"),
    Bad("replicate whole float", raw(replicate="1.0"), "replicate"),
    Bad("replicate 2**63", question(replicate=2**63), "replicate", str(2**63)),
    Bad("replicate bool", question(replicate=True), "replicate"),
    Bad("replicate string", question(replicate=CANARY), "replicate"),
    Bad("user_id number", question(user_id=7654321), "user_id", "7654321"),
    Bad("user_id too long", question(user_id=CANARY + "x" * 1_000), "user_id"),
    Bad("correlation id", question(correlation_id=CANARY), "correlation_id"),
    Bad("correlation id number", question(correlation_id=7654321), "correlation_id", "7654321"),
    Bad("correlation id empty", question(correlation_id=""), "correlation_id"),
    Bad("overrides list", question(llm_config_overrides=[CANARY]), "llm_config_overrides"),
    Bad("overrides string", question(llm_config_overrides=CANARY), "llm_config_overrides"),
    overriding("provider_override", CANARY),
    overriding("provider_override", "Anthropic"),
    overriding("provider_override", [CANARY]),
    overriding("model_override", f"{CANARY}/../x"),
    overriding("model_override", f"{CANARY} x"),
    overriding("model_override", ""),
    overriding("model_override", f"{CANARY}\n"),
    overriding("model_override", CANARY * 20),
    overriding("temperature_override", 2.1654321, "1654321"),
    overriding("temperature_override", -0.1654321, "1654321"),
    overriding("temperature_override", "0.5654321", "5654321"),
    overriding("temperature_override", value=True),
    overriding("system_prompt_override", " \n"),
    overriding("system_prompt_override", [CANARY]),
    overriding("max_tokens_override", 0),
    overriding("max_tokens_override", -7654321, "7654321"),
    overriding("max_tokens_override", 1.5),
    overriding("max_tokens_override", value=True),
    overriding("reasoning_effort_override", "extreme", "extreme"),
    overriding("reasoning_effort_override", CANARY),
    overriding("allow_fallback", CANARY),
    overriding("allow_fallback", 1),
]


def test_every_field_has_a_bad_value_here() -> None:
    overrides = {f"llm_config_overrides.{name}" for name in LLMConfigOverrides.model_fields}
    assert {bad.path for bad in BAD_BODIES} - {None} == overrides | ComparisonRequest.model_fields.keys(), "BAD_BODIES"


@pytest.mark.parametrize("bad", BAD_BODIES, ids=lambda bad: bad.name)
async def test_a_bad_body_is_refused_and_never_repeated(client: Client, bad: Bad) -> None:
    response = await client.post(COMPARISON, data=bad.body, headers=JSON)
    body = await refusal(response, 400, "VALIDATION_ERROR")
    assert bad.private not in await response.get_data(as_text=True)
    if bad.path is not None:
        assert body["details"].startswith(f"{bad.path}: ")
        assert not body["details"].endswith(": is not valid")
    assert body["retry_after"] is None
    assert body["provider"] is None


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"essay_a": ...}, "essay_a: is required"),
        ({"correlation_id": CANARY}, "correlation_id: must be a UUID"),
        ({"correlation_id": 5}, "correlation_id: must be a UUID"),
        ({"llm_config_overrides": []}, "llm_config_overrides: must be an object"),
        ({"metadata": None}, "metadata: must be an object"),
        (
            {"llm_config_overrides": {"model_override": "a b"}},
            "llm_config_overrides.model_override: must be a model id",
        ),
    ],
)
async def test_where_pydantic_would_quote_the_caller_the_sentence_is_ours(
    client: Client, changes: dict[str, object], complaint: str
) -> None:
    asked = {name: value for name, value in {**QUESTION, **changes}.items() if value is not ...}
    response = await client.post(COMPARISON, data=orjson.dumps(asked), headers=JSON)
    assert (await refusal(response, 400, "VALIDATION_ERROR"))["details"] == complaint


@pytest.mark.parametrize("placeholder", ["{essay_a}", "{essay_b}"])
async def test_a_placeholder_may_stand_four_times_and_no_more(client: Client, placeholder: str) -> None:
    once = "{essay_a} or {essay_b}?"
    assert (await compare(client, user_prompt=once + placeholder * 3)).status_code == 200
    body = await refusal(await compare(client, user_prompt=once + placeholder * 4), 400, "VALIDATION_ERROR")
    assert body["details"] == "user_prompt: must not repeat {essay_a} or {essay_b} more than four times"


async def test_several_mistakes_are_named_together(client: Client) -> None:
    body = await refusal(await compare(client, essay_a="", essay_b=5), 400, "VALIDATION_ERROR")
    assert "essay_a: " in body["details"]
    assert "essay_b: " in body["details"]


async def test_of_many_mistakes_five_are_named(client: Client) -> None:
    five: dict[str, Any] = dict.fromkeys(("user_prompt", "essay_a", "essay_b", "user_id", "metadata"), 5)
    told = await refusal(await compare(client, **five), 400, "VALIDATION_ERROR")
    assert [complaint.partition(": ")[0] for complaint in told["details"].split("; ")] == list(five)
    more = await refusal(await compare(client, **five, replicate=-1), 400, "VALIDATION_ERROR")
    assert more["details"].endswith("; and more")
    assert len(more["details"].split("; ")) == 6


@pytest.mark.parametrize(
    "value", ["0", "000", "-1", "1.5", "1_000", "1 0", "\u0661", CANARY, "", str(2**63), "1" * 20, "1" * 5000]
)
async def test_a_bad_time_limit_is_refused(client: Client, value: str) -> None:
    body = await refusal(await compare(client, {"X-Request-Timeout-Ms": value}), 400, "VALIDATION_ERROR")
    assert "X-Request-Timeout-Ms" in body["details"]


@pytest.mark.parametrize(
    "content_type",
    [
        f"text/{CANARY}",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/json" + "; a=b" * 1000,
        "application/jsonl",
        'application/json; profile="x"; charset=latin-1',
        'application/json; charset=""',
        f"application/json {CANARY}",
    ],
)
async def test_another_content_type_is_refused(client: Client, content_type: str) -> None:
    response = await client.post(COMPARISON, data=question(), headers={"Content-Type": content_type})
    await refusal(response, 415, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json; charset=utf-8",
        'Application/JSON; charset="UTF-8"',
        'application/json; charset=utf-8; profile="x"',
        'application/json; profile="a;b=,c"; charset=UTF8',
        "application/json;",
        "application/vnd.huleedu.comparison+json; version=1",
    ],
)
async def test_json_and_a_missing_content_type_are_accepted(client: Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert (await client.post(COMPARISON, data=question(), headers=headers)).status_code == 200


async def test_a_browser_has_to_name_the_content_type(client: Client) -> None:
    """A foreign page can post a body without a type, but JSON only after the browser has asked us."""
    from_a_page = {"Origin": "https://elsewhere.example"}
    await refusal(await client.post(COMPARISON, data=question(), headers=from_a_page), 415, "VALIDATION_ERROR")
    named = {"Content-Type": "application/json", **from_a_page}
    assert (await client.post(COMPARISON, data=question(), headers=named)).status_code == 200


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_no_foreign_page_can_have_a_provider_tested(client: Client, content_type: str | None) -> None:
    """Its form is sent at once, also without a body, and a deep test is paid."""
    sent = {} if content_type is None else {"Content-Type": content_type}
    from_a_page = {"Origin": "https://elsewhere.example", **sent}
    await refusal(await client.post(f"{TEST}?deep=true", headers=from_a_page), 415, "VALIDATION_ERROR")
    assert (await client.post(f"{TEST}?deep=true", headers=sent)).status_code == 200
    named = {"Origin": "https://elsewhere.example", "Content-Type": "application/json"}
    assert (await client.post(TEST, headers=named)).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "GZIP", CANARY])
async def test_a_compressed_body_is_refused_with_the_reason(client: Client, encoding: str) -> None:
    body = await refusal(await compare(client, {"Content-Encoding": encoding}), 415, "VALIDATION_ERROR")
    assert "Content-Encoding" in body["details"]


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_a_body_that_is_declared_to_be_plain_is_read(client: Client, encoding: str) -> None:
    assert (await compare(client, {"Content-Encoding": encoding})).status_code == 200


async def test_a_body_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mocked(monkeypatch, MAX_REQUEST_BYTES="2048")) as client:
        await refusal(await compare(client, essay_a=CANARY * 200), 413, "VALIDATION_ERROR")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [f"/{CANARY}", "/api/v1", f"{COMPARISON}/", "/api/v1//comparison", "/healthz/",
     "/api/v1/providers/", "/static/app.py"],
)  # fmt: skip
async def test_an_unknown_path_is_told_as_json(client: Client, path: str, method: str) -> None:
    await refusal(await send(client, method, path), 404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", COMPARISON, "POST"),
        ("PUT", COMPARISON, "POST"),
        ("OPTIONS", COMPARISON, "POST"),
        ("POST", "/api/v1/providers", "GET"),
        ("OPTIONS", "/api/v1/providers", "GET"),
        ("GET", TEST, "POST"),
        ("DELETE", "/healthz", "GET"),
        ("OPTIONS", "/livez", "GET"),
        ("POST", "/metrics", "GET"),
    ],
)
async def test_another_method_is_told_which_ones_are_allowed(
    client: Client, method: str, path: str, allowed: str
) -> None:
    response = await send(client, method, path)
    await refusal(response, 405, "INVALID_REQUEST")
    names = set(response.headers["Allow"].split(", "))
    assert allowed in names
    assert names <= {"GET", "HEAD", "POST"}
