"""What a provider, or whoever stands in its place, may send to hold us up or to get past our checks."""

from collections.abc import Callable

import pytest

from api_models import UNKNOWN_USAGE, JsonObject, Purchase, Usage
from exceptions import (
    ContentRefusedError,
    ContextTooLongError,
    InvalidReplyError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitedError,
    RequestRejectedError,
    TruncatedReplyError,
)
from implementations import anthropic_provider_impl as anthropic
from implementations import google_provider_impl as google
from implementations import openrouter_provider_impl as openrouter
from implementations.judging.verdict import MAX_TEXT, read_reply, read_verdict
from implementations.wire import chat_completions as chat
from implementations.wire.failures import failure_in_success, failure_of_answer
from implementations.wire.json_reading import MOST_ITEMS, read_json
from protocols import Completion, FinishReason
from tests.fakes import KNOWN_MODEL, VERDICT, request


def test_an_answer_of_thousands_of_parts_is_no_answer() -> None:
    parts = [{"text": ""}] * MOST_ITEMS
    told = google.completion({"candidates": [{"content": {"parts": [*parts, {"text": VERDICT}]}}]})
    assert told.text == ""
    blocks = [{"type": "text", "text": ""}] * MOST_ITEMS
    assert anthropic.completion({"content": [*blocks, {"type": "text", "text": VERDICT}]}).text == ""


def test_a_text_longer_than_any_verdict_is_not_even_parsed() -> None:
    assert read_verdict(VERDICT) is not None
    assert read_verdict(VERDICT + " " * (MAX_TEXT - len(VERDICT))) is not None
    assert read_verdict(VERDICT + " " * MAX_TEXT) is None


@pytest.mark.parametrize(
    "error",
    [
        {"details": [{"retryDelay": "1s" * 1000}]},
        {"details": [{"retryDelay": f"{'0' * 1000}1s"}]},
        {"metadata": {"headers": {"x-ratelimit-reset": "1s" * 1000}}},
        {"metadata": {"headers": {f"x-ratelimit-{'a-' * 1000}reset": "1s"}}},
        {"metadata": {"headers": {**dict.fromkeys(map(str, range(MOST_ITEMS))), "x-ratelimit-reset": "1s"}}},
    ],
    ids=["many parts", "many digits", "a reset", "a long name", "many names"],
)
def test_a_wait_of_no_plausible_form_is_not_read(error: JsonObject) -> None:
    """The body may have 4 MiB, and the event loop would stand still for seconds."""
    assert failure_of_answer(429, {}, {"error": error}, now_s=0.0).retry_after_s is None


def test_nor_is_a_header_of_no_plausible_length() -> None:
    """There may be a thousand of them."""
    headers = {"x-ratelimit-reset": f"{' ' * 1000}Mon, 23 Nov 2026 12:00:00 GMT"}
    assert failure_of_answer(429, headers, None, now_s=0.0).retry_after_s is None


def test_of_thousands_of_details_none_is_read() -> None:
    violation = {"violations": [{"quotaId": "RequestsPerDay"}]}
    assert type(failure_of_answer(429, {}, {"error": {"details": [violation]}}, now_s=0.0)) is QuotaExceededError
    for many in ([*[{}] * MOST_ITEMS, violation], [{"violations": [*[{}] * MOST_ITEMS, {"quotaId": "PerDay"}]}]):
        assert type(failure_of_answer(429, {}, {"error": {"details": many}}, now_s=0.0)) is RateLimitedError


def test_lines_of_keep_alive_before_the_answer_are_skipped_however_many() -> None:
    assert read_json(b"\n  : working\n:\r\n" * 20_000 + b'{"a": 1}') == {"a": 1}
    assert read_json(b'\n {"a": ":\\n: no comment"}') == {"a": ":\n: no comment"}


@pytest.mark.parametrize("status", [400, 402, 403, 404])
def test_a_provider_that_invites_a_repetition_gets_one(status: int) -> None:
    body = {"error": {"code": status, "availability": {"retryable": True, "retry_after": 7}}}
    failure = failure_of_answer(status, {}, body, now_s=0)
    assert (type(failure), failure.may_be_retried, failure.retry_after_s) == (RateLimitedError, True, 7)
    inside = failure_in_success(body, now_s=0.0)
    assert isinstance(inside, RateLimitedError)
    assert inside.retry_after_s == 7


