"""The ledger: what every day brought, by provider and model. Money stands in it in whole micro-dollars."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from itertools import chain

from api_models import ProviderName, UsageScope
from protocols import UsageRows, UsageTotals

KEPT_DAYS = 62

Row = tuple[ProviderName, str]


Key = tuple[date, Row]


class Ledger:
    """The books of this process. now: the UTC wall clock; its day only moves forward."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._today = now().date()
        self._told: dict[Key, UsageTotals] = {}
        self._news: dict[Key, UsageTotals] = {}

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
        key = self.today, (provider, model)
        known = self._news.get(key)
        self._news[key] = entry if known is None else known + entry

    def take_news(self) -> Mapping[Key, UsageTotals]:
        """What was booked since this was asked the last time."""
        news, self._news = self._news, {}
        for key, entry in news.items():
            self._told[key] = self._told.get(key, UsageTotals()) + entry
        return news

    def rows(self, first: date, last: date) -> Mapping[Row, UsageTotals]:
        """What these days brought, the last one included."""
        found: dict[Row, UsageTotals] = defaultdict(UsageTotals)
        for row, entry in self._between(first, last):
            found[row] = found[row] + entry
        return found

    async def read(self, first: date, last: date) -> UsageRows:
        """Those of this replica."""
        return UsageRows(scope=UsageScope.REPLICA, rows=self.rows(first, last))

    def of_today(self, provider: ProviderName) -> UsageTotals:
        """What today brought from one provider."""
        today = self._between(self.today, self.today)
        return sum((entry for (name, _), entry in today if name is provider), UsageTotals())

    def _between(self, first: date, last: date) -> Iterator[tuple[Row, UsageTotals]]:
        booked = chain(self._told.items(), self._news.items())
        return ((row, entry) for (day, row), entry in booked if first <= day <= last)


def _since(oldest: date, entries: Mapping[Key, UsageTotals]) -> dict[Key, UsageTotals]:
    return {key: entry for key, entry in entries.items() if key[0] >= oldest}
