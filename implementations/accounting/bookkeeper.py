"""Background accounting: synchronizes with the other replicas and sends due cost alerts."""

from implementations.accounting.alerts import Alerts
from implementations.accounting.budget import Budget
from implementations.accounting.shared_ledger import SharedLedger
from protocols import SleepProtocol

INTERVAL_S = 2.0


class Bookkeeper:
    """sleep: takes seconds."""

    def __init__(self, *, budget: Budget, ledger: SharedLedger, alerts: Alerts, sleep: SleepProtocol) -> None:
        self._budget = budget
        self._ledger = ledger
        self._alerts = alerts
        self._sleep = sleep

    async def run(self) -> None:
        """Work in a loop, forever."""
        while True:
            await self.work()
            await self._sleep(INTERVAL_S)

    async def work(self) -> None:
        """One round; each exchange with Redis has its own timeout."""
        await self._budget.refresh()
        await self._ledger.send()
        await self._alerts.check()
