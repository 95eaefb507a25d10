"""Cost alerts: spending passed a share of a limit, the daily threshold, or an hour far exceeds the usual rate.

Each alert is sent once per period, and once per fleet while Redis answers; without it each replica sends its own.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from api_models import AlertsResetResponse, CostAlerted, CostAlertType
from implementations.accounting.budget import Budget
from implementations.accounting.money import micro_usd, usd
from implementations.accounting.spending_rate import SpendingRate
from metrics import Metrics
from protocols import CostRules, LLMEventPublisherProtocol

WHOLE = 1.0

log = structlog.get_logger("costs")


class Marks(Protocol):
    """Set-once marks shared by all replicas."""

    async def mark(self, name: str) -> bool | None:
        """Set a mark; whether it was not set before. None: unknown."""
        ...

    async def unmark(self, names: Collection[str]) -> bool:
        """Remove these marks; False: unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Amounts in micro-dollars."""

    kind: CostAlertType
    current: int
    threshold: int
    period: str

    @property
    def name(self) -> str:
        """The deduplication key; includes the threshold, so a changed limit alerts again."""
        passed = "" if self.kind is CostAlertType.RATE_SPIKE else f":{self.threshold}"
        return f"alert:{self.kind}:{self.period}{passed}"


class Alerts:
    """rules: those in force now. now: the UTC wall clock; its hour only moves forward. marks: None without Redis.

    is_alone: there is no other replica.
    """

    def __init__(
        self,
        *,
        budget: Budget,
        rules: Callable[[], CostRules],
        marks: Marks | None,
        is_alone: bool,
        events: LLMEventPublisherProtocol,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._budget = budget
        self._rules = rules
        self._marks = marks
        self._is_alone = is_alone
        self._events = events
        self._metrics = metrics
        self._rate = SpendingRate(now=now)
        self._sent: set[str] = set()
        self._lock = asyncio.Lock()

    async def check(self) -> None:
        """Compare spending with every threshold."""
        async with self._lock:
            await self._look()

    async def reset(self) -> AlertsResetResponse:
        """Let thresholds that are still exceeded alert once more, from this replica; others keep their own memory."""
        async with self._lock:
            names, self._sent = self._sent, set()
            everywhere = self._is_alone if self._marks is None else await self._marks.unmark(names)
        return AlertsResetResponse(reset=True, forgotten=len(names), everywhere=everywhere)

    async def _look(self) -> None:
        for alert in [*self._passed(self._rules()), *self._spikes()]:
            if alert.name not in self._sent and await self._is_first(alert.name):
                self._send(alert)
            self._sent.add(alert.name)
        day, month = (account.period for account in self._budget.accounts)
        # Those of earlier periods are forgotten; the hour of a spike begins with its day.
        self._sent = {name for name in self._sent if f":{day}" in name or f":{month}:" in name}

    def _passed(self, rules: CostRules) -> Iterator[Alert]:
        day, month = (account.period for account in self._budget.accounts)
        threshold = micro_usd(rules.alert_threshold_usd)
        if self._budget.spent(day) >= threshold:
            yield Alert(
                kind=CostAlertType.DAILY_LIMIT, current=self._budget.spent(day), threshold=threshold, period=day
            )
        for kind, period, limit_usd in (
            (CostAlertType.DAILY_LIMIT, day, rules.limit_usd_per_day),
            (CostAlertType.MONTHLY_LIMIT, month, rules.limit_usd_per_month),
        ):
            if limit_usd is None:
                continue
            for level in rules.alert_levels:
                threshold = micro_usd(limit_usd * level)
                # Calls are refused before the limit is fully spent, so spending alone would never reach it.
                exhausted = level >= WHOLE and self._budget.is_exhausted(period, micro_usd(limit_usd))
                if exhausted or self._budget.spent(period) >= threshold > 0:
                    yield Alert(kind=kind, current=self._budget.spent(period), threshold=threshold, period=period)

    def _spikes(self) -> Iterator[Alert]:
        _, month = (account.period for account in self._budget.accounts)
        spike = self._rate.observe(month, self._budget.spent(month), covers=self._budget.scope)
        if spike is not None:
            yield Alert(
                kind=CostAlertType.RATE_SPIKE, current=spike.spent, threshold=spike.threshold, period=spike.hour
            )

    async def _is_first(self, name: str) -> bool:
        first = None if self._marks is None else await self._marks.mark(name)
        return first is not False

    def _send(self, alert: Alert) -> None:
        current, threshold = usd(alert.current), usd(alert.threshold)
        log.warning("cost_alert", alert_type=alert.kind, current_cost=current, threshold=threshold, period=alert.period)
        self._metrics.cost_alerts.of(alert.kind).inc()
        self._events.publish(
            CostAlerted(
                provider=None, alert_type=alert.kind, current_cost=current, threshold=threshold, period=alert.period
            )
        )
