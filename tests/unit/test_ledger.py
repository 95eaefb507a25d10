"""What every day brought, in whole micro-dollars."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from api_models import ProviderName
from implementations.accounting.ledger import Ledger
from implementations.accounting.money import micro_usd, micro_usd_at_least, usd
from protocols import UsageTotals
from tests.fakes import NOON, Calendar, booked_today

OPENAI, GOOGLE = ProviderName.OPENAI, ProviderName.GOOGLE
TODAY = NOON.date()
DAY = timedelta(days=1)


def bought(micro: int) -> UsageTotals:
    return UsageTotals(requests=1, successes=1, prompt_tokens=10, completion_tokens=5, cost_micro_usd=micro)


def test_rows_are_kept_by_day_provider_and_model() -> None:
    calendar = Calendar()
    ledger = Ledger(now=calendar)
    ledger.book(OPENAI, "a", bought(100))
    ledger.book(OPENAI, "a", bought(20))
    ledger.book(OPENAI, "b", bought(3))
    calendar.now += DAY
    ledger.book(GOOGLE, "c", bought(5))
    assert ledger.rows(TODAY, TODAY) == {
        (OPENAI, "a"): bought(100) + bought(20),
        (OPENAI, "b"): bought(3),
    }
    assert {row: entry.cost_micro_usd for row, entry in ledger.rows(TODAY, TODAY + DAY).items()} == {
        (OPENAI, "a"): 120,
        (OPENAI, "b"): 3,
        (GOOGLE, "c"): 5,
    }
    assert (booked_today(ledger, OPENAI), booked_today(ledger, GOOGLE).cost_micro_usd) == (UsageTotals(), 5)


def test_the_day_only_moves_forward() -> None:
    calendar = Calendar()
    ledger = Ledger(now=calendar)
    calendar.now -= 400 * DAY
    ledger.book(OPENAI, "a", bought(1))
    assert ledger.today == TODAY
    assert booked_today(ledger, OPENAI).cost_micro_usd == 1


def test_a_day_is_forgotten_after_62_days() -> None:
    calendar = Calendar()
    ledger = Ledger(now=calendar)
    ledger.book(OPENAI, "a", bought(1))
    calendar.now += 62 * DAY
    ledger.book(OPENAI, "a", bought(2))
    assert ledger.rows(date.min, date.max)[OPENAI, "a"].cost_micro_usd == 1 + 2
    calendar.now += DAY
    ledger.book(OPENAI, "a", bought(4))
    assert ledger.rows(date.min, date.max)[OPENAI, "a"].cost_micro_usd == 2 + 4


@given(st.floats(min_value=0, max_value=1e6))
def test_money_is_rounded_to_the_nearest_micro_dollar_and_ceilings_are_rounded_up(dollars: float) -> None:
    assert abs(usd(micro_usd(dollars)) - dollars) <= 0.501e-6  # in floats, up to a million dollars
    assert micro_usd_at_least(dollars) >= dollars * 1e6
