"""What is asked: the example of this repository, as bytes of HTTP that are ready to be sent."""

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import orjson

COMPARISON_PATH = "/api/v1/comparison"
EXAMPLE = Path("examples/comparison.json")
MARK, DIGITS = "NUMBER-OF-THE-QUESTION", 12


def comparison(*, headers: Mapping[str, str], provider: str | None, is_new: bool) -> Callable[[], bytes]:
    """Makes comparison requests: one and the same again and again, or each with an essay that nobody has seen."""
    question = orjson.loads(EXAMPLE.read_bytes())
    question["essay_b"] += MARK
    if provider is not None:
        question["llm_config_overrides"] = {"provider_override": provider}
    wire = posted(COMPARISON_PATH, orjson.dumps(question), headers, growth=DIGITS - len(MARK))
    before, after = wire.split(MARK.encode())
    if not is_new:
        same = before + b"0" * DIGITS + after
        return lambda: same
    numbers = count()
    return lambda: b"%b%012d%b" % (before, next(numbers), after)


def posted(path: str, body: bytes, headers: Mapping[str, str], *, growth: int = 0) -> bytes:
    """A POST. growth: how much longer the body will be when a mark in it is replaced."""
    fields = {
        "Host": "localhost",
        "Content-Type": "application/json",
        "Content-Length": str(len(body) + growth),
        **headers,
    }
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
