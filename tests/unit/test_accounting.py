"""The books: what every attempt cost, how it ended, and on which day."""

from datetime import UTC, datetime, timedelta

import pytest

from api_models import AttemptOutcome, ProviderName
from implementations.accounting.ledger import Ledger
from implementations.accounting_impl import NEWEST_WEIGHT
from protocols import ProviderActivity
from tests.fakes import (
    KNOWN_MODEL,
    NOON,
    REAL_PROVIDERS,
    Calendar,
    Clock,
    FixedPrices,
    booked_today,
    books,
    new_metrics,
    reply,
    request,
    sample,
)

ANTHROPIC, OPENAI, MOCK = ProviderName.ANTHROPIC, ProviderName.OPENAI, ProviderName.MOCK
LATE = datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC)
FAILURES = tuple(outcome for outcome in AttemptOutcome if outcome is not AttemptOutcome.SUCCESS)


class Office:
    """The books with a calendar and metrics of their own."""

    def __init__(self, now: datetime = NOON) -> None:
        self.calendar, self.clock = Calendar(now), Clock()
        self.metrics = new_metrics()
        self.ledger = Ledger(now=self.calendar)
        self.accounting = books(
            FixedPrices(), metrics=self.metrics, now=self.calendar, clock=self.clock, ledger=self.ledger
        )

    def buy(self, elapsed_s: float = 1.0, *, provider: ProviderName = ANTHROPIC, cost_usd: float | None = 0.25) -> None:
        self.accounting.started(request(provider=provider))
        self.accounting.succeeded(
            request(provider=provider), reply(provider=provider, cost_usd=cost_usd), elapsed_s=elapsed_s
        )

    def fail(self, outcome: AttemptOutcome) -> None:
        self.accounting.started(request())
        self.accounting.failed(request(), outcome, 1.0, None)

    @property
    def activity(self) -> ProviderActivity:
        return self.accounting.activity(ANTHROPIC)

    def today(self, provider: ProviderName = ANTHROPIC) -> tuple[int, float]:
        """Attempts and dollars."""
        booked = booked_today(self.ledger, provider)
        return booked.requests, booked.cost_usd

    def in_flight(self) -> float | None:
        return sample(self.metrics, "llm_provider_concurrent_requests", provider=ANTHROPIC)

    def unknown(self, provider: ProviderName) -> float | None:
        return sample(self.metrics, "llm_provider_cost_unknown_total", provider=provider)


def test_a_provider_that_was_never_asked_has_an_empty_book() -> None:
    assert Office().activity == ProviderActivity()


def test_an_attempt_is_in_flight_until_it_ends_however_it_ends() -> None:
    office = Office()
    for _ in range(3):
        office.accounting.started(request())
    assert (office.activity.in_flight, office.in_flight()) == (3, 3.0)
    office.accounting.succeeded(request(), reply(), 1.0)
    office.accounting.failed(request(), AttemptOutcome.TIMEOUT, 1.0, None)
    assert (office.activity.in_flight, office.in_flight()) == (1, 1.0)
    office.accounting.failed(request(), AttemptOutcome.CANCELLED, 1.0, None)

    assert (office.activity.in_flight, office.in_flight()) == (0, 0.0)
    assert office.today() == (3, 0.25)


def test_purchases_are_counted_with_their_cost_their_tokens_and_their_moment() -> None:
    office = Office()
    office.buy(cost_usd=0.25)
    office.calendar.move(minutes=5)
    office.buy(cost_usd=0.5)

    assert office.today() == (2, 0.75)
    assert office.activity.last_success == NOON + timedelta(minutes=5)
    assert (office.activity.failure_count, office.activity.last_failure) == (0, None)
    labels = {"provider": ANTHROPIC, "model": KNOWN_MODEL}
    assert sample(office.metrics, "llm_provider_cost_dollars_total", **labels) == 0.75
    for token_type, tokens in (("prompt", 200.0), ("completion", 40.0), ("cached_prompt", 20.0)):
        assert sample(office.metrics, "llm_provider_tokens_used_total", **labels, token_type=token_type) == tokens


def test_models_that_callers_make_up_share_one_row() -> None:
    office, known = Office(), request()
    for number in range(100):
        made_up = request(model=f"made-up-{number}")
        office.accounting.started(made_up)
        office.accounting.failed(made_up, AttemptOutcome.UNKNOWN_MODEL, 1.0, None)
    office.accounting.started(known)
    office.accounting.succeeded(known, reply(), 1.0)
    office.accounting.saved(request(model="made-up-0"), reply())
    today = office.ledger.today

    rows = {
        model: (row.requests, row.failures, row.cache_hits)
        for (_, model), row in office.ledger.rows(today, today).items()
    }
    assert rows == {"other": (100, 100, 1), KNOWN_MODEL: (1, 0, 0)}


