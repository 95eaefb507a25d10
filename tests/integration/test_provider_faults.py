"""Whatever a provider answers, the caller gets one documented failure or a real verdict, and no private word."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest

from api_models import JsonObject
from tests.integration.dialects import (
    ANTHROPIC,
    GOOGLE,
    INTERNAL,
    OPENAI,
    OPENROUTER,
    UPSTREAM,
    Counts,
    Dialect,
    anthropic_error,
    google_error,
    openai_error,
    openrouter_error,
    verdict,
)
from tests.integration.pointed_service import Fault, every_provider, serving
from tests.integration.stand_in import Act, answer

pytestmark = [pytest.mark.untraced, pytest.mark.usefixtures("nothing_private_is_written")]

HTML = f"<html><body>{UPSTREAM}</body></html>".encode()
REQUEST_TIMEOUT_S = 55
HTML_TYPE = "text/html"
SPENT = f"You have reached your specified API usage limits, {UPSTREAM}."
RAMP = {"error_code": "ramp_limit_exceeded"}


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


def throttling(wait: str, *, calls: int, retry_after: tuple[int, int] | None) -> Fault:
    return Fault(
        plays=lambda dialect: [dialect.fails("throttled", Retry_After=wait)],
        status=429,
        error_type="RATE_LIMIT",
        calls=calls,
        retry_after=retry_after,
    )


def broken(body: object, *, calls: int) -> Fault:
    """A 200 whose body is no answer of that dialect."""
    return Fault(plays=lambda _: [answer(body)], status=502, error_type="INVALID_RESPONSE", calls=calls)


def duplicated(body: JsonObject) -> bytes:
    """The same answer with the field that holds the verdict twice."""
    field = next(name for name in ("content", "choices", "candidates") if name in body)
    return orjson.dumps(body)[:-1] + b"," + orjson.dumps({field: body[field]})[1:]


FAULTS = {
    "throttled for ever": throttling("2", calls=3, retry_after=(2, 2)),
    "throttled for an hour": throttling("3600", calls=1, retry_after=(3600, 3600)),
    "throttled until a date": Fault(
        plays=lambda dialect: [dialect.fails("throttled", Retry_After=in_an_hour())],
        status=429,
        error_type="RATE_LIMIT",
        calls=1,
        retry_after=(3500, 3600),
    ),
    "throttled for garbage": throttling("soon", calls=3, retry_after=None),
    "throttled for a negative time": throttling("-5", calls=3, retry_after=(0, 0)),
    "throttled for an absurd time": throttling("1e9", calls=1, retry_after=(31 * 86_400,) * 2),
    "throttled until infinity": throttling("inf", calls=3, retry_after=None),
    "quota": failing("quota", 503, "QUOTA_EXCEEDED", calls=1),
    "wrong key": failing("key", 502, "AUTHENTICATION_ERROR", calls=1),
    "forbidden": failing("forbidden", 502, "AUTHENTICATION_ERROR", calls=1),
    "invalid request": failing("invalid", 422, "INVALID_REQUEST", calls=1),
    "essays too long": failing("too long", 422, "INVALID_REQUEST", calls=1),
    "unknown model": failing("model", 503, "CONFIGURATION_ERROR", calls=1),
    "body too large": failing("too large", 422, "INVALID_REQUEST", calls=1),
    "failed": failing("failed", 503, "EXTERNAL_SERVICE_ERROR", calls=3),
    "overloaded": failing("overloaded", 503, "EXTERNAL_SERVICE_ERROR", calls=3),
    "503": failing("overloaded", 503, "EXTERNAL_SERVICE_ERROR", calls=3, upstream=503),
    "504": failing("failed", 503, "EXTERNAL_SERVICE_ERROR", calls=3, upstream=504),
    "524": failing("failed", 503, "EXTERNAL_SERVICE_ERROR", calls=3, upstream=524),
    "529": failing("overloaded", 503, "EXTERNAL_SERVICE_ERROR", calls=3, upstream=529),
    "error inside a 200": failing("failed", 503, "EXTERNAL_SERVICE_ERROR", calls=3, upstream=200),
    "throttled inside a 200": failing("throttled", 429, "RATE_LIMIT", calls=3, upstream=200),
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
    "empty body": broken(b"", calls=3),
    "a list": broken([UPSTREAM], calls=2),
    "a string": broken(UPSTREAM, calls=2),
    "null": broken(None, calls=2),
    "not UTF-8": broken(b'{"\xff": "\xfe"}', calls=3),
    "nested without end": broken(b'{"a":' * 100_000, calls=3),
    "duplicate keys": Fault(
        plays=lambda dialect: [answer(duplicated(dialect.good()))], status=502, error_type="INVALID_RESPONSE", calls=2
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
    "fenced JSON": saying(f"```json\n{verdict()}\n```"),
    "JSON and more": saying(f"{verdict()} I hope this helps."),
    "two verdicts": saying(verdict() + verdict(winner="Essay B")),
    "no text": saying(""),
    "null as text": saying(None),
    "a number as text": saying(4),
    "a list as verdict": saying(f"[{verdict()}]"),
    "a tie": saying(verdict(winner="Tie")),
    "a bare letter": saying(verdict(winner="A")),
    "another spelling": saying(verdict(winner="essay a")),
    "no winner": saying('{"justification": "spottdrossel", "confidence": 4}'),
    "null as winner": saying(verdict(winner=None)),
    "a list as winner": saying(verdict(winner=["Essay A"])),
    "an object as winner": saying(verdict(winner={"letter": ["A"]})),
    "a field too many": saying(verdict(score=3)),
    "duplicate winner": saying(verdict().replace('"winner"', '"winner":"Essay B","winner"')),
    "blank justification": saying(verdict(justification=" \n")),
    "endless justification": saying(verdict(justification=UPSTREAM * 90_000)),
    "confidence 97": saying(verdict(confidence=97)),
    "confidence 0": saying(verdict(confidence=0)),
    "confidence in quotes": saying(verdict(confidence="4")),
    "confidence in words": saying(verdict(confidence="high")),
    "confidence NaN": saying(verdict().replace(":4", ":NaN")),
    "confidence infinite": saying(verdict().replace(":4", ":1e999")),
    "confidence 3.5": saying(verdict(confidence=3.5)),
    "confidence true": saying(verdict(confidence=True)),
    "confidence null": saying(verdict(confidence=None)),
}

# What only one provider does: per outcome and number of calls the provider, the status and the body of its answer.
PECULIAR: dict[tuple[int, str, int], dict[str, tuple[Dialect, int, object]]] = {
    (503, "QUOTA_EXCEEDED", 1): {
        "anthropic's spending limit": (ANTHROPIC, 400, anthropic_error("invalid_request_error", SPENT)),
        "anthropic's empty credit": (
            ANTHROPIC,
            400,
            anthropic_error("invalid_request_error", f"Your credit balance is too low. {UPSTREAM}"),
        ),
        "anthropic's billing": (ANTHROPIC, 402, anthropic_error("billing_error")),
        "openai's limit of a project": (OPENAI, 429, openai_error("project_spend_limit_exceeded")),
        "openai's quota told by its type": (OPENAI, 429, openai_error(None, "insufficient_quota")),
        "google's prepaid credit": (GOOGLE, 402, google_error(402, "RESOURCE_EXHAUSTED")),
    },
    (429, "RATE_LIMIT", 3): {
        "anthropic's ramp": (ANTHROPIC, 429, anthropic_error("rate_limit_error", details=RAMP)),
        "openai's slow down": (OPENAI, 429, openai_error("slow_down", "rate_limit_error")),
        "openrouter's credits in use": (OPENROUTER, 402, openrouter_error(402, "in_flight_budget_exhausted")),
    },
    (503, "EXTERNAL_SERVICE_ERROR", 3): {
        "anthropic's conflict": (ANTHROPIC, 409, anthropic_error("conflict_error")),
        "openrouter's edge": (OPENROUTER, 524, openrouter_error(524, "timeout")),
        "openrouter's error in a choice": (
            OPENROUTER,
            200,
            {"choices": [{"error": {"code": 502, "message": UPSTREAM}}]},
        ),
    },
    (502, "AUTHENTICATION_ERROR", 1): {
        "google's error in a list": (GOOGLE, 400, [GOOGLE.failures["key"][1]]),
        "google's region": (GOOGLE, 400, google_error(400, "FAILED_PRECONDITION")),
        "google's limited account": (GOOGLE, 200, GOOGLE.reply("", "PUP_LIMITED_DISABLED", None)),
    },
    (422, "CONTENT_REFUSED", 1): {
        "openai's policy": (OPENAI, 400, openai_error("content_policy_violation")),
        "google's recitation": (GOOGLE, 200, GOOGLE.reply("", "RECITATION", None)),
        "openrouter's moderation": (OPENROUTER, 403, openrouter_error(403, "permission_denied", reasons=[UPSTREAM])),
    },
    (422, "INVALID_REQUEST", 1): {
        "anthropic's full window": (ANTHROPIC, 200, ANTHROPIC.reply("{", "model_context_window_exceeded", None)),
    },
    (503, "CONFIGURATION_ERROR", 1): {
        "openrouter's unknown model": (
            OPENROUTER,
            400,
            {"error": {"code": 400, "message": f"no/such is not a valid model ID {UPSTREAM}"}},
        ),
        "openrouter's vendor refuses its key": (OPENROUTER, 403, openrouter_error(403, "permission_denied")),
        "openrouter's missing route": (OPENROUTER, 404, openrouter_error(404, "constraint_filtered")),
    },
    (502, "INVALID_RESPONSE", 2): {
        "anthropic's pause": (ANTHROPIC, 200, ANTHROPIC.reply(verdict(), "pause_turn", None)),
        "google's missing parts": (GOOGLE, 200, {"candidates": [{"content": {}, "finishReason": "STOP"}]}),
    },
    (502, "INVALID_RESPONSE", 3): {
        "openrouter's choices null": (OPENROUTER, 200, {"choices": None}),
        "openrouter's choices empty": (OPENROUTER, 200, {"choices": []}),
    },
}


@every_provider
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_ends_in_its_one_failure(dialect: Dialect, name: str) -> None:
    await FAULTS[name].befalls(dialect)


@pytest.mark.parametrize(
    ("outcome", "name"), [(outcome, name) for outcome, answers in PECULIAR.items() for name in answers]
)
async def test_what_only_one_provider_says_is_understood(outcome: tuple[int, str, int], name: str) -> None:
    (status, error_type, calls), (dialect, upstream, body) = outcome, PECULIAR[outcome][name]
    fault = Fault(plays=lambda _: [answer(body, upstream)], status=status, error_type=error_type, calls=calls)
    await fault.befalls(dialect)


@pytest.mark.parametrize(
    ("dialect", "headers", "body", "wait"),
    [
        (OPENAI, {"retry_after_ms": "4000", "retry_after": "9"}, openai_error("rate_limit_exceeded"), 4),
        (
            OPENAI,
            {"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "6m0s"},
            openai_error("rate_limit_exceeded"),
            360,
        ),
        (GOOGLE, {}, google_error(429, "RESOURCE_EXHAUSTED", {"@type": "RetryInfo", "retryDelay": "8.5s"}), 9),
        (OPENROUTER, {}, {"error": {"code": 429, "availability": {"retryable": True, "retry_after": 7}}}, 7),
    ],
)
async def test_the_wait_is_read_where_the_provider_puts_it(
    dialect: Dialect, headers: dict[str, str], body: JsonObject, wait: int
) -> None:
    throttled = answer(body, 429, **headers)
    calls = 1 if wait > REQUEST_TIMEOUT_S else 3
    fault = Fault(
        plays=lambda _: [throttled], status=429, error_type="RATE_LIMIT", calls=calls, retry_after=(wait, wait)
    )
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
    async with serving(INTERNAL, *[answer(cut_to(tokens)) for tokens in (2051, 2500, 1)]) as (service, provider):
        told = (await service.judges(INTERNAL, essay_a=essay)).refusal(422, "INVALID_REQUEST")
        assert "cut the prompt" in told["details"]
        assert (await service.judges(INTERNAL, essay_a=essay)).status == 200
        (await service.judges(INTERNAL)).refusal(422, "INVALID_REQUEST")
    assert len(provider.requests) == 3


async def test_a_prompt_of_as_many_tokens_as_words_was_not_cut() -> None:
    async with serving(INTERNAL, answer(INTERNAL.good())) as (service, provider):
        await service.judges(INTERNAL)
    words = sum(len(message["content"].split()) for message in provider.requests[0].json()["messages"])
    async with serving(INTERNAL, *[answer(cut_to(tokens)) for tokens in (words, words - 1)]) as (service, _):
        assert [(await service.judges(INTERNAL, replicate=index)).status for index in (0, 1)] == [200, 422]


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


# --- What looks like a fault and is none ------------------------------------------------------------------------------


@every_provider
@pytest.mark.parametrize("count", [-1, "3000", 1.5, True, 10**30, 0, None, [3000]], ids=repr)
async def test_usage_that_cannot_be_believed_makes_the_cost_unknown(dialect: Dialect, count: object) -> None:
    usage = dialect.usage(Counts(cached=0, written=0)) | {dialect.input_count: count}
    usage.pop("cost", None)
    await costs(dialect, dialect.says(verdict(), usage=usage), None)


@every_provider
async def test_usage_that_is_missing_makes_the_cost_unknown(dialect: Dialect) -> None:
    await costs(dialect, {name: value for name, value in dialect.good().items() if "sage" not in name}, None)
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
