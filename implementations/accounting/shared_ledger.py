"""The ledger of all replicas: each writes its own rows to Redis in the background, and reads those of all.

A row is written as the total of a day, not as a difference: writing it again changes nothing, and a Redis that lost its
data, or went back to older ones, holds the truth again after the next round of each replica.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Protocol

import orjson

from api_models import ProviderName, UsageScope
from implementations.accounting.ledger import Ledger, Row
from protocols import UsageRows, UsageTotals

FIGURES = frozenset(UsageTotals._fields)
PROVIDERS = frozenset(ProviderName)
LARGEST = 2**63

Texts = Mapping[str, bytes]


class SharedUsage(Protocol):
    """Texts by day, replica and name."""

    async def put(self, days: Mapping[str, Texts]) -> int | None:
        """Write this replica's texts, by day and name. Returns how many were new; None: no answer."""
        ...

    async def days(self, days: Sequence[str]) -> Sequence[Iterable[tuple[str, bytes]]] | None:
        """Name and text of all replicas' rows, for each of these days; None: no answer."""
        ...


class SharedLedger:
    """What Redis has not confirmed is written again in the next round."""

    def __init__(self, ledger: Ledger, shared: SharedUsage | None) -> None:
        self._ledger = ledger
        self._shared = shared
        self._written: dict[tuple[date, Row], UsageTotals] = {}
        self._writing = asyncio.Lock()

    @property
    def today(self) -> date:
        """The current accounting day, UTC."""
        return self._ledger.today

    async def read(self, first: date, last: date) -> UsageRows:
        """The rows of all replicas while Redis answers, otherwise of this one."""
        if self._shared is not None and await self.send():
            days = [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
            found = await self._shared.days(days)
            if found is not None:
                rows = await asyncio.to_thread(_rows, found)  # a month of a large fleet takes 0.3 s
                return UsageRows(scope=UsageScope.FLEET, rows=rows)
        return UsageRows(scope=UsageScope.REPLICA, rows=self._ledger.rows(first, last))

    async def send(self) -> bool:
        """Write what changed, and the last two days in any case: if Redis lost them, everything. False: no answer."""
        if self._shared is None:
            return False
        async with self._writing:
            while True:
                rows = {(day, row): entry for day, found in self._ledger.days.items() for row, entry in found.items()}
                sent = self._to_write(rows)
                unknown = sum(row not in self._written for row in sent)
                added = await self._shared.put(_texts(sent)) if sent else 0
                if added is None:
                    self._written = {}  # it may come back without what it had
                    return False
                has_lost_rows = added > unknown
                self._written = {} if has_lost_rows else rows
                if not has_lost_rows:
                    return True

    def _to_write(self, rows: Mapping[tuple[date, Row], UsageTotals]) -> Mapping[tuple[date, Row], UsageTotals]:
        last_two = sorted(self._ledger.days)[-2:]  # a loss after midnight does not show in a day with only new rows
        return {row: entry for row, entry in rows.items() if row[0] in last_two or self._written.get(row) is not entry}


def _texts(rows: Mapping[tuple[date, Row], UsageTotals]) -> dict[str, dict[str, bytes]]:
    texts: dict[str, dict[str, bytes]] = {}
    for (day, (provider, model)), entry in rows.items():
        figures = {name: count for name, count in entry._asdict().items() if count}
        texts.setdefault(day.isoformat(), {})[f"{provider}|{model}"] = orjson.dumps(figures)
    return texts


def _rows(days: Iterable[Iterable[tuple[str, bytes]]]) -> dict[Row, UsageTotals]:
    """The texts as rows; what another version may have written is ignored."""
    found: dict[Row, UsageTotals] = {}
    for texts in days:
        for name, text in texts:
            provider, _, model = name.partition("|")
            if provider in PROVIDERS:
                row = ProviderName(provider), model
                found[row] = found.get(row, UsageTotals()) + _totals(text)
    return dict(sorted(found.items()))


def _totals(text: bytes) -> UsageTotals:
    try:
        figures = orjson.loads(text)
    except orjson.JSONDecodeError:
        return UsageTotals()
    known = figures.items() if isinstance(figures, dict) else ()
    return UsageTotals(**{name: count for name, count in known if name in FIGURES and _is_count(count)})


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST
