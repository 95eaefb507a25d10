"""A verdict is one JSON object with exactly the three fields, or none: nothing is guessed, mended or completed."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from api_models import Purchase, Usage, Winner
from exceptions import (
    ContentRefusedError,
    ContextTooLongError,
    InvalidReplyError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderUnavailableError,
    TruncatedReplyError,
)
from implementations.judging.verdict import (
    CONFIDENCES,
    FIELDS,
    MAX_JUSTIFICATION,
    SCHEMA_VERSION,
    VERDICT_SCHEMA,
    read_reply,
    read_verdict,
)
from protocols import Completion, FinishReason, Verdict
from tests.fakes import request

GOOD: dict[str, Any] = {"justification": "It gives reasons.", "winner": "Essay B", "confidence": 4}
TEXT = json.dumps(GOOD)
READ = Verdict(winner=Winner.ESSAY_B, justification="It gives reasons.", confidence=4.0)
COMPLETION = Completion(
    text=TEXT,
    finish_reason=FinishReason.COMPLETE,
    model="model-9-2026-11-01",
    usage=Usage(prompt=900, completion=80),
    cost_usd=0.5,
)
PURCHASE = Purchase(model="model-9-2026-11-01", usage=Usage(prompt=900, completion=80), cost_usd=0.5)


def changed(**fields: Any) -> str:
    return json.dumps({**GOOD, **fields})


def with_confidence(literal: str) -> str:
    """For what Python itself would not write as JSON."""
    return TEXT.replace("4", literal)


def without(field: str) -> str:
    return json.dumps({name: value for name, value in GOOD.items() if name != field})


@pytest.mark.parametrize(
    "text", [TEXT, f"  {TEXT}\r\n\t", json.dumps(GOOD, indent=2), json.dumps(GOOD, sort_keys=True)]
)
def test_a_good_verdict_is_read_however_it_is_laid_out(text: str) -> None:
    assert read_verdict(text) == READ


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("form", ["{}", "{}.0", "{}e0", "{}0e-1"])
def test_a_whole_confidence_is_read_however_it_is_written(confidence: int, form: str) -> None:
    verdict = read_verdict(with_confidence(form.format(confidence)))
    assert verdict == replace(READ, confidence=float(confidence))
    assert type(verdict.confidence) is float


@pytest.mark.parametrize("winner", Winner)
def test_either_essay_may_win(winner: Winner) -> None:
    assert read_verdict(changed(winner=winner)) == replace(READ, winner=winner)


@pytest.mark.parametrize(
    "justification",
    [
        "Sie überzeugt.",
        "它更有说服力。",
        "🙂",
        "a\u2028b\u2029c",
        "a\tb\nc",
        "x" * MAX_JUSTIFICATION,
        '"}',
        "```json {} ```",
    ],
    ids=ascii,
)
def test_a_justification_is_kept_letter_by_letter(justification: str) -> None:
    for text in (
        changed(justification=justification),
        json.dumps({**GOOD, "justification": justification}, ensure_ascii=False),
    ):
        assert read_verdict(text) == replace(READ, justification=justification)


@pytest.mark.parametrize("letter", ["é", "🙂"])
def test_the_longest_justification_is_read_although_every_letter_is_escaped(letter: str) -> None:
    longest = letter * MAX_JUSTIFICATION
    assert read_verdict(changed(justification=longest)) == replace(READ, justification=longest)


@pytest.mark.parametrize(
    ("literal", "kept"),
    [
        ("a\\ud800b", "a\N{REPLACEMENT CHARACTER}b"),
        ("a\\udc00", "a\N{REPLACEMENT CHARACTER}"),
        ("\\udc00\\ud800", "\N{REPLACEMENT CHARACTER}" * 2),
        ("a\\u0000b", "ab"),
        ("\\u001b[31mred\\u0007\\r\\n\\u202efed\\u2066", "[31mred\nfed"),
        ("a\\rb\\u0085c", "a\nb\nc"),
        ("\\ud83d\\ude42", "🙂"),
        *(
            (text, text)
            for text in ("\u200fא\u200e", "می\u200cشود", "क\u094d\u200dष", "Donau\u00addampf", "👩\u200d🏫")
        ),
    ],
)
def test_what_cannot_be_encoded_is_replaced_and_what_terminals_obey_is_left_out(literal: str, kept: str) -> None:
    verdict = read_verdict(TEXT.replace("It gives reasons.", literal))
    assert verdict == replace(READ, justification=kept)
    assert verdict.justification.encode()


WRONG: dict[str, str] = {
    "a tie": changed(winner="tie"),
    "neither": changed(winner="neither"),
    "a winner in lower case": changed(winner="essay b"),
    "a winner by its letter": changed(winner="B"),
    "a winner with a space": changed(winner="Essay B "),
    "a winner by its name in the code": changed(winner="ESSAY_B"),
    "a winner with a Cyrillic letter": changed(winner="Ess\u0430y B"),
    "a winner in wide letters": changed(winner="\uff25ssay \uff22"),
    "a winner with a no-break space": changed(winner="Essay\u00a0B"),
    "no winner": changed(winner=None),
    "a number as winner": changed(winner=2),
    "an empty object as winner": changed(winner={}),
    "a list as winner": changed(winner=["Essay B"]),
    "lists in an object as winner": changed(winner={"Essay B": []}),
    "a boolean as winner": changed(winner=True),
    **{f"confidence {literal}": with_confidence(literal) for literal in ("97", "0", "6", "3.5", "-4", "4.0000001")},
    **{f"confidence {literal}": with_confidence(literal) for literal in ('"4"', '"high"', "true", "false", "null")},
    **{f"confidence {literal}": with_confidence(literal) for literal in ("NaN", "Infinity", "-Infinity", "1e999")},
    **{f"confidence {literal}": with_confidence(literal) for literal in ("[4]", "{}", "[]", "04", "+4", "4.", "0x4")},
    **{
        f"confidence {literal}": with_confidence(literal)
        for literal in ("\u0664", "\uff14", '"\u0664"', "\u2463", "\u56db")
    },
    "a confidence of 5000 digits": with_confidence("4" * 5000),
    **{f"{field} missing": without(field) for field in FIELDS},
    "no fields": "{}",
    "an extra key": changed(essay_a_score=3),
    "a misspelt key": without("confidence").replace("winner", "confidence"),
    "a key in upper case": TEXT.replace("winner", "Winner"),
    **{f"{field} twice": f'{TEXT[:-1]}, "{field}": {json.dumps(GOOD[field])}}}' for field in FIELDS},
    "fenced": f"```json\n{TEXT}\n```",
    "prose before": f"Here is my verdict: {TEXT}",
    "prose after": f"{TEXT} I hope that this helps.",
    "in a list": f"[{TEXT}]",
    "in an object": f'{{"verdict": {TEXT}}}',
    "in a string": json.dumps(TEXT),
    "two objects": TEXT + TEXT,
    "two objects in lines": f"{TEXT}\n{TEXT}",
    "a list of its pairs": json.dumps(list(GOOD.items())),
    "cut off": TEXT[:-1],
    "a comma too many": f"{TEXT[:-1]},}}",
    "a comment": f"{TEXT} // sure",
    "single quotes": TEXT.replace('"', "'"),
    "a byte order mark": f"\N{ZERO WIDTH NO-BREAK SPACE}{TEXT}",
    "NUL behind it": f"{TEXT}\x00",
    "a bare NUL inside": TEXT.replace("It gives", "It\x00gives"),
    "a bare line feed inside": TEXT.replace("It gives", "It\ngives"),
    **{name: name for name in ("", " ", "null", "true", "7", '"Essay B"', "[]", "Essay B", "NaN")},
    "an empty justification": changed(justification=""),
    "a blank justification": changed(justification=" \n\t\u00a0"),
    "a justification that cannot be seen": changed(justification="\ufeff\u200b"),
    "no justification": changed(justification=None),
    "a list as justification": changed(justification=["It gives reasons."]),
    "a number as justification": changed(justification=1),
    "one letter too many": changed(justification="x" * (MAX_JUSTIFICATION + 1)),
    "a megabyte": changed(justification="x" * 1_000_000),
    "deep nesting": changed(justification=0).replace("0", "[" * 100_000 + "]" * 100_000),
    "deep nesting cut off": '{"justification": ' + "[" * 100_000,
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_what_is_not_exactly_a_verdict_is_none(text: str) -> None:
    assert read_verdict(text) is None
    with pytest.raises(InvalidReplyError) as failure:
        read_reply(request(), replace(COMPLETION, text=text))
    assert failure.value.purchase == PURCHASE
    assert failure.value.may_be_retried
    assert failure.value.is_retried_once


def test_a_verdict_becomes_a_reply_with_what_was_bought() -> None:
    reply = read_reply(request(), COMPLETION)
    assert (reply.verdict, reply.provider, reply.purchase) == (READ, request().provider, PURCHASE)


@pytest.mark.parametrize("model", ["", "../admin", "a..b", "a b", "x" * 129, "m\u00f6del", "<b>", "model\n"])
def test_a_model_that_names_itself_strangely_is_called_what_was_asked_for(model: str) -> None:
    assert read_reply(request(), replace(COMPLETION, model=model)).purchase.model == request().model


ENDINGS = {
    FinishReason.TRUNCATED: TruncatedReplyError,
    FinishReason.REFUSED: ContentRefusedError,
    FinishReason.WINDOW_FULL: ContextTooLongError,
    FinishReason.PROMPT_CUT: ContextTooLongError,
    FinishReason.ACCOUNT_REFUSED: ProviderAuthenticationError,
    FinishReason.INTERRUPTED: ProviderUnavailableError,
    FinishReason.UNEXPECTED: InvalidReplyError,
}


@pytest.mark.parametrize("finish_reason", [one for one in FinishReason if one is not FinishReason.COMPLETE])
@pytest.mark.parametrize("text", [TEXT, "", "I cannot help with that."])
def test_why_it_ended_is_asked_before_the_text_is_read(finish_reason: FinishReason, text: str) -> None:
    with pytest.raises(ProviderError) as failure:
        read_reply(request(), replace(COMPLETION, finish_reason=finish_reason, text=text))
    assert type(failure.value) is ENDINGS[finish_reason]
    assert failure.value.purchase == PURCHASE


def test_the_schema_names_what_is_read_and_uses_only_words_that_every_provider_takes() -> None:
    assert VERDICT_SCHEMA["required"] == list(VERDICT_SCHEMA["properties"]) == list(FIELDS)
    assert VERDICT_SCHEMA["additionalProperties"] is False
    words = {word for field in VERDICT_SCHEMA["properties"].values() for word in field}
    assert words == {"type", "description", "enum"}
    assert VERDICT_SCHEMA["properties"]["winner"]["enum"] == ["Essay A", "Essay B"]
    assert VERDICT_SCHEMA["properties"]["confidence"]["enum"] == [1, 2, 3, 4, 5]


ASKED_FOR = {"1": "c180d3c03ec930d101d357816b89db72a40588a8840d222cd4761b33a80f3545"}


def test_the_version_stands_for_the_schema() -> None:
    """Known answers are found by version: a schema that changed under the same version would get old ones."""
    digest = hashlib.sha256(json.dumps(VERDICT_SCHEMA).encode()).hexdigest()
    assert ASKED_FOR.get(SCHEMA_VERSION) == digest, "raise SCHEMA_VERSION, and give it its own line here"