def test_providers_have_separate_books() -> None:
    office = Office()
    office.buy(provider=ANTHROPIC, cost_usd=0.25)
    office.buy(provider=OPENAI, cost_usd=1.0)

    assert office.today(ANTHROPIC) == (1, 0.25)
    assert office.today(OPENAI) == (1, 1.0)


@pytest.mark.parametrize("outcome", [outcome for outcome in FAILURES if outcome is not AttemptOutcome.CANCELLED])
def test_a_failure_is_counted_and_dated_and_leaves_average_and_success_alone(outcome: AttemptOutcome) -> None:
    office = Office()
    office.fail(outcome)

    assert office.activity == ProviderActivity(failure_count=1, last_failure=NOON, last_heard_s=office.clock())
    assert office.today() == (1, 0.0)


def test_a_cancelled_attempt_is_no_failure_of_the_provider() -> None:
    office = Office()
    office.fail(AttemptOutcome.CANCELLED)

    assert office.activity == ProviderActivity()
    assert office.today() == (1, 0.0)


@pytest.mark.parametrize("outcome", FAILURES)
def test_every_attempt_that_failed_is_measured_under_its_outcome(outcome: AttemptOutcome) -> None:
    office = Office()
    office.fail(outcome)
    labels = {"provider": ANTHROPIC, "model": KNOWN_MODEL, "outcome": outcome}

    assert sample(office.metrics, "llm_provider_upstream_attempts_total", **labels) == 1.0


def test_the_average_starts_at_the_first_time_and_leans_towards_the_newest() -> None:
    office = Office()
    office.buy(2.0)
    assert office.activity.average_response_s == 2.0
    office.buy(12.0)
    assert office.activity.average_response_s == pytest.approx(2.0 + NEWEST_WEIGHT * 10.0)
    for _ in range(100):
        office.buy(12.0)

    assert office.activity.average_response_s == pytest.approx(12.0)


@pytest.mark.parametrize("provider", REAL_PROVIDERS)
def test_a_price_that_nobody_knows_is_unknown_and_never_zero(provider: ProviderName) -> None:
    office = Office()
    office.accounting.started(request(provider=provider))
    priced = office.accounting.succeeded(request(provider=provider), reply(provider=provider, cost_usd=None), 1.0)

    assert priced == reply(provider=provider, cost_usd=None)
    assert office.unknown(provider) == 1.0
    labels = {"provider": provider, "model": KNOWN_MODEL}
    assert sample(office.metrics, "llm_provider_cost_dollars_total", **labels) is None
    assert office.today(provider) == (1, 0.0)


def test_the_provider_s_own_figure_is_the_price() -> None:
    office = Office()
    office.accounting.started(request())

    assert office.accounting.succeeded(request(), reply(cost_usd=0.125), 1.0).purchase.cost_usd == 0.125
    assert office.unknown(ANTHROPIC) == 0.0


def test_a_new_day_starts_with_no_requests_and_no_cost_and_keeps_the_rest() -> None:
    office = Office(LATE)
    office.buy(3.0)
    office.fail(AttemptOutcome.UNAVAILABLE)
    office.calendar.move(seconds=1)

    assert office.activity == ProviderActivity(
        failure_count=1,
        last_success=LATE,
        last_failure=LATE,
        last_heard_s=office.clock(),
        average_response_s=3.0,
    )
    assert office.today() == (0, 0.0)


def test_a_wall_clock_that_is_set_back_does_not_reopen_yesterday() -> None:
    office = Office(LATE)
    office.calendar.move(seconds=2)
    office.buy(cost_usd=0.25)
    office.calendar.move(seconds=-2)
    office.buy(cost_usd=0.5)
    assert office.today() == (2, 0.75)
    office.calendar.move(seconds=2)

    assert office.today() == (2, 0.75)


def test_a_purchase_that_ends_after_midnight_belongs_to_the_new_day() -> None:
    office = Office(LATE)
    office.buy(cost_usd=0.25)
    office.accounting.started(request())
    office.calendar.move(seconds=2)
    office.accounting.succeeded(request(), reply(cost_usd=0.5), 2.0)

    assert office.today() == (0, 0.5)
    assert office.activity.in_flight == 0


def test_an_attempt_under_way_at_midnight_stays_in_flight() -> None:
    office = Office(LATE)
    office.accounting.started(request())
    office.calendar.move(seconds=2)

    assert office.activity.in_flight == 1
    assert office.today() == (0, 0.0)
