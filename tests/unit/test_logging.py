"""A line of the log holds names and numbers, never a secret."""

from typing import Any

import pytest

from implementations.observability.logging_setup import MASK, masked


@pytest.mark.parametrize("name", ["api_key", "Authorization", "redis_password", "client_secret", "access_token"])
def test_what_is_called_a_secret_is_masked(name: str) -> None:
    assert masked(None, "info", {name: "x"}) == {name: MASK}


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("key sk-12345678 refused", "sk-12345678"),
        ("AIza123456789", "AIza123456789"),
        ("Bearer abc.def", "abc.def"),
        ("redis://user:hunter2@host:6379", "hunter2"),
        ("redis://:hunter2@host:6379", "hunter2"),
    ],
)
def test_what_looks_like_a_secret_is_masked_inside_a_value(value: str, secret: str) -> None:
    line: dict[str, Any] = dict(masked(None, "info", {"note": value}))
    assert secret not in line["note"]
    assert MASK in line["note"]


def test_plain_facts_stay_readable() -> None:
    facts = {"event": "service_started", "total_tokens": 12, "url": "http://localhost:8080/api"}
    assert masked(None, "info", dict(facts)) == facts
