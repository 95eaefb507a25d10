"""Foreign JSON: read strictly as a whole, tolerantly in its parts; token counts: sane, or unknown and never zero."""

import json
from contextlib import suppress
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_models import UNKNOWN_USAGE, Usage
from exceptions import BrokenReplyError, InvalidReplyError, ProviderError, UnreadableReplyError
from implementations.wire.json_reading import MOST_VALUES, at, list_at, read_json, read_object, text_at
from implementations.wire.usage import MOST_TOKENS, read_usage
from implementations.wire.vendor_error import VendorError

pytestmark = pytest.mark.untraced

MANY = settings(max_examples=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1}',
        b' \r\n\t{"a": 1}\n\n',
        b': OPENROUTER PROCESSING\n\n{"a": 1}',
        b' \n: OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\r\n  {"a": 1}',
        b'\xef\xbb\xbf{"a": 1}',
        b'\xef\xbb\xbf: OPENROUTER PROCESSING\n\n{"a": 1}',
    ],
)
def test_an_object_is_read_behind_a_byte_order_mark_and_whatever_keeps_the_connection_alive(body: bytes) -> None:
    assert read_object(body) == {"a": 1}


@pytest.mark.parametrize("value", [b"[]", b"{}", b"1", b'""'])
def test_more_values_than_an_answer_can_need_are_not_parsed(value: bytes) -> None:
    def listing(count: int) -> bytes:
        return b'{"a": [' + b",".join([value] * count) + b"]}"

    assert len(read_object(listing(MOST_VALUES // 2 - 1))["a"]) == MOST_VALUES // 2 - 1
    with pytest.raises(UnreadableReplyError):
        read_json(listing(MOST_VALUES))


def test_a_long_text_is_one_value() -> None:
    assert read_object(b'{"a": "' + b"x" * 2 * MOST_VALUES + b'"}') == {"a": "x" * 2 * MOST_VALUES}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n ",
        b": OPENROUTER PROCESSING",
        b": OPENROUTER PROCESSING\n\n",
        b"<html></html>",
        b'{"a": 1',
        b'{"a": 1}}',
        b'{"a": 1}{"a": 1}',
        b'{"a": 1} : OPENROUTER PROCESSING',
        b"{'a': 1}",
        b'\xef\xbb\xbf\xef\xbb\xbf{"a": 1}',
        b' \xef\xbb\xbf{"a": 1}',
        b"\xef\xbb\xbf",
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\x00"}',
        b'{"a": NaN}',
        b'{"a": 1}\x00',
        b'{"a": ' + b"1" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=lambda body: ascii(body[:30]),
)
def test_what_is_not_json_is_broken(body: bytes) -> None:
    with pytest.raises(BrokenReplyError):
        read_object(body)


@pytest.mark.parametrize("body", [b"[1, 2]", b"null", b'"x"', b"7", b"true", b'[{"a": 1}]'])
def test_json_that_is_no_object_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidReplyError):
        read_object(body)
    read_json(body)


@pytest.mark.parametrize(
    "body",
    [b'{"a": 1, "a": 1}', b'{"b": {"a": 1, "a": 2}}', b'[{"a": 1, "a": null}]', b'{"a": 1, "\\u0061": 2}'],
)
def test_a_key_that_stands_twice_is_invalid_at_any_depth(body: bytes) -> None:
    with pytest.raises(InvalidReplyError):
        read_json(body)


def test_no_failure_shows_what_was_read() -> None:
    for body in (b"essay {", b'["essay"]', b'{"essay": 1, "essay": 2}'):
        with pytest.raises(ProviderError) as failure:
            read_object(body)
        assert "essay" not in f"{failure.value!r}"
        assert failure.value.__suppress_context__ or failure.value.__context__ is None


@MANY
@given(value=JSON)
def test_every_json_value_is_read_as_it_was_written(value: Any) -> None:
    assert read_json(json.dumps(value).encode()) == value
    assert read_json(json.dumps(value, indent=1).encode()) == value


@MANY
@given(body=st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0d8 \n1e-.', max_size=60).map(str.encode))
def test_bytes_are_an_object_or_one_of_our_failures(body: bytes) -> None:
    with suppress(BrokenReplyError, InvalidReplyError):
        assert isinstance(read_object(body), dict)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ((), {"a": [{"b": "text"}, 7], "c": None}),
        (("a", 0, "b"), "text"),
        (("a", 1), 7),
        (("a", 2), None),
        (("a", "b"), None),
        ((0,), None),
        (("c", "d", 0), None),
        (("a", 0, "b", 0), None),
        (("nothing",), None),
    ],
)
def test_a_path_leads_to_a_value_or_to_none(path: tuple[str | int, ...], found: object) -> None:
    assert at({"a": [{"b": "text"}, 7], "c": None}, *path) == found


