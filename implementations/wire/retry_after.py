"""How long a failing provider asks us to back off, from all the places where it may say so. Read on errors only.

Order: `retry-after-ms`, `retry-after` (seconds or an HTTP date), the body (OpenRouter's availability or metadata,
Gemini's RetryInfo), the latest rate limit reset, of the exhausted limits if any are known.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

from implementations.wire.json_reading import MOST_ITEMS, at, list_at
from implementations.wire.vendor_error import VendorError

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_S = 31 * 86_400.0  # until a monthly quota is filled again
LONGEST_TEXT = 100  # of a duration, a date, the name of a limit
EPOCH_MS = 10**11  # an OpenRouter reset beyond this is epoch milliseconds
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|s|m|h|d)")
_DURATION = re.compile(f"(?:{_PART.pattern})+")
_RESET = re.compile(r"^(anthropic-|x-)ratelimit-((?:[a-z]+-)*)reset((?:-[a-z]+)*)$")


def wait_s(headers: Mapping[str, str], error_body: VendorError, *, now_s: float) -> float | None:
    """Seconds, from 0 to LONGEST_S; None if not given.

    The reference for dates is the provider's own clock, if it tells the time, else now_s, in epoch seconds: ours may be
    wrong by any amount.
    """
    sent_s = _seconds_until(headers.get("date"), 0.0)
    for wait in _waits(headers, error_body, now_s if sent_s is None else sent_s):
        if wait is not None and isfinite(wait):
            return min(max(0.0, wait), LONGEST_S)
    return None


def _waits(headers: Mapping[str, str], error_body: VendorError, now_s: float) -> Iterator[float | None]:
    milliseconds = _number(headers.get("retry-after-ms"))
    yield None if milliseconds is None else milliseconds / 1000
    after = headers.get("retry-after")
    yield _number(after)
    yield _seconds_until(after, now_s)
    yield _number(at(error_body.error, "availability", "retry_after"))
    yield _number(at(error_body.error, "metadata", "retry_after_seconds"))
    for detail in list_at(error_body.error, "details"):
        yield _duration_s(at(detail, "retryDelay"))
    resets = [*_resets(headers, now_s), *_resets(_repeated_headers(error_body), now_s)]
    used_up = [wait for wait, remaining in resets if remaining == 0]
    yield max(used_up or [wait for wait, remaining in resets if remaining is None], default=None)


def _repeated_headers(error_body: VendorError) -> Mapping[str, str]:
    """OpenRouter writes the limits of free models into the body, with or without the same headers."""
    headers = at(error_body.error, "metadata", "headers")
    named = headers.items() if isinstance(headers, dict) and len(headers) <= MOST_ITEMS else ()
    return {name.lower(): value for name, value in named if isinstance(value, str)}


def _resets(headers: Mapping[str, str], now_s: float) -> Iterator[tuple[float, float | None]]:
    """For each limit, the wait until its reset and what remains of it, None if unknown."""
    for name, reset in headers.items():
        limit = _RESET.match(name.lower()) if max(len(name), len(reset)) <= LONGEST_TEXT else None
        if limit is None:
            continue
        vendor, before, after = limit.groups()
        remaining = headers.get(f"{vendor}ratelimit-{before}remaining{after}")
        wait = _duration_s(reset)
        wait = _epoch_wait(reset, now_s) if wait is None else wait
        wait = _seconds_until(reset, now_s) if wait is None else wait
        if wait is not None:
            yield wait, _number(remaining)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _duration_s(value: object) -> float | None:
    """`38s`, `38.123s`, `12ms`, `6m0s`."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not _DURATION.fullmatch(value):
        return None
    return sum(float(number) * UNITS_S[unit] for number, unit in _PART.findall(value))


def _epoch_wait(value: object, now_s: float) -> float | None:
    moment = _number(value)
    return moment / 1000 - now_s if moment is not None and moment > EPOCH_MS else None


def _seconds_until(value: str | None, now_s: float) -> float | None:
    """An HTTP date or an RFC 3339 one; without a zone it is in UTC, as RFC 9110 has it."""
    if value is None:
        return None
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s
        except (ValueError, OverflowError):
            continue
    return None
