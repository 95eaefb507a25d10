"""Replies with something wrong in them, in every dialect: they become our own failures, never a false verdict.

The judge of that is a second, plainer reading of the text, which shares no code with the one under test.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import category

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_models import JsonObject
from exceptions import ProviderError
from implementations import anthropic_provider_impl, google_provider_impl, openrouter_provider_impl
from implementations.judging.verdict import read_reply
from implementations.openrouter_provider_impl import MOST_DOLLARS
from implementations.wire import chat_completions
from implementations.wire.json_reading import at, read_object
from protocols import Completion, ProviderReply
from tests.fakes import VERDICT, request

pytestmark = pytest.mark.untraced

MANY = settings(max_examples=200)
FIELDS = ["confidence", "justification", "winner"]
OF_B = VERDICT.replace("Essay A", "Essay B")
CHAT_USAGE = {
    "prompt_tokens": 8000,
    "prompt_tokens_details": {"cached_tokens": 4096, "cache_write_tokens": 2048},
    "completion_tokens": 600,
    "completion_tokens_details": {"reasoning_tokens": 400},
    "cost": 0.0011,
    "is_byok": True,
    "cost_details": {"upstream_inference_cost": 0.2},
}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a vendor lays out an answer, how we read it, and where it says that the model came to its end."""

    answer: Callable[[str], JsonObject]
    read: Callable[[JsonObject], Completion]
    finish_reason: tuple[str | int, ...]
    complete: frozenset[str | None]


def anthropic_answer(text: str) -> JsonObject:
    return {
        "model": "claude-haiku-5-5",
        "content": [{"type": "thinking", "thinking": OF_B, "text": OF_B}, {"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 1200,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 3000,
            "output_tokens": 350,
            "output_tokens_details": {"thinking_tokens": 180},
        },
    }


def chat_answer(text: str) -> JsonObject:
    message = {"role": "assistant", "content": text, "refusal": None, "reasoning": OF_B}
    return {
        "model": "gpt-6-luna",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": CHAT_USAGE,
    }


def google_answer(text: str) -> JsonObject:
    parts = [{"text": OF_B, "thought": True}, {"text": text}]
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 8000, "candidatesTokenCount": 200, "thoughtsTokenCount": 500},
        "modelVersion": "gemini-3.8-flash",
    }


CHAT_FINISH_REASON, STOP = ("choices", 0, "finish_reason"), frozenset({"stop"})
DIALECTS: Mapping[str, Dialect] = {
    "anthropic": Dialect(
        answer=anthropic_answer,
        read=anthropic_provider_impl.completion,
        finish_reason=("stop_reason",),
        complete=frozenset({"end_turn", "stop_sequence"}),
    ),
    "chat": Dialect(
        answer=chat_answer, read=chat_completions.completion, finish_reason=CHAT_FINISH_REASON, complete=STOP
    ),
    "openrouter": Dialect(
        answer=chat_answer,
        read=openrouter_provider_impl.completion,
        finish_reason=CHAT_FINISH_REASON,
        complete=STOP | {None},  # it may leave it null
    ),
    "google": Dialect(
        answer=google_answer,
        read=google_provider_impl.completion,
        finish_reason=("candidates", 0, "finishReason"),
        complete=frozenset({"STOP"}),
    ),
}


