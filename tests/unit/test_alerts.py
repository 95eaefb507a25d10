"""Somebody is told when spending passes a mark: once per period, once per fleet."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

import pytest

from api_models import AlertsResetResponse, AttemptOutcome, CostAlerted, CostAlertType, Purchase, Usage, UsageScope
from exceptions import CostLimitExceededError
from implementations.accounting.spending_rate import FLOOR_MICRO, SpendingRate
from protocols import MICRO, CostRules
from tests.fake_shared_budget import FakeSharedBudget
from tests.fakes import NOON, Calendar, alerts, begun, budget, cost_rules, new_metrics, request, sample, settle

DAILY, MONTHLY, SPIKE = CostAlertType.DAILY_LIMIT, CostAlertType.MONTHLY_LIMIT, CostAlertType.RATE_SPIKE
DAY, MONTH = "2026-11-23", "2026-11"
SATURDAY = 5

pytestmark = pytest.mark.usefixtures("redis_timeout_s")


class FakeMarks:
    """Marks in memory, which a fleet shares."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.away = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def mark(self, name: str) -> bool | None:
        if self.away:
            return None
        first = name not in self.names
        self.names.add(name)
        return first

    async def unmark(self, names: Collection[str]) -> bool:
        await self.goes_on.wait()
        if not self.away:
            self.names.difference_update(names)
        return not self.away


@dataclass
class Replica:
    """One replica's budget and alerts; several may share a budget and marks."""

    rules: CostRules
    store: FakeSharedBudget = field(default_factory=FakeSharedBudget)
    marks: FakeMarks = field(default_factory=FakeMarks)
    calendar: Calendar = field(default_factory=Calendar)
    name: str = "one"

    def __post_init__(self) -> None:
        """Build them."""
        self.metrics = new_metrics()
        self.budget = budget(
            lambda: self.rules, metrics=self.metrics, now=self.calendar, shared=self.store.of(self.name), replicas=2
        )
        self.alerts, self.recorder = alerts(
            self.budget, lambda: self.rules, metrics=self.metrics, now=self.calendar, marks=self.marks
        )

    async def spends(self, dollars: float) -> None:
        reservation = await self.budget.reserve(request())
        self.budget.settle(
            reservation,
            AttemptOutcome.SUCCESS,
            Purchase(model="m", usage=Usage(prompt=1, completion=1), cost_usd=dollars),
        )
        await settle()

    async def tells(self) -> list[tuple[CostAlertType, float, float, str]]:
        """What is told in this round of the background task."""
        await self.budget.refresh()
        await self.alerts.check()
        told = [(one.alert_type, one.current_cost, one.threshold, one.period) for one in self.recorder.of(CostAlerted)]
        self.recorder.events.clear()
        return told


async def test_each_level_of_a_limit_is_told_once_a_day() -> None:
    replica = Replica(cost_rules(limit_usd_per_day=10.0))
    await replica.spends(7.9)
    assert await replica.tells() == []
    await replica.spends(0.1)
    assert await replica.tells() == [(DAILY, 8.0, 8.0, DAY)]
    assert await replica.tells() == []
    replica.calendar.move(days=1)
    await replica.spends(9.0)
    assert await replica.tells() == [(DAILY, 9.0, 8.0, "2026-11-24")]
    assert sample(replica.metrics, "llm_provider_cost_alerts_total", alert_type=DAILY) == 2.0


async def test_the_limit_itself_is_told_when_a_call_is_refused_and_once_raised_when_the_next_one_is() -> None:
    replica = Replica(cost_rules(limit_usd_per_day=1.0, alert_levels=(0.98, 1.0)))
    await replica.spends(0.95)
    assert await replica.tells() == []
    with pytest.raises(CostLimitExceededError):
        await replica.budget.reserve(request())
    assert await replica.tells() == [(DAILY, 0.95, 1.0, DAY)]
    replica.rules = cost_rules(limit_usd_per_day=2.0, alert_levels=(0.98, 1.0))
    assert await replica.tells() == []
    await replica.spends(1.0)
    with pytest.raises(CostLimitExceededError):
        await replica.budget.reserve(request())
    assert await replica.tells() == [(DAILY, 1.95, 2.0, DAY)]


