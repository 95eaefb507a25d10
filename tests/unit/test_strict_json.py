"""A body is bounded before it is parsed, and the bound refuses nothing that the exact count would let through."""

import random
from typing import Any

import orjson
import pytest

from api import strict_json
from api.strict_json import MAX_VALUES, parse_object
from exceptions import InvalidQueryError

MANY = MAX_VALUES + 1
SCRAPS = ['"', "\\", '\\"', ",", "[", "{", "]", "}", ":", "é", "🙂", "\n", "\\\\", "plain", ""]


def values_in(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(values_in(member) for member in value.values())
    return len(value) + sum(map(values_in, value)) if isinstance(value, list) else 0


def text(draw: random.Random) -> str:
    return "".join(draw.choices(SCRAPS, k=draw.randrange(6)))


def drawn(draw: random.Random, depth: int) -> Any:
    match draw.randrange(4 if depth else 2):
        case 0:
            return text(draw)
        case 1:
            return draw.choice([0, -1.5, True, None])
        case 2:
            return [drawn(draw, depth - 1) for _ in range(draw.randrange(5))]
        case _:
            return {text(draw): drawn(draw, depth - 1) for _ in range(draw.randrange(5))}


@pytest.mark.parametrize("seed", range(300))
def test_a_body_with_as_many_values_as_allowed_is_read(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    body = {text(draw): drawn(draw, 5) for _ in range(draw.randrange(1, 8))}
    monkeypatch.setattr(strict_json, "MAX_VALUES", values_in(body))
    for written in (orjson.dumps(body), orjson.dumps(body, option=orjson.OPT_INDENT_2)):
        assert parse_object(written) == body


def test_an_essay_may_be_made_of_punctuation_alone() -> None:
    body = {"essay_a": ",[{" * 100_000, "essay_b": '"\\' * 100_000}
    assert parse_object(orjson.dumps(body)) == body


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(",".join(f'"{number:x}\\\\":0' for number in range(2 * MANY)), id="keys that end in a backslash"),
        pytest.param(",".join(f'"{number}":"{number}"' for number in range(MANY)), id="keys with texts"),
        pytest.param('"a":[' + ",".join(["0"] * (MANY + 1)) + "]", id="numbers"),
        pytest.param('"a":[' + ",".join(["[]"] * (MANY + 1)) + "]", id="empty lists"),
        pytest.param('"a":[' + ",".join(["[" * 500 + "]" * 500] * 50) + "]", id="few deep lists"),
        pytest.param('"a":[' + ",".join(['{"b":' * 500 + "0" + "}" * 500] * 50) + "]", id="few deep objects"),
    ],
)
def test_too_many_values_are_refused_before_they_are_built(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: bytes) -> object:
        pytest.fail("the body was parsed")

    monkeypatch.setattr(orjson, "loads", never)
    with pytest.raises(InvalidQueryError) as refusal:
        parse_object(f"{{{body}}}".encode())
    assert refusal.value.details == "the body contains more than 20000 values"


def test_what_the_bound_lets_through_is_counted_exactly() -> None:
    pairs = ",".join(["[0,0]"] * (MAX_VALUES // 2))
    with pytest.raises(InvalidQueryError, match="more than 20000 values"):
        parse_object(f'{{"a":[{pairs}]}}'.encode())