def test_every_dialect_that_reads_answers_is_among_these() -> None:
    dialects = Path("implementations").glob("*_provider_impl.py")
    readers = {path.stem for path in dialects if "\ndef completion(" in path.read_text()}
    assert readers <= {dialect.read.__module__.rpartition(".")[2] for dialect in DIALECTS.values()}, (
        "add it to DIALECTS"
    )


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["Essay A", "Essay B", VERDICT, OF_B, 1, 5, 10**30, 10**400, 1e308]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def paths(value: Any) -> Iterator[tuple[str | int, ...]]:
    """The way to everything inside."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (step,)
        yield from ((step, *rest) for rest in paths(inner))


@st.composite
def with_another_value(draw: st.DrawFn, dialect: Dialect) -> bytes:
    """One or two places replaced by any JSON, or left out."""
    answer = json.loads(json.dumps(dialect.answer(VERDICT)))
    for _ in range(draw(st.integers(1, 2))):
        *before, last = draw(st.sampled_from(sorted(paths(answer), key=str)))
        parent = answer
        for step in before:
            parent = parent[step]
        if draw(st.booleans()):
            parent[last] = draw(VALUES)
        else:
            del parent[last]
        if not answer:
            break
    return json.dumps(answer).encode()


@st.composite
def with_other_bytes(draw: st.DrawFn, dialect: Dialect) -> bytes:
    """Bytes changed, put in, taken out; or the end cut off."""
    body = bytearray(json.dumps(dialect.answer(VERDICT)).encode())
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        change = draw(st.sampled_from(["flip", "insert", "delete", "cut"]))
        if change == "flip":
            body[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        elif change == "insert":
            body[place:place] = draw(st.binary(min_size=1, max_size=4))
        elif change == "delete":
            del body[place : place + draw(st.integers(1, 4))]
        else:
            del body[place:]
    return bytes(body)


@st.composite
def with_a_key_twice(draw: st.DrawFn, dialect: Dialect) -> bytes:
    """A key of the answer repeated before itself, with a value that would be of use."""
    body = json.dumps(dialect.answer(VERDICT))
    names = sorted({str(step) for path in paths(json.loads(body)) for step in path if isinstance(step, str)})
    name = json.dumps(draw(st.sampled_from(names)))
    return body.replace(f"{name}:", f"{name}: {json.dumps(draw(VALUES))}, {name}:", 1).encode()


@st.composite
def with_another_text(draw: st.DrawFn, dialect: Dialect) -> bytes:
    """The verdict itself changed: a field replaced, left out, added or repeated, or letters of it."""
    fields: JsonObject = json.loads(VERDICT)
    name = draw(st.sampled_from([*FIELDS, "other"]))
    value = draw(VALUES | st.sampled_from(["Essay B", 1, 2, 3, 5.0, 4.5, True]))
    change = draw(st.sampled_from(["replace", "drop", "repeat", "letters"]))
    if change == "replace":
        text = json.dumps({**fields, name: value})
    elif change == "drop":
        text = json.dumps({field: kept for field, kept in fields.items() if field != name})
    elif change == "repeat":
        text = f"{VERDICT[:-1]}, {json.dumps(name)}: {json.dumps(value)}}}"
    else:
        place = draw(st.integers(0, len(VERDICT)))
        text = VERDICT[:place] + draw(st.text(max_size=2)) + VERDICT[place + draw(st.integers(0, 2)) :]
    return json.dumps(dialect.answer(text)).encode()


MUTATIONS = [with_another_value, with_other_bytes, with_a_key_twice, with_another_text]


def plainly_read(text: str) -> tuple[str, str, float]:
    """Winner, justification and confidence, by assertion."""
    pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
    assert sorted(name for name, _ in pairs) == FIELDS
    fields = dict(pairs)
    assert type(fields["confidence"]) in {int, float}
    assert float(fields["confidence"]) in {1.0, 2.0, 3.0, 4.0, 5.0}
    assert fields["winner"] in {"Essay A", "Essay B"}
    assert isinstance(fields["justification"], str)
    lines = "\n".join(re.split(r"\r\n|[\n\r\x85]", fields["justification"]))
    shown = "".join(letter for letter in lines if letter in "\t\n" or category(letter) != "Cc")
    assert shown.strip()
    return fields["winner"], shown, float(fields["confidence"])


def assert_sane(reply: ProviderReply) -> None:
    usage = reply.purchase.usage
    assert min(usage.prompt, usage.completion, usage.cached, usage.written, usage.reasoning) >= 0
    assert usage.cached + usage.written <= usage.prompt
    assert usage.reasoning <= usage.completion
    assert reply.purchase.cost_usd is None or 0 <= reply.purchase.cost_usd <= 2 * MOST_DOLLARS
    assert reply.verdict.justification.encode()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_a_changed_reply_is_our_failure_or_the_verdict_that_stands_in_it(
    dialect: Dialect, mutation: Callable[[Dialect], st.SearchStrategy[bytes]]
) -> None:
    @MANY
    @given(body=mutation(dialect))
    def holds(body: bytes) -> None:
        try:
            answer = read_object(body)
            completion = dialect.read(answer)
            reply = read_reply(request(), completion)
        except ProviderError:
            return
        assert at(answer, *dialect.finish_reason) in dialect.complete
        winner, justification, confidence = plainly_read(completion.text)
        assert (reply.verdict.winner, reply.verdict.confidence) == (winner, confidence)
        kept = "".join(
            "\ufffd" if letter == "\0" or "\ud800" <= letter <= "\udfff" else letter for letter in justification
        )
        assert reply.verdict.justification == kept
        assert_sane(reply)

    holds()


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_an_unchanged_reply_is_its_verdict_and_never_what_was_thought_before(dialect: Dialect) -> None:
    reply = read_reply(request(), dialect.read(read_object(json.dumps(dialect.answer(VERDICT)).encode())))
    assert (reply.verdict.winner, reply.verdict.justification, reply.verdict.confidence) == plainly_read(VERDICT)
    assert_sane(reply)


@MANY
@given(body=st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_no_verdict_comes_out_of_anything_else(dialect: Dialect, body: bytes) -> None:
    with pytest.raises(ProviderError):
        read_reply(request(), dialect.read(read_object(body)))
