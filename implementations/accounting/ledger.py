"""The ledger: what every day brought, by provider and model. Money stands in it in whole micro-dollars."""

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta

from api_models import ProviderName, UsageScope
from protocols import UsageRows, UsageTotals

KEPT_DAYS = 62

Row = tuple[ProviderName, str]


Days = dict[date, dict[Row, UsageTotals]]


class Ledger:
    """The books of this process. now: the UTC wall clock; its day only moves forward."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._today = now().date()
        self._told: Days = {}
        self._news: Days = {}

    @property
    def today(self) -> date:
        """The day that is booked now."""
        day = self._now().date()
        if day > self._today:
            self._today = day
            oldest = day - timedelta(days=KEPT_DAYS)
            self._told, self._news = _since(oldest, self._told), _since(oldest, self._news)
        return self._today

    def book(self, provider: ProviderName, model: str, entry: UsageTotals) -> None:
        """Add to today's row of this provider and model."""
        today = self.today  # first of all: with a new day the books change
        _add(self._news.setdefault(today, {}), (provider, model), entry)

    def take_news(self) -> Mapping[date, Mapping[Row, UsageTotals]]:
        """What was booked since this was asked the last time."""
        news, self._news = self._news, {}
        for day, rows in news.items():
            told = self._told.setdefault(day, {})
            for row, entry in rows.items():
                _add(told, row, entry)
        return news

    def rows(self, first: date, last: date) -> Mapping[Row, UsageTotals]:
        """What these days brought, the last one included."""
        found: dict[Row, UsageTotals] = {}
        for days in (self._told, self._news):
            for day, rows in days.items():
                if first <= day <= last:
                    for row, entry in rows.items():
                        _add(found, row, entry)
        return found

    async def read(self, first: date, last: date) -> UsageRows:
        """Those of this replica."""
        return UsageRows(scope=UsageScope.REPLICA, rows=self.rows(first, last))


def _add(rows: dict[Row, UsageTotals], row: Row, entry: UsageTotals) -> None:
    known = rows.get(row)
    rows[row] = entry if known is None else known + entry


def _since(oldest: date, days: Days) -> Days:
    return {day: rows for day, rows in days.items() if day >= oldest}
