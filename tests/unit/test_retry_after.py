"""How long a failing provider asks us to wait: every place where it may say so, their order, and any nonsense there."""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from implementations.wire.failures import failure_in_success, failure_of_answer
from implementations.wire.retry_after import LONGEST_S, wait_s
from implementations.wire.vendor_error import VendorError

pytestmark = pytest.mark.untraced

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
NOW_S = NOW.timestamp()
MANY = settings(max_examples=200)

AVAILABILITY = {"availability": {"code": "rate_limited", "retryable": True, "retry_after": 4}}
RETRY_INFO = {
    "details": [
        {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "5.5s"},
    ]
}
SLOTS: list[tuple[dict[str, str], dict[str, Any], float]] = [
    ({"retry-after-ms": "1500"}, {}, 1.5),
    ({"retry-after": "2"}, {}, 2.0),
    ({"retry-after": "Mon, 23 Nov 2026 12:00:03 GMT"}, {}, 3.0),
    ({}, AVAILABILITY, 4.0),
    ({}, RETRY_INFO, 5.5),
    ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, {}, 360.0),
]


def waited(headers: Mapping[str, str], error: Any = None) -> float | None:
    return wait_s(CIMultiDict(headers), VendorError.of({"error": error}), now_s=NOW_S)


@pytest.mark.parametrize(("headers", "error", "expected"), SLOTS)
def test_each_place_is_read(headers: dict[str, str], error: dict[str, Any], expected: float) -> None:
    assert waited(headers, error) == pytest.approx(expected)


@pytest.mark.parametrize("days", [-366, -1, 1, 366])
@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "Mon, 23 Nov 2026 12:00:03 GMT"},
        {"anthropic-ratelimit-requests-reset": "2026-11-23T12:00:03Z"},
    ],
)
def test_a_date_is_as_far_away_as_the_provider_s_clock_says(headers: dict[str, str], days: int) -> None:
    ours_s = NOW_S + days * 86_400.0
    told = CIMultiDict({**headers, "Date": "Mon, 23 Nov 2026 12:00:00 GMT"})
    assert wait_s(told, VendorError.of(None), now_s=ours_s) == pytest.approx(3.0)


@pytest.mark.parametrize("date", ["", "now", "0", "Mon, 99 Nov 2026 12:00:00 GMT"])
def test_where_the_provider_tells_no_time_our_own_clock_counts(date: str) -> None:
    assert waited({"retry-after": "Mon, 23 Nov 2026 12:00:03 GMT", "date": date}) == pytest.approx(3.0)


@pytest.mark.parametrize("first", range(len(SLOTS)))
def test_the_first_place_that_says_something_decides(first: int) -> None:
    """Headers win over the body, the body over resets; seconds and a date share one header, so one of them stands."""
    headers: dict[str, str] = {}
    error: dict[str, Any] = {}
    for more_headers, more_error, _ in reversed(SLOTS[first:]):
        headers |= more_headers
        error |= more_error
    assert waited(headers, error) == pytest.approx(SLOTS[first][2])


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("retry-after", "0", 0.0),
        ("retry-after", "0.25", 0.25),
        ("retry-after", "3600", 3600.0),
        ("retry-after", "-5", 0.0),
        ("retry-after", "1e6", 1e6),
        ("retry-after", "1e300", LONGEST_S),
        ("retry-after", "Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("retry-after", "2026-11-23T12:01:00Z", 60.0),
        ("retry-after", "2026-11-23T13:01:00+01:00", 60.0),
        ("retry-after", "Mon, 23 Nov 99999999999999999999 12:00:03 GMT", None),
        ("retry-after", "soon", None),
        ("retry-after", "", None),
        ("retry-after", "nan", None),
        ("retry-after", "inf", None),
        ("retry-after", "1e999", None),
        ("retry-after-ms", "600", 0.6),
        ("retry-after-ms", "-600", 0.0),
        ("retry-after-ms", "later", None),
        ("Retry-After", "7", 7.0),
    ],
)
def test_a_header_is_read_or_left_out(header: str, value: str, expected: float | None) -> None:
    assert waited({header: value}) == expected


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as local:
        local.setenv("TZ", "UTC-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
@pytest.mark.parametrize(
    "value", ["Mon Nov 23 12:00:30 2026", "Mon, 23 Nov 2026 12:00:30 -0000", "2026-11-23T12:00:30"]
)
def test_a_date_without_a_zone_is_in_utc_wherever_we_are(value: str) -> None:
    assert waited({"retry-after": value}) == 30.0
    assert waited({"anthropic-ratelimit-tokens-reset": value}) == 30.0


def test_what_cannot_be_read_gives_way_to_the_next_place() -> None:
    assert waited({"retry-after-ms": "nan", "retry-after": "soon"}, AVAILABILITY) == 4.0
    for unread in ({"availability": {"retry_after": nothing}} for nothing in (True, 10**400)):
        assert waited({"retry-after": "inf"}, {**unread, **RETRY_INFO}) == 5.5
    assert waited({}, {"metadata": {"retry_after_seconds": 17}}) == 17.0


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        ("12ms", 0.012),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h30m", 5400.0),
        ("1d", 86400.0),
        ("38.123s", 38.123),
        ("2026-11-23T12:00:30Z", 30.0),
        ("2026-11-23T11:00:30Z", 0.0),
        (str(int(NOW_S * 1000) + 2500), 2.5),
        ("6", None),
        ("60", None),
        ("six minutes", None),
        ("6m 0s", None),
        ("-6s", None),
        ("s", None),
        ("", None),
    ],
)
@pytest.mark.parametrize(
    ("remaining_name", "reset_name"),
    [
        ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
        ("X-RateLimit-Remaining", "X-RateLimit-Reset"),
        ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
        ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ],
)
def test_the_reset_of_a_limit_is_read_in_every_vendors_form(
    remaining_name: str, reset_name: str, reset: str, expected: float | None
) -> None:
    assert waited({remaining_name: "0", reset_name: reset}) == pytest.approx(expected)
    assert waited({remaining_name: "1", reset_name: reset}) is None
    assert waited({reset_name: reset}) == pytest.approx(expected)


