"""What is charged for one attempt: the bill where there is one, and where there may be one the whole ceiling."""

from api_models import AttemptOutcome, Purchase
from implementations.accounting.money import micro_usd
from protocols import Reservation

# Nobody told us of a bill, and there may be one: the provider was at work when we stopped listening to it or it stopped
# talking, or it answered in a way that we do not read. What ended before or with a plain error costs nothing.
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
    """In micro-dollars."""
    if purchase is not None and purchase.cost_usd is not None:
        return micro_usd(purchase.cost_usd)
    return reservation.ceiling if purchase is not None or outcome in MAY_BE_BILLED else 0
