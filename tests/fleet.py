"""Budgets that share one store, as the replicas of a service do."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from api_models import AttemptOutcome, Purchase, Usage
from exceptions import CostLimitExceededError
from implementations.accounting.budget import Budget
from protocols import Reservation
from tests.fake_shared_budget import FakeSharedBudget
from tests.fakes import Calendar, budget, cost_rules, new_metrics, request, settle

CENT = 10_000
PRICED = 0.1  # what a call of unknown price is reserved at
DAY, TOMORROW, MONTH = "2026-11-23", "2026-11-24", "2026-11"


def bought(cost_usd: float | None) -> Purchase:
    return Purchase(model="m", usage=Usage(prompt=1, completion=1), cost_usd=cost_usd)


@dataclass
class Fleet:
    """Some replicas' budgets on one store, with limits in US dollars."""

    day: float | None = 1.0
    month: float | None = None
    size: int = 2
    shared: bool = True
    calendar: Calendar = field(default_factory=Calendar)

    def __post_init__(self) -> None:
        """Create the store and one budget for each replica."""
        self.store = FakeSharedBudget()
        self.metrics = new_metrics()
        rules = cost_rules(limit_usd_per_day=self.day, limit_usd_per_month=self.month, unknown_ceiling_usd=PRICED)
        self.budgets: Sequence[Budget] = [
            budget(
                lambda: rules,
                metrics=self.metrics,
                now=self.calendar,
                shared=self.store.of(f"replica-{number}") if self.shared else None,
                replicas=self.size,
            )
            for number in range(self.size)
        ]

    async def reserves(self, number: int = 0) -> Reservation | None:
        try:
            return await self.budgets[number].reserve(request())
        except CostLimitExceededError:
            return None

    async def reserved(self, number: int = 0) -> Reservation:
        """Where there is enough for it."""
        reservation = await self.reserves(number)
        assert reservation is not None
        return reservation

    async def buys(self, number: int, cost_usd: float | None) -> bool:
        reservation = await self.reserves(number)
        if reservation is None:
            return False
        self.budgets[number].settle(reservation, AttemptOutcome.SUCCESS, bought(cost_usd))
        await settle()
        return True