def test_of_several_used_up_limits_the_last_one_to_be_filled_counts() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m0s",
        "x-ratelimit-remaining-days": "3",
        "x-ratelimit-reset-days": "9h",
        "x-ratelimit-remaining-images": "0",
        "x-ratelimit-reset-images": "soon",
    }
    assert waited(headers) == 60.0


def test_openrouter_names_the_limits_of_free_models_in_the_body_also_of_a_200() -> None:
    told = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{NOW_S * 1000 + 7500:.0f}"}
    body = {"error": {"code": 429, "metadata": {"headers": told}}}
    inside = failure_in_success(body, now_s=NOW_S)
    assert inside
    assert failure_of_answer(429, CIMultiDict(), body, now_s=NOW_S).retry_after_s == inside.retry_after_s == 7.5
    assert waited({}, {"metadata": {"headers": {**told, "X-RateLimit-Remaining": "3"}}}) is None
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    unreadable: tuple[object, ...] = (None, [], *({"X-RateLimit-Reset": value} for value in (None, [1], deep)))
    assert {waited({}, {"metadata": {"headers": headers}}) for headers in unreadable} == {None}


@pytest.mark.parametrize("delay", ["38s", "38.123s"])
def test_gemini_names_its_delay_in_the_only_element_of_a_list(delay: str) -> None:
    body = [{"error": {"code": 429, "details": [{"retryDelay": delay}]}}]
    assert failure_of_answer(429, CIMultiDict(), body, now_s=NOW_S).retry_after_s == float(delay.rstrip("s"))


@MANY
@given(seconds=st.floats(min_value=0, max_value=LONGEST_S))
def test_any_number_of_seconds_is_taken_as_it_is(seconds: float) -> None:
    assert waited({"retry-after": str(seconds)}) == seconds
    assert waited({}, {"availability": {"retry_after": seconds}}) == seconds


@MANY
@given(moment=st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  the strategy wants naive bounds
def test_any_date_is_the_time_until_then(moment: datetime) -> None:
    second = moment.replace(microsecond=0)
    until = min(max(0.0, second.timestamp() - NOW_S), LONGEST_S)
    for text in (format_datetime(second, usegmt=True), second.isoformat(), second.isoformat().replace("+00:00", "Z")):
        assert waited({"retry-after": text}) == until


FORMS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="0123456789.:-+TZeE_ msdhnaif,GMT", max_size=40),
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.datetimes().map(format_datetime),
    st.from_regex(r"\A(?:[0-9]{1,20}(?:\.[0-9]{1,20})?(?:ms|s|m|h|d)){1,3}\Z"),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(min_value=-(10**400), max_value=10**400) | FORMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FORMS, inner, max_size=3),
    max_leaves=5,
)
HEADERS = (
    *("date", "retry-after-ms", "retry-after", "x-ratelimit-remaining", "x-ratelimit-reset"),
    *("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
)


@MANY
@given(
    headers=st.dictionaries(st.sampled_from(HEADERS), st.just("0") | FORMS),
    error=VALUES
    | st.fixed_dictionaries(
        {},
        optional={
            "availability": VALUES | st.fixed_dictionaries({"retry_after": VALUES}),
            "details": VALUES | st.lists(st.fixed_dictionaries({"retryDelay": VALUES})),
        },
    ),
    status=st.sampled_from([429, 503]),
)
def test_nothing_that_a_provider_sends_raises_or_makes_a_wait_that_cannot_be_waited(
    headers: dict[str, str], error: Any, status: int
) -> None:
    wait = failure_of_answer(status, CIMultiDict(headers), {"error": error}, now_s=NOW_S).retry_after_s
    assert wait is None or 0 <= wait <= LONGEST_S
    assert json.dumps(wait)