async def test_a_call_that_is_refused_long_before_the_limit_tells_nothing() -> None:
    replica = Replica(cost_rules(limit_usd_per_day=1.0, alert_levels=(1.0,), unknown_ceiling_usd=0.4))
    held = [await replica.budget.reserve(request()), await replica.budget.reserve(request())]
    with pytest.raises(CostLimitExceededError):
        await replica.budget.reserve(request())
    assert await replica.tells() == []
    for reservation in held:
        replica.budget.release(reservation)
    await replica.spends(0.55)
    await replica.spends(0.35)
    assert await replica.tells() == []
    with pytest.raises(CostLimitExceededError):
        await replica.budget.reserve(request())
    assert await replica.tells() == [(DAILY, 0.9, 1.0, DAY)]


async def test_of_a_limit_of_nothing_no_level_is_told_but_the_first_refusal() -> None:
    replica = Replica(cost_rules(limit_usd_per_day=0.0))
    assert await replica.tells() == []
    with pytest.raises(CostLimitExceededError):
        await replica.budget.reserve(request())
    assert await replica.tells() == [(DAILY, 0.0, 0.0, DAY)]


async def test_a_month_has_its_own_levels() -> None:
    replica = Replica(cost_rules(limit_usd_per_month=10.0))
    for _ in range(3):
        await replica.spends(3.0)
        replica.calendar.move(days=1)
    assert await replica.tells() == [(MONTHLY, 9.0, 8.0, MONTH)]
    replica.marks.away = True
    assert await replica.tells() == []


async def test_a_day_that_passes_the_threshold_is_told_without_any_limit() -> None:
    replica = Replica(cost_rules(alert_threshold_usd=2.0))
    await replica.spends(2.0)
    assert await replica.tells() == [(DAILY, 2.0, 2.0, DAY)]


async def test_a_fleet_tells_once_from_what_all_of_it_spent() -> None:
    rules = cost_rules(alert_threshold_usd=2.0)
    one = Replica(rules)
    other = Replica(rules, one.store, one.marks, one.calendar, name="other")
    await one.spends(1.5)
    await other.spends(1.5)
    await one.budget.refresh()
    told = [*await other.tells(), *await one.tells()]
    assert told == [(DAILY, 3.0, 2.0, DAY)]


async def test_while_redis_is_away_each_replica_tells_for_itself_and_only_once() -> None:
    replica = Replica(cost_rules(alert_threshold_usd=2.0))
    replica.marks.away = replica.store.away = True
    await replica.spends(2.0)
    assert await replica.tells() == [(DAILY, 2.0, 2.0, DAY)]
    replica.marks.away = replica.store.away = False
    assert await replica.tells() == []


async def test_an_hour_far_above_the_usual_is_told_once() -> None:
    replica = Replica(cost_rules())
    await replica.tells()
    for _ in range(4):
        await replica.spends(1.0)
        assert await replica.tells() == []
        replica.calendar.move(hours=1)
    await replica.spends(2.9)
    assert await replica.tells() == []
    await replica.spends(0.2)
    assert await replica.tells() == [(SPIKE, 3.1, 3.0, "2026-11-23T16")]
    assert await replica.tells() == []


async def test_a_fleet_tells_of_such_an_hour_once_although_each_replica_has_its_own_idea_of_the_usual() -> None:
    one = Replica(cost_rules())
    for _ in range(2):
        await one.tells()
        await one.spends(2.0)
        one.calendar.move(hours=1)
    other = Replica(one.rules, one.store, one.marks, one.calendar, name="other")
    for _ in range(4):
        assert [*await one.tells(), *await other.tells()] == []
        one.calendar.move(hours=1)
        await one.spends(1.0)
    await one.spends(9.0)
    assert [alert for alert, *_ in [*await one.tells(), *await other.tells()]] == [SPIKE]


