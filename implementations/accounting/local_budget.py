"""This process's spending and reservations, for the current UTC day and month."""

from collections.abc import Callable
from datetime import date

from protocols import Account, Reservation


class LocalBudget:
    """today: the current accounting day, which only moves forward.

    A reservation is settled in the periods in which it was made, even if they are over.
    """

    def __init__(self, *, today: Callable[[], date]) -> None:
        self._today = today
        day = today()
        self._accounts = Account(period=day.isoformat()), Account(period=_month(day))

    @property
    def accounts(self) -> tuple[Account, Account]:
        """The accounts of today and of this month."""
        today = self._today()
        day, month = self._accounts
        if day.period != today.isoformat():
            day = Account(period=today.isoformat())
            month = month if month.period == _month(today) else Account(period=_month(today))
            self._accounts = day, month
        return self._accounts

    def hold(self, ceiling: int) -> Reservation:
        """Reserve the ceiling, in micro-dollars, without checking any limit; it has to be decided upon."""
        accounts = self.accounts
        for account in accounts:
            account.held += ceiling
            account.undecided += ceiling
        return Reservation(ceiling=ceiling, accounts=accounts)

    @staticmethod
    def decide(reservation: Reservation) -> None:
        """It is granted: from now on the other replicas are told of it. Without effect a second time."""
        if reservation.is_undecided:
            reservation.is_undecided = False
            for account in reservation.accounts:
                account.undecided -= reservation.ceiling

    def settle(self, reservation: Reservation, cost: int) -> None:
        """Spend cost, in micro-dollars, and release the rest. Without effect a second time."""
        if not reservation.is_open:
            return
        self.decide(reservation)
        reservation.is_open = False
        for account in reservation.accounts:
            account.held += cost - reservation.ceiling
            account.spent += cost


def _month(day: date) -> str:
    return day.isoformat()[:7]
