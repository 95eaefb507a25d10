"""What is charged for one attempt: the known cost, or the whole ceiling if it may have been billed."""

from api_models import AttemptOutcome, Purchase
from implementations.accounting.money import micro_usd
from protocols import Reservation

# No cost was reported, but the provider may bill: it was working when the connection ended, or its answer could not be
# read. Attempts that failed earlier, or with a plain error, cost nothing.
MAY_BE_BILLED = frozenset(
    {
        AttemptOutcome.SUCCESS,
        AttemptOutcome.CANCELLED,
        AttemptOutcome.TIMEOUT,
        AttemptOutcome.CUT_SHORT,
        AttemptOutcome.RESET,
        AttemptOutcome.BROKEN,
        AttemptOutcome.UNREADABLE,
        AttemptOutcome.MALFORMED,
        AttemptOutcome.TRUNCATED,
        AttemptOutcome.DEFECT,
    }
)


def charge(reservation: Reservation, outcome: AttemptOutcome, purchase: Purchase | None) -> int:
    """The charge, in micro-dollars."""
    if purchase is not None and purchase.cost_usd is not None:
        return micro_usd(purchase.cost_usd)
    return reservation.ceiling if purchase is not None or outcome in MAY_BE_BILLED else 0
