"""What is remembered of the last answers and errors, and for how long."""

from uuid import UUID, uuid4

import pytest

from api_models import ErrorCode, ProviderName
from exceptions import InvalidQueryError, NoUsableProviderError, ProviderTimeoutError, ServiceError
from implementations.history_impl import MOST_ANSWERS, MOST_FAILURES, WINDOW_S, HistoryImpl
from tests.fakes import CORRELATION_ID, NOON, Calendar, Clock

PRIVATE = "kanarienvogel"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def history(clock: Clock, calendar: Calendar) -> HistoryImpl:
    return HistoryImpl(clock=clock, now=calendar)


def fail(history: HistoryImpl, failure: ServiceError, correlation_id: UUID = CORRELATION_ID) -> None:
    history.failed(failure, correlation_id=correlation_id)


def test_it_begins_when_it_is_built(history: HistoryImpl, clock: Clock) -> None:
    clock.advance(90.0)
    assert (history.began_at, history.uptime_s) == (NOON, 90.0)


def test_without_answers_there_is_no_latency(history: HistoryImpl) -> None:
    latency = history.latency()
    assert (latency.answers, latency.median_ms, latency.p95_ms, latency.slowest_ms) == (0, None, None, None)


def test_the_latency_is_one_of_the_measured_times(history: HistoryImpl) -> None:
    for hundredths in range(100, 0, -1):
        history.answered(hundredths / 100)
    latency = history.latency()
    assert (latency.answers, latency.median_ms, latency.p95_ms, latency.slowest_ms) == (100, 500.0, 950.0, 1000.0)


def test_the_latency_forgets_what_is_older_than_its_window(history: HistoryImpl, clock: Clock) -> None:
    history.answered(9.0)
    clock.advance(WINDOW_S / 2)
    history.answered(1.0)
    clock.advance(WINDOW_S / 2 + 1)
    assert (history.latency().answers, history.latency().slowest_ms) == (1, 1000.0)
    clock.advance(WINDOW_S)
    assert history.latency().answers == 0


def test_a_failure_is_kept_with_what_its_class_says_and_without_its_details(
    history: HistoryImpl, calendar: Calendar
) -> None:
    calendar.move(minutes=5)
    fail(history, ProviderTimeoutError(PRIVATE, provider=ProviderName.OPENAI))
    (kept,) = history.failures()
    assert (kept.at, kept.error_type, kept.status) == (calendar.now, ErrorCode.TIMEOUT, 504)
    assert (kept.error, kept.provider) == (ProviderTimeoutError.sentence, ProviderName.OPENAI)
    assert kept.correlation_id == CORRELATION_ID
    assert PRIVATE not in repr(kept)


def test_the_newest_failures_come_first_and_the_oldest_go(history: HistoryImpl) -> None:
    ids = [uuid4() for _ in range(MOST_FAILURES + 3)]
    for one in ids:
        fail(history, NoUsableProviderError("none"), one)
    assert [kept.correlation_id for kept in history.failures()] == ids[:2:-1]
    assert history.failures_by_code() == {ErrorCode.CONFIGURATION_ERROR: MOST_FAILURES + 3}


def test_failures_are_counted_by_code_the_most_frequent_first(history: HistoryImpl) -> None:
    fail(history, NoUsableProviderError("none"))
    for _ in range(2):
        fail(history, InvalidQueryError("which field"))
    assert list(history.failures_by_code().items()) == [
        (ErrorCode.VALIDATION_ERROR, 2),
        (ErrorCode.CONFIGURATION_ERROR, 1),
    ]


def test_memory_is_bounded_whatever_comes(history: HistoryImpl) -> None:
    for _ in range(MOST_ANSWERS + 1):
        history.answered(0.1)
    assert history.latency().answers == MOST_ANSWERS
