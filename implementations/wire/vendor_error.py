"""Parses a provider's error body, whatever its shape, for the words that classify it.

Shapes: `{"error": {type, code, status, details, metadata, availability}}`, the same as the only element of a list,
`{"error": "a sentence"}`, `{message, type, code}` (SGLang, older vLLM, Mistral, Cerebras), `{"detail": "a sentence"}`
(FastAPI), or nothing of that kind.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from exceptions import ProviderError
from implementations.wire.json_reading import at, list_at, read_json, text_at

MAX_SENTENCE = 2000
LONGEST_QUOTED = 64 * 1024  # characters: it is parsed on the event loop, where 4 MiB take 0.1 s
NAMING_FIELDS = ("type", "code", "status")
HTTP_STATUSES = range(400, 600)
STATUS_DIGITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorError:
    """error: as sent, or its message alone; words: codes that classify it; sentence: its message in lower case."""

    error: Mapping[str, Any]
    words: frozenset[str]
    sentence: str

    @classmethod
    def of(cls, body: object) -> Self:
        """Read any JSON value; ignores what it does not understand."""
        found = at(body, 0, "error") if isinstance(body, list) else at(body, "error")
        if found is None:
            found = body
        error = found if isinstance(found, dict) else {"message": found}
        message = error.get("message", error.get("detail"))
        return cls(
            error=error,
            words=frozenset(_words(error)),
            sentence=message[:MAX_SENTENCE].lower() if isinstance(message, str) else "",
        )

    @property
    def code_as_status(self) -> int | None:
        """The code, if it is an HTTP status."""
        code = self.error.get("code")
        if isinstance(code, str) and len(code) == STATUS_DIGITS and code.isdecimal():
            code = int(code)
        return code if isinstance(code, int) and code in HTTP_STATUSES else None

    @property
    def is_moderated(self) -> bool:
        """OpenRouter says that a guardrail blocked the text; sent with the status of a refused key."""
        return any(at(self.error, "metadata", sign) for sign in ("reasons", "flagged_input", "patterns"))

    @property
    def is_of_routed_vendor(self) -> bool:
        """OpenRouter passes on what another vendor answered, and names no limit of its own."""
        metadata = at(self.error, "metadata")
        is_passed_on = isinstance(at(metadata, "provider_name"), str) or at(metadata, "raw") is not None
        return is_passed_on and not text_at(metadata, "limit_source").startswith("openrouter_")

    @property
    def quoted(self) -> Self | None:
        """What the routed vendor answered, if OpenRouter quotes it: JSON, or else a sentence, as one that is long."""
        raw = at(self.error, "metadata", "raw")
        if not isinstance(raw, str):
            return None
        try:
            body = read_json(raw.encode(errors="replace")) if len(raw) <= LONGEST_QUOTED else raw
        except ProviderError:
            body = raw
        return self.of(body)

    @property
    def is_retryable(self) -> bool | None:
        """Whether OpenRouter marks the error as retryable; None if it says nothing about that."""
        mark = at(self.error, "availability", "retryable")
        return mark if isinstance(mark, bool) else None


def _words(error: Mapping[str, Any]) -> Iterator[str]:
    """Every code that names the failure, from all the places where a provider may put one."""
    for name in NAMING_FIELDS:
        yield from _text(error.get(name))
    if (error.get("type"), error.get("param")) == ("invalid_request_error", "model"):
        yield "model_not_found"
    yield from _text(at(error, "availability", "code"))
    yield from _text(at(error, "details", "error_code"))
    metadata = error.get("metadata")
    yield from _text(at(metadata, "error_type"))
    yield from _text(at(metadata, "reason"))
    yield from _text(at(metadata, "limit_source"))
    for detail in list_at(error, "details"):
        yield from _text(at(detail, "reason"))
        # Gemini distinguishes an exhausted daily quota from a per-minute one only by the quota's name.
        if any("PerDay" in text_at(violation, "quotaId") for violation in list_at(detail, "violations")):
            yield "PerDay"


def _text(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