@pytest.mark.parametrize("hours_usd", [(2, 2, 2, 12), (2, 2, 12, 4)])
def test_one_dear_hour_moves_the_norm_by_a_fifth(hours_usd: tuple[int, ...]) -> None:
    calendar = Calendar()
    rate = SpendingRate(now=calendar)
    spent = 0
    rate.observe(MONTH, spent, covers=UsageScope.FLEET)
    for usd in hours_usd:
        spent += usd * MICRO
        rate.observe(MONTH, spent, covers=UsageScope.FLEET)
        calendar.move(hours=1)
    assert rate.observe(MONTH, spent + 12 * MICRO, covers=UsageScope.FLEET) is None
    spike = rate.observe(MONTH, spent + 12 * MICRO + 1, covers=UsageScope.FLEET)
    assert spike is not None
    assert spike.threshold == 12 * MICRO  # three times (2 + (12 - 2) / 5)


def test_the_hour_of_the_start_is_not_a_usual_one() -> None:
    calendar = Calendar(NOON.replace(minute=59))
    rate = SpendingRate(now=calendar)
    rate.observe(MONTH, 0, covers=UsageScope.FLEET)
    calendar.move(minutes=1)
    for hour in (1, 2, 3):
        assert rate.observe(MONTH, hour * 10 * MICRO, covers=UsageScope.FLEET) is None
        calendar.move(hours=1)
    assert rate.observe(MONTH, 60 * MICRO, covers=UsageScope.FLEET) is None, "three times the usual hour"
    assert rate.observe(MONTH, 60 * MICRO + 1, covers=UsageScope.FLEET) is not None


def test_after_quiet_nights_and_week_ends_a_usual_hour_is_still_usual() -> None:
    calendar = Calendar()
    rate = SpendingRate(now=calendar)
    spent = 0
    for _ in range(14 * 24):
        at = calendar()
        is_busy = at.weekday() < SATURDAY and 8 <= at.hour < 15
        spent += 10 * MICRO if is_busy else MICRO // 50 * (at.hour % 2)  # now and then somebody tries a pair
        assert rate.observe(MONTH, spent, covers=UsageScope.FLEET) is None
        calendar.move(hours=1)
    assert rate.observe(MONTH, spent + 30 * MICRO, covers=UsageScope.FLEET) is not None


def test_a_norm_falls_with_the_spending() -> None:
    calendar = Calendar()
    rate = SpendingRate(now=calendar)
    spent = 0
    for hours, usd in ((10, 100), (240, 5)):
        for _ in range(hours):
            spent += usd * MICRO
            rate.observe(MONTH, spent, covers=UsageScope.FLEET)
            calendar.move(hours=1)
    assert rate.observe(MONTH, spent + 16 * MICRO, covers=UsageScope.FLEET) is not None


async def test_after_a_reset_what_is_still_passed_is_told_again_by_one_of_the_fleet() -> None:
    rules = cost_rules(alert_threshold_usd=2.0)
    one = Replica(rules)
    other = Replica(rules, one.store, one.marks, one.calendar, name="other")
    await one.spends(3.0)
    assert await one.tells() == [(DAILY, 3.0, 2.0, DAY)]
    assert await other.tells() == []
    assert await other.alerts.reset() == AlertsResetResponse(reset=True, forgotten=1, everywhere=True)
    assert await one.tells() == []
    assert await other.tells() == [(DAILY, 3.0, 2.0, DAY)]
    assert await other.tells() == []


async def test_a_round_during_a_reset_tells_again_what_is_still_passed() -> None:
    replica = Replica(cost_rules(alert_threshold_usd=2.0))
    await replica.spends(2.0)
    await replica.tells()
    replica.marks.goes_on.clear()
    resetting = await begun(replica.alerts.reset())
    telling = await begun(replica.tells())
    replica.marks.goes_on.set()
    await resetting
    assert [*await telling, *await replica.tells()] == [(DAILY, 2.0, 2.0, DAY)]


