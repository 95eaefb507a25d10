"""The ledger: daily usage by provider and model, money in whole micro-dollars."""

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta

from api_models import ProviderName
from protocols import UsageTotals

KEPT_DAYS = 62

Row = tuple[ProviderName, str]


class Ledger:
    """This process's ledger. now: the UTC wall clock; the day only moves forward."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._today = now().date()
        self._days: dict[date, dict[Row, UsageTotals]] = {}

    @property
    def today(self) -> date:
        """The current accounting day."""
        day = self._now().date()
        if day > self._today:
            self._today = day
            oldest = day - timedelta(days=KEPT_DAYS)
            self._days = {kept: rows for kept, rows in self._days.items() if kept >= oldest}
        return self._today

    @property
    def days(self) -> Mapping[date, Mapping[Row, UsageTotals]]:
        """The rows of each day; a row that is added to is replaced by a new object."""
        return self._days

    def book(self, provider: ProviderName, model: str, entry: UsageTotals) -> None:
        """Add to today's row of this provider and model."""
        today = self.today  # first, because a new day replaces the dictionary
        _add(self._days.setdefault(today, {}), (provider, model), entry)

    def rows(self, first: date, last: date) -> Mapping[Row, UsageTotals]:
        """Usage from first to last, both inclusive."""
        found: dict[Row, UsageTotals] = {}
        for day, rows in self._days.items():
            if first <= day <= last:
                for row, entry in rows.items():
                    _add(found, row, entry)
        return found


def _add(rows: dict[Row, UsageTotals], row: Row, entry: UsageTotals) -> None:
    known = rows.get(row)
    rows[row] = entry if known is None else known + entry
