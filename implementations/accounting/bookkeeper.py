"""What the books need while nobody asks: replicas hear of each other, and marks that were passed are told."""

from implementations.accounting.alerts import Alerts
from implementations.accounting.budget import Budget
from implementations.accounting.shared_ledger import SharedLedger
from protocols import SleepProtocol

INTERVAL_S = 2.0


class Bookkeeper:
    """sleep: waits so many seconds."""

    def __init__(self, *, budget: Budget, ledger: SharedLedger, alerts: Alerts, sleep: SleepProtocol) -> None:
        self._budget = budget
        self._ledger = ledger
        self._alerts = alerts
        self._sleep = sleep

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.work()
            await self._sleep(INTERVAL_S)

    async def work(self) -> None:
        """Once; each exchange with Redis bounds itself."""
        await self._budget.refresh()
        await self._ledger.send()
        await self._alerts.check()