async def test_a_reset_while_redis_is_away_says_that_it_holds_here_only() -> None:
    replica = Replica(cost_rules(alert_threshold_usd=2.0))
    replica.marks.away = replica.store.away = True
    await replica.spends(2.0)
    await replica.tells()
    assert await replica.alerts.reset() == AlertsResetResponse(reset=True, forgotten=1, everywhere=False)
    assert await replica.tells() == [(DAILY, 2.0, 2.0, DAY)]


@pytest.mark.parametrize("is_alone", [True, False])
async def test_without_redis_a_reset_holds_everywhere_only_of_a_single_replica(*, is_alone: bool) -> None:
    metrics, calendar = new_metrics(), Calendar()
    own = budget(cost_rules, metrics=metrics, now=calendar)
    here, _ = alerts(own, cost_rules, metrics=metrics, now=calendar, is_alone=is_alone)
    assert await here.reset() == AlertsResetResponse(reset=True, forgotten=0, everywhere=is_alone)


async def test_a_reset_tells_nothing_that_is_not_passed_any_more() -> None:
    replica = Replica(cost_rules(alert_threshold_usd=2.0))
    await replica.spends(2.0)
    await replica.tells()
    replica.calendar.move(days=1)
    assert await replica.tells() == []
    assert await replica.alerts.reset() == AlertsResetResponse(reset=True, forgotten=0, everywhere=True)
    assert await replica.tells() == []


def test_small_change_is_no_spike() -> None:
    calendar = Calendar()
    rate = SpendingRate(now=calendar)
    for spent in range(5):
        rate.observe(MONTH, spent, covers=UsageScope.FLEET)
        calendar.move(hours=1)
    assert rate.observe(MONTH, 4 + FLOOR_MICRO, covers=UsageScope.FLEET) is None
    assert rate.observe(MONTH, 4 + FLOOR_MICRO + 1, covers=UsageScope.FLEET) is not None


def test_what_others_spent_before_we_heard_of_them_is_no_spike_and_neither_is_a_redis_that_forgot() -> None:
    calendar = Calendar()
    rate = SpendingRate(now=calendar)
    for spent in range(5):
        rate.observe(MONTH, spent, covers=UsageScope.REPLICA)
        calendar.move(hours=1)
    for spent in (900 * FLOOR_MICRO, 0, 900 * FLOOR_MICRO):
        assert rate.observe(MONTH, spent, covers=UsageScope.FLEET) is None
    assert rate.observe(MONTH, 902 * FLOOR_MICRO, covers=UsageScope.FLEET) is not None, "what is spent after it is one"


def test_what_a_new_month_begins_with_is_spent_anew() -> None:
    calendar = Calendar()
    rate = SpendingRate(now=calendar)
    for spent in range(5):
        rate.observe(MONTH, 900 * FLOOR_MICRO + spent, covers=UsageScope.FLEET)
        calendar.move(hours=1)
    assert rate.observe("2026-12", FLOOR_MICRO, covers=UsageScope.FLEET) is None
    assert rate.observe("2026-12", FLOOR_MICRO + 1, covers=UsageScope.FLEET) is not None


@pytest.mark.parametrize(
    ("micro_an_hour", "is_known"),
    [([], False), ([0, 1, 1], False), ([0, 1, 1, 1], True), ([0, 0, 1, 1], False), ([0] * 5, False)],
)
def test_a_new_service_knows_its_usual_hour_after_three_whole_ones_that_spend(
    micro_an_hour: list[int], *, is_known: bool
) -> None:
    calendar = Calendar()
    rate = SpendingRate(now=calendar)
    spent = 0
    rate.observe(MONTH, spent, covers=UsageScope.FLEET)
    for micro in micro_an_hour:
        spent += micro
        rate.observe(MONTH, spent, covers=UsageScope.FLEET)
        calendar.move(hours=1)
    spike = rate.observe(MONTH, 900 * FLOOR_MICRO, covers=UsageScope.FLEET)
    assert (spike is not None) == is_known
