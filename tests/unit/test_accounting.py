"""The books: what was tried, how it ended, what it cost, and when a day begins."""

from datetime import UTC, datetime, timedelta

import pytest

from api_models import AttemptOutcome, ProviderName
from implementations.accounting_impl import AccountingImpl
from tests.fakes import new_metrics, reply, request

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Books:
    """Accounting with a calendar that the test turns."""

    def __init__(self) -> None:
        self.now = NOON
        self.metrics = new_metrics()
        self.accounting = AccountingImpl(metrics=self.metrics, now=lambda: self.now)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def test_a_purchase_is_counted_priced_and_remembered() -> None:
    books, asked = Books(), request()
    books.accounting.started(asked)
    assert books.accounting.activity(asked.provider).in_flight == 1
    priced = books.accounting.succeeded(asked, reply(cost_usd=0.25), 2.0)
    known = books.accounting.activity(asked.provider)
    assert priced.cost_usd == 0.25
    assert (known.in_flight, known.requests_today, known.failure_count) == (0, 1, 0)
    assert (known.last_success, known.last_failure, known.average_response_s) == (NOON, None, 2.0)
    assert known.cost_today_usd == 0.25


def test_an_unknown_price_is_unknown_and_counted_and_never_nothing() -> None:
    books, asked = Books(), request()
    books.accounting.started(asked)
    assert books.accounting.succeeded(asked, reply(cost_usd=None), 1.0).cost_usd is None
    assert books.sample("llm_provider_cost_unknown_total", provider=asked.provider) == 1


def test_the_mock_is_free() -> None:
    books, asked = Books(), request(provider=ProviderName.MOCK)
    books.accounting.started(asked)
    assert books.accounting.succeeded(asked, reply(provider=ProviderName.MOCK, cost_usd=None), 1.0).cost_usd == 0.0


@pytest.mark.parametrize(("outcome", "failures"), [(AttemptOutcome.TIMEOUT, 1), (AttemptOutcome.CANCELLED, 0)])
def test_a_failure_counts_against_the_provider_and_a_cancellation_does_not(
    outcome: AttemptOutcome, failures: int
) -> None:
    books, asked = Books(), request()
    books.accounting.started(asked)
    books.accounting.failed(asked, outcome, 1.0)
    known = books.accounting.activity(asked.provider)
    assert (known.in_flight, known.failure_count) == (0, failures)
    assert (known.last_failure is None) == (failures == 0)


def test_the_average_follows_the_newest_answers() -> None:
    books, asked = Books(), request()
    for elapsed_s in (1.0, 2.0):
        books.accounting.started(asked)
        books.accounting.succeeded(asked, reply(), elapsed_s)
    assert books.accounting.activity(asked.provider).average_response_s == pytest.approx(1.2)


def test_a_day_begins_at_midnight_and_never_again() -> None:
    books, asked = Books(), request()
    books.accounting.started(asked)
    books.now = NOON + timedelta(days=1)
    books.accounting.succeeded(asked, reply(cost_usd=0.5), 1.0)
    assert books.accounting.activity(asked.provider).cost_today_usd == 0.5
    books.now = NOON - timedelta(days=400)
    known = books.accounting.activity(asked.provider)
    assert (known.requests_today, known.cost_today_usd) == (0, 0.5)
