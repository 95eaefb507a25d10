"""The verdict's schema and its strict parsing: a verdict is never guessed, repaired or completed."""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from api_models import MODEL_ID_PATTERN, UNKNOWN_USAGE, JsonObject, Purchase, Winner, is_blank
from exceptions import (
    ContentRefusedError,
    ContextTooLongError,
    InvalidReplyError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderUnavailableError,
    TruncatedReplyError,
)
from protocols import Completion, FinishReason, ProviderReply, ProviderRequest, Verdict

SCHEMA_VERSION = "1"
CONFIDENCES = (1, 2, 3, 4, 5)
MAX_JUSTIFICATION = 20_000
MAX_TEXT = 12 * MAX_JUSTIFICATION + 1000  # every character escaped, as two halves, and the rest of the object

# The subset of JSON Schema that every provider accepts: no length or range keywords, bounds as enums, flat. The
# justification comes first, so that the verdict follows from it.
VERDICT_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "justification": {"type": "string", "description": "At most 120 words."},
        "winner": {"type": "string", "enum": [winner.value for winner in Winner]},
        "confidence": {"type": "integer", "enum": list(CONFIDENCES), "description": "1 = guess, 5 = certain"},
    },
    "required": ["justification", "winner", "confidence"],
    "additionalProperties": False,
}
FIELDS = tuple(VERDICT_SCHEMA["required"])
WINNERS = {winner.value: winner for winner in Winner}

FAILURES: Mapping[FinishReason, tuple[type[ProviderError], str]] = {
    FinishReason.REFUSED: (
        ContentRefusedError,
        "the model or a filter declined to judge what the essays contain",
    ),
    FinishReason.WINDOW_FULL: (ContextTooLongError, "essays and answer together fill the model's window"),
    FinishReason.PROMPT_CUT: (ContextTooLongError, "the server cut the prompt, which exceeds its context"),
    FinishReason.ACCOUNT_REFUSED: (ProviderAuthenticationError, "the account may not use this model"),
    FinishReason.INTERRUPTED: (ProviderUnavailableError, "the server aborted the answer"),
    FinishReason.UNEXPECTED: (InvalidReplyError, "the model ended with something other than one finished answer"),
}

_MODEL_ID = re.compile(MODEL_ID_PATTERN)
_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # not \t, \n
_LINE_END = re.compile(r"\r\n|[\r\x85]")
_IN_PAIRS = json.JSONDecoder(object_pairs_hook=tuple)


def read_reply(request: ProviderRequest, completion: Completion) -> ProviderReply:
    """The reply in a completion: checks the stop reason, then JSON, then the schema.

    Raises a ProviderError that carries the purchase: the tokens are billed whether or not they form a verdict.
    """
    model = completion.model if _is_model_id(completion.model) else request.model
    # A text costs tokens: where none are counted for one, the count is not plausible.
    usage = UNKNOWN_USAGE if completion.text and completion.usage.completion == 0 else completion.usage
    purchase = Purchase(model=model, usage=usage, cost_usd=completion.cost_usd)
    if completion.finish_reason is not FinishReason.COMPLETE:
        _fail(request, completion.finish_reason, purchase)
    verdict = read_verdict(completion.text)
    if verdict is None:
        raise InvalidReplyError("its text is not the JSON of a verdict", purchase=purchase)
    return ProviderReply(
        verdict=verdict,
        provider=request.provider,
        purchase=purchase,
        prompt_sha256=request.prompt.sha256,
    )


def read_verdict(text: str) -> Verdict | None:
    """The verdict, if the text is one JSON object with exactly the three fields of the schema; else None."""
    if len(text) > MAX_TEXT:
        return None
    try:
        pairs = _IN_PAIRS.decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, tuple) or len(pairs) != len(FIELDS):
        return None
    fields = dict(pairs)
    return _verdict(fields) if fields.keys() == VERDICT_SCHEMA["properties"].keys() else None


def _verdict(fields: dict[str, Any]) -> Verdict | None:
    justification, winner, confidence = map(fields.__getitem__, FIELDS)
    if not isinstance(justification, str) or len(justification) > MAX_JUSTIFICATION:
        return None
    shown = _shown(justification)
    if is_blank(shown):
        return None
    if not isinstance(winner, str) or winner not in WINNERS:
        return None
    if isinstance(confidence, bool) or confidence not in CONFIDENCES:
        return None
    return Verdict(winner=WINNERS[winner], justification=shown, confidence=float(confidence))


def _shown(text: str) -> str:
    """The text without control and direction characters, which terminals obey, and with U+FFFD for lone surrogates."""
    if text.isprintable():  # then it holds none of them
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _UNSHOWN.sub("", _LINE_END.sub("\n", whole))


def _is_model_id(name: str) -> bool:
    return _MODEL_ID.fullmatch(name) is not None and ".." not in name


def _fail(request: ProviderRequest, finish_reason: FinishReason, purchase: Purchase) -> NoReturn:
    if finish_reason is FinishReason.TRUNCATED:
        raise TruncatedReplyError(f"{request.max_tokens} tokens were not enough", purchase=purchase)
    kind, details = FAILURES[finish_reason]
    raise kind(details, purchase=purchase)