@pytest.mark.parametrize(("status", "kind"), [(500, ProviderUnavailableError), (503, ProviderOverloadedError)])
def test_an_invitation_makes_an_outage_no_shortage(status: int, kind: type[ProviderError]) -> None:
    """Or its circuit would never open."""
    body = {"error": {"code": status, "availability": {"retryable": True, "retry_after": 7}}}
    assert type(failure_of_answer(status, {}, body, now_s=0)) is kind
    assert type(failure_in_success(body, now_s=0.0)) is kind


@pytest.mark.parametrize(
    ("code", "kind"), [("content_filter", ContentRefusedError), ("context_length_exceeded", ContextTooLongError)]
)
def test_an_invitation_makes_a_text_neither_welcome_nor_shorter(code: str, kind: type[ProviderError]) -> None:
    body = {"error": {"code": code, "availability": {"retryable": True}}}
    assert type(failure_of_answer(400, {}, body, now_s=0)) is kind
    assert type(failure_in_success(body, now_s=0.0)) is kind


@pytest.mark.parametrize("stop_reason", ["end_turn", "stop_sequence"])
def test_an_answer_of_anthropic_may_end_at_a_stop_sequence_as_well(stop_reason: str) -> None:
    assert anthropic.completion({"content": [], "stop_reason": stop_reason}).finish_reason is FinishReason.COMPLETE


def test_a_screened_answer_is_a_refusal() -> None:
    assert google.completion({"candidates": [{"finishReason": "MODEL_ARMOR"}]}).finish_reason is FinishReason.REFUSED


def test_a_verdict_without_tokens_has_no_known_count() -> None:
    usage = Usage(prompt=3000, completion=0)
    told = read_reply(request(), Completion(text=VERDICT, finish_reason=FinishReason.COMPLETE, model="m", usage=usage))
    assert told.purchase.usage == UNKNOWN_USAGE


@pytest.mark.parametrize("finish_reason", [FinishReason.TRUNCATED, FinishReason.REFUSED])
def test_nor_has_a_text_that_is_no_verdict(finish_reason: FinishReason) -> None:
    usage = Usage(prompt=3000, completion=0)
    with pytest.raises(ProviderError) as caught:
        read_reply(request(), Completion(text="I will", finish_reason=finish_reason, model="m", usage=usage))
    assert caught.value.purchase is not None
    assert caught.value.purchase.usage == UNKNOWN_USAGE


def test_an_empty_answer_may_cost_no_completion_tokens() -> None:
    usage = Usage(prompt=3000, completion=0)
    with pytest.raises(InvalidReplyError) as caught:
        read_reply(request(), Completion(text="", finish_reason=FinishReason.COMPLETE, model="m", usage=usage))
    assert caught.value.purchase is not None
    assert caught.value.purchase.usage == usage


USAGE = {"prompt_tokens": 900, "completion_tokens": 80}


@pytest.mark.parametrize("choices", [None, [], [{}], "none"])
@pytest.mark.parametrize(("usage", "counts"), [(USAGE, Usage(prompt=900, completion=80)), (None, UNKNOWN_USAGE)])
def test_an_answer_without_a_choice_is_none_and_billed_as_it_says(
    choices: object, usage: JsonObject | None, counts: Usage
) -> None:
    with pytest.raises(InvalidReplyError) as caught:
        read_reply(request(), chat.completion({"choices": choices, "usage": usage}))
    assert caught.value.purchase == Purchase(model=KNOWN_MODEL, usage=counts, cost_usd=None)


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (980, Usage(prompt=900, completion=80, reasoning=80)),
        (1180, Usage(prompt=900, completion=280, reasoning=200)),
        *((told, Usage(prompt=900, completion=80, reasoning=80)) for told in (0, 979, None, "1180", 1180.0)),
        (10**12, UNKNOWN_USAGE),
    ],
)
def test_thoughts_that_only_the_total_contains_are_output(total: object, expected: Usage) -> None:
    """As xAI counts: its completion tokens are those of the text alone."""
    usage = {**USAGE, "total_tokens": total, "completion_tokens_details": {"reasoning_tokens": 200}}
    assert chat.reported_usage({"usage": usage}) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"candidates": 80, "thoughts": 200, "total": 1180}, Usage(prompt=900, completion=280, reasoning=200)),
        ({"candidates": 80, "total": 1180}, Usage(prompt=900, completion=280)),
        ({"total": 4996}, Usage(prompt=900, completion=4096)),
        ({"thoughts": 200, "total": 900}, Usage(prompt=900, completion=200, reasoning=200)),
        ({"candidates": 80, "total": "1180"}, Usage(prompt=900, completion=80)),
        ({"prompt": None, "candidates": 80, "total": 1180}, Usage(prompt=0, completion=80)),
        ({"candidates": "80", "total": 1180}, UNKNOWN_USAGE),
    ],
)
def test_gemini_s_total_tells_what_its_other_counts_leave_out(counts: JsonObject, expected: Usage) -> None:
    """Google says that it is their sum."""
    usage = {f"{part}TokenCount": count for part, count in {"prompt": 900, **counts}.items()}
    assert google.completion({"usageMetadata": usage}).usage == expected


