"""The ledger: what every day brought, by provider and model. Money stands in it in whole micro-dollars."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta

from api_models import ProviderName, UsageScope
from protocols import UsageRows, UsageTotals

KEPT_DAYS = 62

Row = tuple[ProviderName, str]


class Ledger:
    """The books of this process. now: the UTC wall clock; its day only moves forward."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._today = now().date()
        self._days: dict[date, dict[Row, UsageTotals]] = {}
        self._news: dict[tuple[date, Row], UsageTotals] = {}

    @property
    def today(self) -> date:
        """The day that is booked now."""
        day = self._now().date()
        if day > self._today:
            self._today = day
            for old in [one for one in self._days if one < day - timedelta(days=KEPT_DAYS)]:
                del self._days[old]
            self._news = {key: entry for key, entry in self._news.items() if key[0] in self._days}
        return self._today

    def book(self, provider: ProviderName, model: str, entry: UsageTotals) -> None:
        """Add to today's row of this provider and model."""
        rows = self._days.setdefault(self.today, {})
        rows[provider, model] = rows.get((provider, model), UsageTotals()) + entry
        key = self._today, (provider, model)
        self._news[key] = self._news.get(key, UsageTotals()) + entry

    def take_news(self) -> Mapping[tuple[date, Row], UsageTotals]:
        """What was booked since this was asked the last time."""
        news, self._news = self._news, {}
        return news

    def rows(self, first: date, last: date) -> Mapping[Row, UsageTotals]:
        """What these days brought, the last one included."""
        found: dict[Row, UsageTotals] = defaultdict(UsageTotals)
        for rows in self._between(first, last):
            for row, entry in rows.items():
                found[row] = found[row] + entry
        return found

    async def read(self, first: date, last: date) -> UsageRows:
        """Those of this replica."""
        return UsageRows(scope=UsageScope.REPLICA, rows=self.rows(first, last))

    def of_today(self, provider: ProviderName) -> UsageTotals:
        """What today brought from one provider."""
        rows = self._days.get(self.today, {})
        return sum((entry for (name, _), entry in rows.items() if name is provider), UsageTotals())

    def _between(self, first: date, last: date) -> Iterator[Mapping[Row, UsageTotals]]:
        return (rows for day, rows in self._days.items() if first <= day <= last)
