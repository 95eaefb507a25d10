"""The ledger of all replicas: local entries are sent in the background, and read back together with the others'."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import date, timedelta
from typing import Protocol

from api_models import ProviderName, UsageScope
from implementations.accounting.ledger import Ledger, Row
from protocols import UsageRows, UsageTotals

FIGURES = frozenset(one.name for one in fields(UsageTotals))
PROVIDERS = frozenset(ProviderName)


class SharedUsage(Protocol):
    """Counters by day and name, shared by all replicas."""

    async def add(self, number: int, days: Mapping[str, Mapping[str, int]]) -> bool:
        """Add the differences, once per batch number. False: no answer, so send the same batch again."""
        ...

    async def days(self, days: Sequence[str]) -> list[dict[str, int]] | None:
        """The counters of these days; None: no answer."""
        ...


class SharedLedger:
    """Unsent entries stay in memory, summed by row, while Redis is down."""

    def __init__(self, ledger: Ledger, shared: SharedUsage | None) -> None:
        self._ledger = ledger
        self._shared = shared
        self._batch: Mapping[str, Mapping[str, int]] = {}
        self._number = 0
        self._sending = asyncio.Lock()

    @property
    def today(self) -> date:
        """The current accounting day, UTC."""
        return self._ledger.today

    async def read(self, first: date, last: date) -> UsageRows:
        """The rows of all replicas while Redis answers, at least those of this one; otherwise of this one."""
        if self._shared is not None and await self.send():
            days = [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
            counters = await self._shared.days(days)
            if counters is not None:
                rows = _at_least(_rows(counters), self._ledger.rows(first, last))
                return UsageRows(scope=UsageScope.FLEET, rows=rows)
        return await self._ledger.read(first, last)

    async def send(self) -> bool:
        """Send pending entries. A batch without an answer is kept unchanged and sent again."""
        if self._shared is None:
            return False
        async with self._sending:
            while self._batch or self._take():
                if not await self._shared.add(self._number, self._batch):
                    return False
                self._batch = {}
            return True

    def _take(self) -> bool:
        """Make a new batch of what was recorded since the last one; False if there was nothing."""
        self._batch = _batch(self._ledger.take_news())
        self._number += 1
        return bool(self._batch)


def _batch(news: Mapping[date, Mapping[Row, UsageTotals]]) -> dict[str, dict[str, int]]:
    return {
        day.isoformat(): {
            f"{name}|{provider}|{model}": count
            for (provider, model), entry in rows.items()
            for name, count in asdict(entry).items()
            if count
        }
        for day, rows in news.items()
    }


def _at_least(fleet: Mapping[Row, UsageTotals], own: Mapping[Row, UsageTotals]) -> dict[Row, UsageTotals]:
    """The fleet's rows; a Redis that lost its data knows less than this replica does."""
    nothing = UsageTotals()
    return {row: fleet.get(row, nothing).at_least(own.get(row, nothing)) for row in sorted({*fleet, *own})}


def _rows(days: Sequence[Mapping[str, int]]) -> dict[Row, UsageTotals]:
    """The counters as rows; unknown ones, written by another version, are ignored."""
    found: dict[Row, dict[str, int]] = {}
    for counters in days:
        for field, count in counters.items():
            name, _, rest = field.partition("|")
            provider, _, model = rest.partition("|")
            if name in FIGURES and provider in PROVIDERS:
                row = found.setdefault((ProviderName(provider), model), {})
                row[name] = row.get(name, 0) + count
    return {row: UsageTotals(**figures) for row, figures in found.items()}