@MANY
@given(value=JSON, path=st.lists(st.text(max_size=3) | st.integers(0, 3), max_size=4))
def test_looking_something_up_never_fails(value: Any, path: list[str | int]) -> None:
    assert isinstance(text_at(value, *path), str)
    assert isinstance(list_at(value, *path), list)
    assert isinstance(VendorError.of(value).sentence, str)


def test_what_has_another_type_is_as_good_as_absent() -> None:
    value = {"text": "t", "list": [1], "number": 1}
    assert (text_at(value, "text"), text_at(value, "list"), text_at(value, "number"), text_at(value, "no")) == (
        "t",
        "",
        "",
        "",
    )
    assert (list_at(value, "list"), list_at(value, "text"), list_at(value, "no")) == ([1], [], [])


# --- Token counts -----------------------------------------------------------------------------------------------------


def test_what_is_billed_apart_is_added_up() -> None:
    found = read_usage(prompt=(1200, 700, 3000), completion=(200, 500), cached=3000, written=700, reasoning=500)
    assert found == Usage(prompt=4900, completion=700, cached=3000, written=700, reasoning=500)


def test_an_absent_count_is_nothing_and_absent_counts_are_unknown() -> None:
    assert read_usage(prompt=(10, None), completion=(None,)) == Usage(prompt=10, completion=0)
    assert read_usage(prompt=(10,), completion=(5,)) == Usage(prompt=10, completion=5)
    assert read_usage(prompt=(None,), completion=(None,)) == UNKNOWN_USAGE


def test_more_reasoning_than_output_is_all_of_the_output() -> None:
    assert read_usage(prompt=(10,), completion=(5,), reasoning=9).reasoning == 5


@pytest.mark.parametrize("wrong", [-1, 1.0, 1.5, inf, "7", "", True, [], [7], {}, {"a": 1}, MOST_TOKENS + 1, 10**400])
@pytest.mark.parametrize("place", ["prompt", "completion", "cached", "written", "written_for_long", "reasoning"])
def test_one_wrong_count_makes_all_of_them_unknown(place: str, wrong: object) -> None:
    caches = {"cached": 100, "written": 100, "written_for_long": 50}
    counts: dict[str, Any] = {"prompt": (1000, 5), "completion": (50,), **caches, "reasoning": 10}
    assert read_usage(**counts) != UNKNOWN_USAGE
    counts[place] = (5, wrong) if place in {"prompt", "completion"} else wrong
    assert read_usage(**counts) == UNKNOWN_USAGE


@pytest.mark.parametrize(("cached", "written"), [(101, 0), (0, 101), (60, 41)])
def test_more_in_the_cache_than_in_the_prompt_is_unknown(cached: int, written: int) -> None:
    assert read_usage(prompt=(100,), completion=(1,), cached=cached, written=written) == UNKNOWN_USAGE
    assert read_usage(prompt=(101,), completion=(1,), cached=cached, written=written) != UNKNOWN_USAGE


def test_more_kept_for_long_than_kept_at_all_is_unknown() -> None:
    assert read_usage(prompt=(100,), completion=(1,), written=5, written_for_long=6) == UNKNOWN_USAGE
    assert read_usage(prompt=(100,), completion=(1,), written=5, written_for_long=5).written_for_long == 5