def test_words_of_a_guardrail_mean_something_only_with_its_status() -> None:
    def failed(status: int, **metadata: object) -> type:
        return type(failure_of_answer(status, {}, {"error": {"code": status, "metadata": metadata}}, now_s=0))

    assert failed(403, reasons=["violence"]) is ContentRefusedError
    assert failed(403) is ProviderAuthenticationError
    assert failed(429, error_type="rate_limit_exceeded", reasons=["busy"]) is RateLimitedError
    assert failed(400, error_type="invalid_request", timeout=30) is RequestRejectedError


def test_a_refused_key_is_no_shortage_whatever_is_invited() -> None:
    body = {"error": {"code": 401, "availability": {"retryable": True}}}
    assert isinstance(failure_of_answer(401, {}, body, now_s=0), ProviderAuthenticationError)


OF_B = VERDICT.replace("Essay A", "Essay B")
NO_REASONS: tuple[object, ...] = ("tool_use", "", 7, [])
TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "judge", "arguments": OF_B}}
BOUGHT = Usage(prompt=900, completion=80)
REFUSED_PART = {"type": "refusal", "refusal": "No."}
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": OF_B}]}  # of Mistral's


def of_chat(*texts: str, finish_reason: object = "stop", **message: object) -> JsonObject:
    """One choice for each text."""
    return {
        "choices": [{"message": {"content": text, **message}, "finish_reason": finish_reason} for text in texts],
        "usage": {"prompt_tokens": 900, "completion_tokens": 80},
    }


def of_google(*texts: str, **part: object) -> JsonObject:
    """One candidate for each text; part: one more in each."""
    return {
        "candidates": [{"content": {"parts": [{"text": text}, part]}, "finishReason": "STOP"} for text in texts],
        "usageMetadata": {"promptTokenCount": 900, "candidatesTokenCount": 80},
    }


def of_anthropic(*blocks: JsonObject, **more: object) -> JsonObject:
    """The verdict, and further blocks."""
    return {
        "content": [{"type": "text", "text": VERDICT}, *blocks],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 900, "output_tokens": 80},
        **more,
    }


# Also the words of other vendors, as gateways pass them on.
CUT_OFF = ("length", "max_tokens", "MAX_TOKENS", "CONTINUATION")
NATIVE_CUT_OFF = (*CUT_OFF, "max_output_tokens")
REFUSALS = (
    *("content_filter", "refusal", "sensitive", "guardrail_intervened", "content_filtered"),
    *("SAFETY", "LANGUAGE", "ESCALATION"),
)
WINDOW_FULL = ("model_length", "model_context_window_exceeded")
UNFINISHED = ("function_call_filter: MALFORMED_FUNCTION_CALL", "OTHER", "pause_turn", "PUP_LIMITED_DISABLED", "Stop")

