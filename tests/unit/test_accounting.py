"""The books: what every attempt cost, how it ended, and on which day."""

from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pytest

from api_models import AttemptOutcome, ProviderName
from implementations.accounting.ledger import Ledger
from implementations.accounting_impl import NEWEST_WEIGHT
from protocols import ProviderActivity, UsageTotals
from tests.fakes import (
    KNOWN_MODEL,
    NOON,
    REAL_PROVIDERS,
    Calendar,
    Clock,
    FixedPrices,
    accounting_of,
    booked_today,
    new_metrics,
    reply,
    request,
    sample,
)

ANTHROPIC, OPENAI, MOCK = ProviderName.ANTHROPIC, ProviderName.OPENAI, ProviderName.MOCK
LATE = datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC)
GIVEN_UP = [AttemptOutcome.CANCELLED, AttemptOutcome.CUT_SHORT]
FAILURES = [one for one in AttemptOutcome if one not in {AttemptOutcome.SUCCESS, *GIVEN_UP}]


class Harness:
    """The accounting with a calendar, a ledger and metrics of its own."""

    def __init__(self, now: datetime = NOON) -> None:
        self.calendar, self.clock = Calendar(now), Clock()
        self.metrics = new_metrics()
        self.ledger = Ledger(now=self.calendar)
        self.accounting = accounting_of(
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

    def attempts(self, outcome: AttemptOutcome) -> float | None:
        labels = {"provider": ANTHROPIC, "model": KNOWN_MODEL, "outcome": outcome}
        return sample(self.metrics, "llm_provider_upstream_attempts_total", **labels)

    def unknown(self, provider: ProviderName) -> float | None:
        return sample(self.metrics, "llm_provider_cost_unknown_total", provider=provider)


@pytest.mark.parametrize(("cost_usd", "micro_usd", "unpriced"), [(0.25, 250_000, 0), (None, 0, 1)])
def test_a_purchase_and_an_answer_that_spared_one_are_booked(
    cost_usd: float | None, micro_usd: int, unpriced: int
) -> None:
    harness = Harness()
    harness.buy(cost_usd=cost_usd)
    harness.accounting.saved(request(), reply(cost_usd=cost_usd))
    bought = reply().purchase.usage
    assert booked_today(harness.ledger, ANTHROPIC) == UsageTotals(
        requests=1,
        successes=1,
        prompt_tokens=bought.prompt,
        completion_tokens=bought.completion,
        cost_micro_usd=micro_usd,
        unpriced=unpriced,
        cache_hits=1,
        saved_micro_usd=micro_usd,
    )


def test_a_provider_that_was_never_asked_has_an_empty_book() -> None:
    assert Harness().activity == ProviderActivity()


def test_an_attempt_is_in_flight_until_it_ends_however_it_ends() -> None:
    harness = Harness()
    for _ in range(3):
        harness.accounting.started(request())
    assert (harness.activity.in_flight, harness.in_flight()) == (3, 3.0)
    harness.accounting.succeeded(request(), reply(), 1.0)
    harness.accounting.failed(request(), AttemptOutcome.TIMEOUT, 1.0, None)
    assert (harness.activity.in_flight, harness.in_flight()) == (1, 1.0)
    harness.accounting.failed(request(), AttemptOutcome.CANCELLED, 1.0, None)

    assert (harness.activity.in_flight, harness.in_flight()) == (0, 0.0)
    assert harness.today() == (3, 0.25)


def test_an_attempt_that_could_not_be_booked_is_not_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness()
    monkeypatch.setattr(harness.ledger, "book", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        harness.accounting.started(request())
    assert harness.activity.in_flight == 0


def test_purchases_are_counted_with_their_cost_their_tokens_and_their_moment() -> None:
    harness = Harness()
    harness.buy(cost_usd=0.25)
    harness.calendar.move(minutes=5)
    harness.buy(cost_usd=0.5)

    assert harness.today() == (2, 0.75)
    assert harness.activity.last_success == NOON + timedelta(minutes=5)
    assert (harness.activity.failure_count, harness.activity.last_failure) == (0, None)
    labels = {"provider": ANTHROPIC, "model": KNOWN_MODEL}
    assert sample(harness.metrics, "llm_provider_cost_dollars_total", **labels) == 0.75
    for token_type, tokens in (("prompt", 200.0), ("completion", 40.0), ("cached_prompt", 20.0)):
        assert sample(harness.metrics, "llm_provider_tokens_used_total", **labels, token_type=token_type) == tokens


def test_models_that_callers_make_up_share_one_row() -> None:
    harness, known = Harness(), request()
    for number in range(100):
        made_up = request(model=f"made-up-{number}")
        harness.accounting.started(made_up)
        harness.accounting.failed(made_up, AttemptOutcome.UNKNOWN_MODEL, 1.0, None)
    harness.accounting.started(known)
    harness.accounting.succeeded(known, reply(), 1.0)
    harness.accounting.saved(request(model="made-up-0"), reply())
    today = harness.ledger.today

    rows = {
        model: (row.requests, row.failures, row.cache_hits)
        for (_, model), row in harness.ledger.rows(today, today).items()
    }
    assert rows == {"other": (100, 100, 1), KNOWN_MODEL: (1, 0, 0)}


def test_providers_have_separate_books() -> None:
    harness = Harness()
    harness.buy(provider=ANTHROPIC, cost_usd=0.25)
    harness.buy(provider=OPENAI, cost_usd=1.0)

    assert harness.today(ANTHROPIC) == (1, 0.25)
    assert harness.today(OPENAI) == (1, 1.0)


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_failure_is_counted_under_its_outcome_and_dated_and_leaves_average_and_success_alone(
    outcome: AttemptOutcome,
) -> None:
    harness = Harness()
    harness.fail(outcome)

    assert harness.activity == ProviderActivity(failure_count=1, last_failure=NOON, last_heard_s=harness.clock())
    assert harness.today() == (1, 0.0)
    assert harness.attempts(outcome) == 1.0


@pytest.mark.parametrize("outcome", GIVEN_UP)
def test_an_attempt_that_we_gave_up_is_no_failure_of_the_provider(outcome: AttemptOutcome) -> None:
    harness = Harness()
    harness.fail(outcome)

    assert harness.activity == ProviderActivity()
    assert booked_today(harness.ledger, ANTHROPIC) == UsageTotals(requests=1)
    assert harness.attempts(outcome) == 1.0


def test_the_average_starts_at_the_first_time_and_leans_towards_the_newest() -> None:
    harness = Harness()
    harness.buy(2.0)
    assert harness.activity.average_response_s == 2.0
    harness.buy(12.0)
    assert harness.activity.average_response_s == pytest.approx(2.0 + NEWEST_WEIGHT * 10.0)
    for _ in range(100):
        harness.buy(12.0)

    assert harness.activity.average_response_s == pytest.approx(12.0)


@pytest.mark.parametrize("provider", REAL_PROVIDERS)
def test_a_price_that_nobody_knows_is_unknown_and_never_zero(provider: ProviderName) -> None:
    harness = Harness()
    harness.accounting.started(request(provider=provider))
    priced = harness.accounting.succeeded(request(provider=provider), reply(provider=provider, cost_usd=None), 1.0)

    assert priced == reply(provider=provider, cost_usd=None)
    assert harness.unknown(provider) == 1.0
    labels = {"provider": provider, "model": KNOWN_MODEL}
    assert sample(harness.metrics, "llm_provider_cost_dollars_total", **labels) is None
    assert harness.today(provider) == (1, 0.0)


def test_a_new_day_starts_with_no_requests_and_no_cost_and_keeps_the_rest() -> None:
    harness = Harness(LATE)
    harness.buy(3.0)
    harness.fail(AttemptOutcome.UNAVAILABLE)
    harness.calendar.move(seconds=1)

    assert harness.activity == ProviderActivity(
        failure_count=1,
        last_success=LATE,
        last_failure=LATE,
        last_heard_s=harness.clock(),
        average_response_s=3.0,
    )
    assert harness.today() == (0, 0.0)


def test_a_wall_clock_that_is_set_back_does_not_reopen_yesterday() -> None:
    harness = Harness(LATE)
    harness.calendar.move(seconds=2)
    harness.buy(cost_usd=0.25)
    harness.calendar.move(seconds=-2)
    harness.buy(cost_usd=0.5)
    assert harness.today() == (2, 0.75)
    harness.calendar.move(seconds=2)

    assert harness.today() == (2, 0.75)


def test_a_purchase_that_ends_after_midnight_belongs_to_the_new_day() -> None:
    harness = Harness(LATE)
    harness.buy(cost_usd=0.25)
    harness.accounting.started(request())
    harness.calendar.move(seconds=2)
    harness.accounting.succeeded(request(), reply(cost_usd=0.5), 2.0)

    assert harness.today() == (0, 0.5)
    assert harness.activity.in_flight == 0


def test_an_attempt_under_way_at_midnight_stays_in_flight() -> None:
    harness = Harness(LATE)
    harness.accounting.started(request())
    harness.calendar.move(seconds=2)

    assert harness.activity.in_flight == 1
    assert harness.today() == (0, 0.0)
