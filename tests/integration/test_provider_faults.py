"""Whatever a provider answers, the caller gets one documented failure or a real verdict, and no private word."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest

from api_models import JsonObject
from exceptions import ContextTooLongError
from tests.integration.dialects import (
    ANTHROPIC,
    DIALECTS,
    GOOGLE,
    INTERNAL,
    OPENAI,
    UPSTREAM,
    Counts,
    Dialect,
    verdict,
)
from tests.integration.pointed_service import Fault, every_provider, serving
from tests.integration.stand_in import Act, answer

pytestmark = [pytest.mark.untraced, pytest.mark.usefixtures("nothing_private_is_written")]

HTML = f"<html><body>{UPSTREAM}</body></html>".encode()
HTML_TYPE = "text/html"


def in_an_hour() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)


def saying(text: object) -> Fault:
    """A complete answer whose text is no verdict: asked for once more, then given up."""
    return Fault(plays=lambda dialect: [answer(dialect.says(text))], status=502, error_type="INVALID_RESPONSE", calls=2)


def failing(case: str, status: int, error_type: str, *, calls: int, upstream: int | None = None) -> Fault:
    """The documented error of that case, for ever; upstream: with another status than documented."""
    return Fault(
        plays=lambda dialect: [dialect.fails(case, upstream)], status=status, error_type=error_type, calls=calls
    )


def throttling(wait: str, *, calls: int, told_s: int) -> Fault:
    return Fault(
        plays=lambda dialect: [dialect.fails("throttled", Retry_After=wait)],
        status=429,
        error_type="RATE_LIMIT",
        calls=calls,
        retry_after=(told_s, told_s),
    )


def broken(body: object, *, calls: int) -> Fault:
    """A 200 whose body is no answer of that dialect."""
    return Fault(plays=lambda _: [answer(body)], status=502, error_type="INVALID_RESPONSE", calls=calls)


def twice(body: JsonObject) -> bytes:
    """The same answer with every field twice, that of the verdict among them."""
    return orjson.dumps(body)[:-1] + b"," + orjson.dumps(body)[1:]


FAULTS = {
    "throttled for ever": throttling("1.5", calls=3, told_s=2),
    "throttled for an hour": throttling("3600", calls=1, told_s=3600),
    "throttled until a date": Fault(
        plays=lambda dialect: [dialect.fails("throttled", Retry_After=in_an_hour())],
        status=429,
        error_type="RATE_LIMIT",
        calls=1,
        retry_after=(3500, 3600),
    ),
    "quota": failing("quota", 503, "QUOTA_EXCEEDED", calls=1),
    "wrong key": failing("key", 502, "AUTHENTICATION_ERROR", calls=1),
    "forbidden": failing("forbidden", 502, "AUTHENTICATION_ERROR", calls=1),
    "invalid request": failing("invalid", 422, "INVALID_REQUEST", calls=1),
    # Otherwise than after an invalid request, another provider is asked.
    "essays too long": Fault(
        plays=lambda dialect: [dialect.fails("too long")],
        status=422,
        error_type="INVALID_REQUEST",
        calls=1,
        sentence=ContextTooLongError.sentence,
    ),
    "unknown model": failing("model", 503, "CONFIGURATION_ERROR", calls=1),
    "body too large": failing("too large", 422, "INVALID_REQUEST", calls=1),
    "failed": failing("failed", 503, "EXTERNAL_SERVICE_ERROR", calls=3),
    "overloaded": failing("overloaded", 503, "EXTERNAL_SERVICE_ERROR", calls=3),
    "told that repeating is of no use": Fault(
        plays=lambda dialect: [dialect.fails("failed", x_should_retry="false")],
        status=503,
        error_type="EXTERNAL_SERVICE_ERROR",
        calls=1,
    ),
    "502 in HTML": Fault(
        plays=lambda _: [answer(HTML, 502, Content_Type=HTML_TYPE)],
        status=503,
        error_type="EXTERNAL_SERVICE_ERROR",
        calls=3,
    ),
    "200 in HTML": Fault(
        plays=lambda _: [answer(HTML, Content_Type=HTML_TYPE)], status=502, error_type="INVALID_RESPONSE", calls=3
    ),
    "no JSON": broken(f'{{"{UPSTREAM}'.encode(), calls=3),
    "a list": broken([UPSTREAM], calls=2),
    "duplicate keys": Fault(
        plays=lambda dialect: [answer(twice(dialect.good()))], status=502, error_type="INVALID_RESPONSE", calls=2
    ),
    "refused": Fault(
        plays=lambda dialect: [answer(dialect.refusal)], status=422, error_type="CONTENT_REFUSED", calls=1
    ),
    "filtered": Fault(
        plays=lambda dialect: [answer(dialect.filtered())], status=422, error_type="CONTENT_REFUSED", calls=1
    ),
    "cut off": Fault(
        plays=lambda dialect: [answer(dialect.cut())],
        status=502,
        error_type="INVALID_RESPONSE",
        calls=2,
        details="8192 tokens were not enough",
    ),
    "stopped for no known reason": Fault(
        plays=lambda dialect: [answer(dialect.reply(verdict(), "whim", dialect.usage(Counts())))],
        status=502,
        error_type="INVALID_RESPONSE",
        calls=2,
    ),
    "prose": saying(f"Essay A is better, sings the {UPSTREAM}."),
    "no text": saying(""),
    "null as text": saying(None),
    "a number as text": saying(4),
    "a tie": saying(verdict(winner="Tie")),
}


@every_provider
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_ends_in_its_one_failure(dialect: Dialect, name: str) -> None:
    await FAULTS[name].befalls(dialect)


IN_A_SUCCESS = {
    "failed": failing("failed", 503, "EXTERNAL_SERVICE_ERROR", calls=3, upstream=200),
    "throttled": failing("throttled", 429, "RATE_LIMIT", calls=3, upstream=200),
}
WITH_A_FIELD_FOR_IT = [dialect for dialect in DIALECTS if "error" in dialect.failures["failed"][1]]


@pytest.mark.parametrize("dialect", WITH_A_FIELD_FOR_IT, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("case", IN_A_SUCCESS)
async def test_an_error_inside_a_200_is_that_error(dialect: Dialect, case: str) -> None:
    await IN_A_SUCCESS[case].befalls(dialect)


@pytest.mark.parametrize(
    ("dialect", "says", "status", "error_type", "calls"),
    [
        (GOOGLE, GOOGLE.reply("", "PUP_LIMITED_DISABLED", None), 502, "AUTHENTICATION_ERROR", 1),
        (GOOGLE, GOOGLE.reply("", "RECITATION", None), 422, "CONTENT_REFUSED", 1),
        (GOOGLE, {"candidates": [{"content": {}, "finishReason": "STOP"}]}, 502, "INVALID_RESPONSE", 2),
        (ANTHROPIC, ANTHROPIC.reply("{", "model_context_window_exceeded", None), 422, "INVALID_REQUEST", 1),
        (ANTHROPIC, ANTHROPIC.reply(verdict(), "pause_turn", None), 502, "INVALID_RESPONSE", 2),
    ],
)
async def test_an_ending_that_only_one_provider_knows_is_understood(
    dialect: Dialect, says: JsonObject, status: int, error_type: str, calls: int
) -> None:
    fault = Fault(plays=lambda _: [answer(says)], status=status, error_type=error_type, calls=calls)
    await fault.befalls(dialect)


async def test_a_caller_in_haste_is_told_of_a_long_pause_at_once() -> None:
    hasty = {"X-Request-Timeout-Ms": "5000"}
    async with serving(OPENAI, OPENAI.fails("throttled", Retry_After="20"), answer(OPENAI.good())) as (service, asked):
        for _ in range(2):
            told = (await service.judges(OPENAI, headers=hasty)).refusal(429, "RATE_LIMIT")
            assert told["retry_after"] == 20
        assert (len(asked.requests), service.naps) == (1, [])
        assert (await service.judges(OPENAI)).status == 200


# --- What passes by itself --------------------------------------------------------------------------------------------

PASSING: dict[str, Callable[[Dialect], Act]] = {
    "throttled": lambda dialect: dialect.fails("throttled", Retry_After="2"),
    "failed": lambda dialect: dialect.fails("failed"),
    "overloaded": lambda dialect: dialect.fails("overloaded"),
    "502 in HTML": lambda _: answer(HTML, 502, Content_Type=HTML_TYPE),
    "no JSON": lambda _: answer(HTML),
    "prose": lambda dialect: answer(dialect.says(UPSTREAM)),
}


@every_provider
@pytest.mark.parametrize("name", PASSING)
async def test_what_passes_by_itself_costs_the_caller_only_time(dialect: Dialect, name: str) -> None:
    async with serving(dialect, PASSING[name](dialect), answer(dialect.good())) as (service, provider):
        told = await service.judges(dialect)
    assert told.status == 200
    assert told.json()["winner"] == "Essay A"
    assert len(told.json()["provenance"]["attempts"]) == len(provider.requests) == 2
    assert provider.requests[0].body == provider.requests[1].body
    assert all(nap >= 2 for nap in service.naps) if name == "throttled" else sum(service.naps) <= 1


@every_provider
async def test_what_the_token_limit_cut_off_is_asked_again_with_twice_the_room_and_paid_twice(dialect: Dialect) -> None:
    async with serving(dialect, answer(dialect.cut()), answer(dialect.good())) as (service, provider):
        told = (await service.judges(dialect, overrides={"max_tokens_override": 300})).json()
    first, second = (dialect.room(asked.json()) for asked in provider.requests)
    assert (first, second) == (300, 600)
    assert told["cost_estimate"] == pytest.approx(2 * dialect.good_usd)
    assert [attempt["outcome"] for attempt in told["provenance"]["attempts"]] == ["truncated", "success"]


async def test_a_verdict_on_a_prompt_that_the_server_cut_does_not_count() -> None:
    """Ollama drops what its context does not hold, counts the tokens of the rest, and answers."""
    essay = "because " * 2051
    async with serving(INTERNAL, answer(INTERNAL.good())) as (service, provider):
        await service.judges(INTERNAL, essay_a=essay)
    words = sum(len(message["content"].split()) for message in provider.requests[0].json()["messages"])
    async with serving(INTERNAL, *[answer(cut_to(tokens)) for tokens in (512, words - 1)]) as (service, provider):
        for replicate in (0, 1):
            told = (await service.judges(INTERNAL, essay_a=essay, replicate=replicate)).refusal(422, "INVALID_REQUEST")
            assert "cut the prompt" in told["details"]
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    "sentence", ["人人都有受教育的权利。", "子どもは学校で学びます。", "ทุกคนมีสิทธิในการศึกษา", "ကျောင်းသားတိုင်းစာဖတ်သည်။"]
)
async def test_a_cut_prompt_shows_in_a_script_without_spaces_too(sentence: str) -> None:
    """A thousand of these sentences are a single word, and 6,000 tokens at the least."""
    script = [answer(cut_to(tokens)) for tokens in (2048, 6000)]
    async with serving(INTERNAL, *script) as (service, _):
        cut, whole = [await service.judges(INTERNAL, essay_a=sentence * 1000) for _ in script]
    assert "cut the prompt" in cut.refusal(422, "INVALID_REQUEST")["details"]
    assert whole.status == 200


@pytest.mark.parametrize("counted", [1, 511, 2500])
async def test_a_count_of_whole_prompts_or_of_what_was_not_cached_is_no_cut(counted: int) -> None:
    """mlx_lm and Ollama 0.30 left out of the count what they had cached: of a replicate nearly everything."""
    async with serving(INTERNAL, answer(cut_to(counted))) as (service, _):
        assert (await service.judges(INTERNAL, essay_a="because " * 2051)).status == 200


def cut_to(tokens: int) -> JsonObject:
    """A verdict after so many tokens of the prompt."""
    return INTERNAL.says(verdict(), usage=INTERNAL.usage(Counts(prompt=tokens, cached=0, written=0)))


# --- What is remembered of a failure ----------------------------------------------------------------------------------


@every_provider
async def test_a_provider_that_keeps_failing_is_left_alone_until_it_answers_again(dialect: Dialect) -> None:
    async with serving(dialect, *[dialect.fails("failed")] * 5, answer(dialect.good())) as (service, provider):
        for _ in range(2):
            (await service.judges(dialect)).refusal(503, "EXTERNAL_SERVICE_ERROR")
        told = (await service.judges(dialect)).refusal(503, "CIRCUIT_BREAKER_OPEN")
        assert len(provider.requests) == 5
        service.clock.advance(told["retry_after"])
        assert (await service.judges(dialect)).status == 200


@every_provider
@pytest.mark.parametrize("case", ["quota", "key", "forbidden"])
async def test_an_account_that_is_refused_is_not_tried_again_and_again(dialect: Dialect, case: str) -> None:
    async with serving(dialect, dialect.fails(case)) as (service, provider):
        await service.judges(dialect)
        told = (await service.judges(dialect)).refusal(503, "CIRCUIT_BREAKER_OPEN")
    assert len(provider.requests) == 1
    assert told["retry_after"] == 300


@every_provider
@pytest.mark.parametrize("case", ["invalid", "too long", "too large", "model"])
async def test_what_a_caller_does_wrong_shuts_no_provider(dialect: Dialect, case: str) -> None:
    async with serving(dialect, *[dialect.fails(case)] * 6, answer(dialect.good())) as (service, _):
        for _ in range(6):
            assert (await service.judges(dialect)).status in {422, 503}
        assert (await service.judges(dialect)).status == 200


@every_provider
async def test_a_firewall_that_one_question_upsets_shuts_no_provider(dialect: Dialect) -> None:
    page = answer(HTML, 403, Content_Type=HTML_TYPE)
    async with serving(dialect, page, answer(dialect.good())) as (service, provider):
        (await service.judges(dialect)).refusal(502, "INVALID_RESPONSE")
        assert len(provider.requests) == 1
        assert (await service.judges(dialect)).status == 200


# --- What looks like a fault and is none ------------------------------------------------------------------------------


@every_provider
async def test_usage_that_cannot_be_believed_makes_the_cost_unknown(dialect: Dialect) -> None:
    usage = dialect.usage(Counts(cached=0, written=0)) | {dialect.input_count: -1}
    usage.pop("cost", None)
    await costs(dialect, dialect.says(verdict(), usage=usage), None)


@every_provider
async def test_usage_that_is_missing_makes_the_cost_unknown(dialect: Dialect) -> None:
    usage = dialect.usage(Counts())
    await costs(dialect, {name: value for name, value in dialect.good().items() if value != usage}, None)
    await costs(dialect, dialect.says(verdict(), usage=[UPSTREAM]), None)


async def costs(dialect: Dialect, body: JsonObject, usd: float | None) -> None:
    """Let the verdict come all the same; what runs on our own machines costs nothing, counted or not."""
    async with serving(dialect, answer(body)) as (service, _):
        told = await service.judges(dialect)
    assert told.status == 200
    assert told.json()["cost_estimate"] == (0 if dialect is INTERNAL else usd)


@every_provider
async def test_a_wait_told_with_a_success_is_ignored(dialect: Dialect) -> None:
    async with serving(dialect, answer(dialect.good(), Retry_After="19")) as (service, _):
        assert (await service.judges(dialect)).status == 200
    assert service.naps == []


@every_provider
async def test_characters_that_no_encoding_takes_are_replaced_and_what_terminals_obey_is_left_out(
    dialect: Dialect,
) -> None:
    text = verdict(justification="half").replace("half", r"half \ud800 nothing\u0000\u001b end")
    async with serving(dialect, answer(dialect.says(text))) as (service, _):
        told = await service.judges(dialect)
    assert told.status == 200
    assert told.json()["justification"] == "half \ufffd nothing end"