CONTRADICTIONS: list[tuple[Callable[[JsonObject], Completion], JsonObject, type[ProviderError]]] = [
    (chat.completion, of_chat(VERDICT, function_call={"name": "judge"}), InvalidReplyError),
    *(
        (read, answer, expected)
        for read in (chat.completion, openrouter.completion)
        for answer, expected in (
            (of_chat(VERDICT, OF_B), InvalidReplyError),
            (of_chat(VERDICT, VERDICT), InvalidReplyError),
            (of_chat("", content=[THOUGHT]), InvalidReplyError),
            (of_chat("", content=[{"type": "text", "text": text} for text in (VERDICT, OF_B)]), InvalidReplyError),
            (of_chat(VERDICT, tool_calls=[TOOL_CALL]), InvalidReplyError),
            (of_chat(VERDICT, tool_calls=[TOOL_CALL], finish_reason="content_filter"), ContentRefusedError),
            *((of_chat("", finish_reason=said), ContentRefusedError) for said in REFUSALS),
            *((of_chat(VERDICT, finish_reason=said), TruncatedReplyError) for said in CUT_OFF),
            (of_chat("", finish_reason="content_filter: RECITATION"), ContentRefusedError),
            *((of_chat(VERDICT, finish_reason=said), InvalidReplyError) for said in UNFINISHED),
            *((of_chat(VERDICT[:9], finish_reason=said), ContextTooLongError) for said in WINDOW_FULL),
            *(
                (of_chat(VERDICT[:9], finish_reason=said), ProviderUnavailableError)
                for said in ("abort", "error", "insufficient_system_resource", "network_error")
            ),
            *((of_chat(VERDICT, refusal=said), ContentRefusedError) for said in ("No.", {"reason": "No."}, ["No."])),
            (of_chat("", content=[REFUSED_PART]), ContentRefusedError),
            (of_chat("", content=[{"type": "text", "text": VERDICT}, REFUSED_PART]), ContentRefusedError),
        )
    ),
    (google.completion, of_google(VERDICT, OF_B), InvalidReplyError),
    (google.completion, of_google(*[VERDICT] * (MOST_ITEMS + 1)), InvalidReplyError),
    (google.completion, of_google(VERDICT, functionCall={}), InvalidReplyError),
    (google.completion, {**of_google(VERDICT), "promptFeedback": {"blockReason": ["SAFETY"]}}, ContentRefusedError),
    (anthropic.completion, of_anthropic({"type": "tool_use", "input": {}}), InvalidReplyError),
    (anthropic.completion, of_anthropic(stop_details={"type": "refusal", "category": None}), ContentRefusedError),
    (
        anthropic.completion,
        of_anthropic({"type": "tool_use", "input": {}}, stop_reason="refusal"),
        ContentRefusedError,
    ),
]


@pytest.mark.parametrize(("read", "answer", "expected"), CONTRADICTIONS)
def test_an_answer_that_contradicts_itself_is_no_verdict_but_billed(
    read: Callable[[JsonObject], Completion], answer: JsonObject, expected: type[ProviderError]
) -> None:
    with pytest.raises(expected) as failure:
        read_reply(request(), read(answer))
    assert type(failure.value) is expected
    assert failure.value.purchase
    assert failure.value.purchase.usage == BOUGHT


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (chat.completion, of_chat(VERDICT, tool_calls=[], refusal="")),
        *(
            (chat.completion, of_chat(VERDICT, finish_reason=said))
            for said in ("eos", "eos_token", "end_turn", "stop_sequence", "STOP")
        ),
        *(
            (chat.completion, of_chat("", content=[thought, {"type": "text", "text": VERDICT}]))
            for thought in (THOUGHT, {"type": "reasoning", "text": OF_B})
        ),
        (openrouter.completion, of_chat(VERDICT, tool_calls=None, refusal=None)),
        (google.completion, of_google(VERDICT, thoughtSignature="c2ln")),
        (anthropic.completion, of_anthropic(stop_details=None)),
    ],
)
def test_signs_that_say_nothing_contradict_nothing(
    read: Callable[[JsonObject], Completion], answer: JsonObject
) -> None:
    assert read_reply(request(), read(answer)).purchase.usage == BOUGHT


def without_reason(text: str, **native: object) -> JsonObject:
    """OpenRouter's answer with a `finish_reason` of null."""
    answer = of_chat(text, finish_reason=None)
    answer["choices"][0] |= native
    return answer


