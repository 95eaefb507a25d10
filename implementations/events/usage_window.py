"""Aggregates the published events into one usage event per window."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from datetime import datetime
from operator import add
from typing import Self

from api_models import CacheHit, CacheMiss, CostTracked, EventData, ProviderUsage, RequestCompleted, UsageReported
from metrics import NOBODY


@dataclass(slots=True)
class _Sums:
    """Totals of one provider, or of all."""

    successful: int = 0
    failed: int = 0
    response_ms: int = 0
    purchases: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0

    @property
    def requests(self) -> int:
        return self.successful + self.failed

    @property
    def average_ms(self) -> float | None:
        return self.response_ms / self.requests if self.requests else None

    def __add__(self, other: Self) -> Self:
        return type(self)(*map(add, astuple(self), astuple(other)))

    def add(self, event: RequestCompleted | CostTracked) -> None:
        if isinstance(event, RequestCompleted):
            self.successful += event.success
            self.failed += not event.success
            self.response_ms += event.response_time_ms
            return
        self.purchases += 1
        self.tokens += event.token_usage.total_tokens
        self.cost_usd += event.cost_estimate_usd or 0.0
        self.unpriced += event.cost_estimate_usd is None

    def as_usage(self) -> ProviderUsage:
        return ProviderUsage(
            requests=self.requests,
            successful=self.successful,
            failed=self.failed,
            purchases=self.purchases,
            tokens=self.tokens,
            cost_usd=self.cost_usd,
            purchases_of_unknown_price=self.unpriced,
            average_response_time_ms=self.average_ms,
        )


@dataclass(slots=True)
class _Window:
    start: datetime
    providers: defaultdict[str, _Sums] = field(default_factory=lambda: defaultdict(_Sums))
    hits: int = 0
    misses: int = 0


class UsageWindow:
    """now: the UTC wall clock. An event counts in the window of its publication."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._window = _Window(now())

    def observe(self, event: EventData) -> None:
        """Add the event to the current window."""
        if isinstance(event, RequestCompleted | CostTracked):
            self._window.providers[event.provider or NOBODY].add(event)
        elif isinstance(event, CacheHit):
            self._window.hits += 1
        elif isinstance(event, CacheMiss):
            self._window.misses += 1

    def turn(self) -> UsageReported:
        """Close the window and start the next one, without a gap. One in which the clock was set back has no length."""
        ended = self._window
        self._window = _Window(self._now())
        total, look_ups = sum(ended.providers.values(), _Sums()), ended.hits + ended.misses
        return UsageReported(
            period_start=min(ended.start, self._window.start),
            period_end=self._window.start,
            provider_stats={str(name): sums.as_usage() for name, sums in sorted(ended.providers.items())},
            total_requests=total.requests,
            successful_requests=total.successful,
            failed_requests=total.failed,
            total_tokens=total.tokens,
            total_cost=total.cost_usd,
            cache_hit_rate=ended.hits / look_ups if look_ups else None,
            average_response_time_ms=total.average_ms,
        )
