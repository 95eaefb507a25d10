"""Detects an hour whose spending is far above the usual hourly rate."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from api_models import UsageScope
from protocols import MICRO

# The newest hour weighs a fifth, so the norm adapts slowly and a single outlier does not shift it much. One that spent
# less than the norm weighs less, in proportion: else the nights would make every morning a spike.
NEWEST_WEIGHT = 0.2
SPIKE_FACTOR = 3
# No alert below this: a service that spends a cent an hour may spend ten.
FLOOR_MICRO = MICRO
# Whole hours with spending needed before there is a norm.
LEARNT_HOURS = 3


class Spike(NamedTuple):
    """An hour, what was spent in it, and the threshold that this exceeds; micro-dollars."""

    hour: str
    spent: int
    threshold: int


class Seen(NamedTuple):
    """The most that was spent in a month so far, in micro-dollars, and by whom."""

    covers: UsageScope
    month: str
    spent: int


class SpendingRate:
    """now: the UTC wall clock. The norm is learnt anew after each start."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._hour = _hour(now())
        self._of_hour = 0
        self._norm = 0.0
        self._learnt = -1  # the hour of the start is not whole, so the first one with spending replaces its rate
        self._last: Seen | None = None

    def observe(self, month: str, spent: int, *, covers: UsageScope) -> Spike | None:
        """The spike of this hour, if it is one.

        spent: so far in that month, in micro-dollars; a drop means that Redis lost data and will be told again.
        covers: whose spending; after it changes the first figure is a baseline, not new spending.
        """
        if _hour(self._now()) > self._hour:
            self._turn()
        if self._last is not None and self._last.covers == covers:
            highest = self._last.spent if self._last.month == month else 0
            self._of_hour += max(0, spent - highest)
            spent = max(spent, highest)
        self._last = Seen(covers, month, spent)
        threshold = max(FLOOR_MICRO, round(self._norm * SPIKE_FACTOR))
        too_much = self._learnt >= LEARNT_HOURS and self._of_hour > threshold
        return Spike(self._hour, self._of_hour, threshold) if too_much else None

    def _turn(self) -> None:
        """Start a new hour; a gap of several hours counts as one."""
        if self._of_hour or self._learnt < 0:
            weight = NEWEST_WEIGHT * min(1.0, self._of_hour / self._norm) if self._learnt > 0 else 1.0
            self._norm += weight * (self._of_hour - self._norm)
            self._learnt += 1
        self._hour, self._of_hour = _hour(self._now()), 0


def _hour(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H")