@pytest.mark.parametrize(
    "native", [{}, *({"native_finish_reason": said} for said in (None, "stop", "end_turn", "STOP", "completed"))]
)
def test_openrouter_may_leave_out_why_a_whole_verdict_ended(native: JsonObject) -> None:
    answer = without_reason(VERDICT, **native)
    assert read_reply(request(), openrouter.completion(answer)).purchase.usage == BOUGHT
    with pytest.raises(InvalidReplyError):
        read_reply(request(), chat.completion(answer))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *((without_reason(VERDICT, native_finish_reason=said), TruncatedReplyError) for said in NATIVE_CUT_OFF),
        *((without_reason(VERDICT, native_finish_reason=said), ContentRefusedError) for said in REFUSALS),
        *((without_reason(VERDICT, native_finish_reason=said), InvalidReplyError) for said in NO_REASONS),
        *((without_reason(VERDICT[:length]), InvalidReplyError) for length in range(len(VERDICT))),
        (without_reason(VERDICT, message={"content": VERDICT, "refusal": "No."}), ContentRefusedError),
        (without_reason(VERDICT, message={"content": VERDICT, "tool_calls": [TOOL_CALL]}), InvalidReplyError),
        *((of_chat(VERDICT, finish_reason=said), InvalidReplyError) for said in NO_REASONS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_only_a_whole_verdict_may_end_without_a_reason(answer: JsonObject, expected: type[ProviderError]) -> None:
    with pytest.raises(expected):
        read_reply(request(), openrouter.completion(answer))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (True, None),
        ("0.1", None),
        (-0.1, None),
        (10_000.01, None),
        ([], None),
        (None, None),
        (0, 0.0),
        (0.0011, 0.0011),
        (10_000, 10_000.0),
    ],
)
def test_a_charge_that_is_no_plausible_sum_is_unknown(told: object, expected: float | None) -> None:
    answer = of_chat(VERDICT)
    answer["usage"]["cost"] = told
    assert read_reply(request(), openrouter.completion(answer)).purchase.cost_usd == expected
    by_our_key = {"cost": 0.5, "is_byok": True, "cost_details": {"upstream_inference_cost": told}}
    answer["usage"].update(by_our_key)
    assert openrouter.completion(answer).cost_usd == (None if expected is None else 0.5 + expected)


@pytest.mark.parametrize(
    ("content", "category", "expected"),
    [
        ([], "cyber", 0.0),
        ([], "general_harms", 0.0),
        ([], None, 0.0),
        ([], "bio", None),
        ([], "frontier_llm", None),
        ([], "reasoning_extraction", None),
        ([{"type": "text", "text": "The first"}], "cyber", None),
        ([{"type": "thinking", "thinking": "", "signature": "s"}], "cyber", None),
    ],
)
def test_anthropic_charges_a_refusal_before_any_output_by_its_category(
    content: list[JsonObject], category: str | None, expected: float | None
) -> None:
    details = {"type": "refusal", "category": category, "explanation": None}
    answer = of_anthropic(content=content, stop_reason="refusal", stop_details=details)
    with pytest.raises(ContentRefusedError) as raised:
        read_reply(request(), anthropic.completion(answer))
    assert raised.value.purchase is not None
    assert raised.value.purchase.cost_usd == expected


def test_an_answer_of_anthropic_s_without_content_is_free_only_if_it_is_a_refusal() -> None:
    assert anthropic.completion(of_anthropic(content=[], stop_reason="refusal")).cost_usd == 0.0
    assert anthropic.completion(of_anthropic(content=[])).cost_usd is None


def complete_but(native: object) -> JsonObject:
    """OpenRouter's answer that is complete by its own word."""
    answer = of_chat(VERDICT)
    answer["choices"][0]["native_finish_reason"] = native
    return answer


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        *((said, TruncatedReplyError) for said in NATIVE_CUT_OFF),
        *((said, ContentRefusedError) for said in REFUSALS),
        *((said, InvalidReplyError) for said in ("OTHER", "MALFORMED_RESPONSE", "MALFORMED_FUNCTION_CALL")),
        *((said, InvalidReplyError) for said in ("incomplete", "failed", "cancelled", "pause_turn")),
        ("PUP_LIMITED_DISABLED", InvalidReplyError),  # not our account, whose key would count as refused
    ],
)
def test_a_routed_vendor_that_calls_its_answer_no_answer_is_believed(
    native: str, expected: type[ProviderError]
) -> None:
    with pytest.raises(expected):
        read_reply(request(), openrouter.completion(complete_but(native)))


@pytest.mark.parametrize("native", ["stop", "end_turn", "STOP", "completed"])
@pytest.mark.parametrize(
    ("said", "expected"),
    [("length", TruncatedReplyError), ("content_filter", ContentRefusedError), ("tool_calls", InvalidReplyError)],
)
def test_no_word_of_a_routed_vendor_completes_what_openrouter_calls_no_answer(
    native: str, said: str, expected: type[ProviderError]
) -> None:
    answer = of_chat(VERDICT, finish_reason=said)
    answer["choices"][0]["native_finish_reason"] = native
    with pytest.raises(expected):
        read_reply(request(), openrouter.completion(answer))


@pytest.mark.parametrize("native", ["stop", "end_turn", "STOP", "completed", "a new word", "", None, 7])
def test_a_routed_vendor_that_says_nothing_to_the_contrary_changes_nothing(native: object) -> None:
    assert read_reply(request(), openrouter.completion(complete_but(native))).purchase.usage == BOUGHT
