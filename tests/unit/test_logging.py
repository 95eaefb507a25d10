"""A line of the log holds names and numbers, never a secret."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implementations.observability.logging_setup import MASK, _json_line, mask_secrets


@pytest.mark.parametrize("name", ["api_key", "Authorization", "redis_password", "client_secret", "access_token"])
def test_what_is_called_a_secret_is_masked(name: str) -> None:
    assert mask_secrets(None, "info", {name: "x"}) == {name: MASK}


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("key sk-12345678 refused", "sk-12345678"),
        ("key=sk-12345678,_sk-abcdefgh", "12345678"),
        ("key=sk-12345678,_sk-abcdefgh", "abcdefgh"),
        (f"key%3Dsk-ant-api03-{'x' * 40}", "sk-ant"),
        ("AIza123456789", "AIza123456789"),
        (f"key=AQ.Ab8{'x' * 47}", "Ab8"),
        ("Bearer abc.def", "abc.def"),
        ("redis://user:hunter2@host:6379", "hunter2"),
        ("redis://:hunter2@host:6379", "hunter2"),
    ],
)
def test_what_looks_like_a_secret_is_masked_inside_a_value(value: str, secret: str) -> None:
    line: dict[str, Any] = dict(mask_secrets(None, "info", {"note": value}))
    assert secret not in line["note"]
    assert MASK in line["note"]


def test_plain_facts_stay_readable() -> None:
    facts = {
        "event": "service_started",
        "total_tokens": 12,
        "url": "http://localhost:8080/api",
        "caller": "helpdesk-frontend",
        "model": "risk-assessment-7b",
        "note": "see the FAQ.",
    }
    assert mask_secrets(None, "info", dict(facts)) == facts


SHARDS = (
    "sk-",
    "SK-",
    "llmp_",
    "AIza",
    f"AQ.{'x' * 40}",
    "Bearer ",
    "://",
    "user",
    ":",
    "@",
    "hunter2",
    "12345678",
    "é",
    '"',
    "\\",
    "\n",
    " ",
)
NAMES = (
    "note",
    "api_key",
    "Authorization",
    "redis_password",
    "client_secret",
    "access_token",
    "tokens",
    'a"token',
    "SECRET",
)
TEXTS = st.lists(st.sampled_from(SHARDS), max_size=6).map("".join)
VALUES = st.recursive(
    TEXTS | st.integers(-9, 9) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
def test_a_line_that_is_looked_through_as_a_whole_hides_what_looking_at_each_value_does(event: dict[str, Any]) -> None:
    assert json.loads(_json_line(None, "info", dict(event))) == json.loads(
        orjson.dumps(mask_secrets(None, "info", event))
    )
