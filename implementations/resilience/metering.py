"""The innermost policies: cost reservation and settlement, timing, pricing and accounting, and the attempt timeout."""

import asyncio

from api_models import UNKNOWN_USAGE, AttemptOutcome, Purchase
from exceptions import AttemptCutShortError, ProviderError, ProviderTimeoutError
from implementations.resilience.call import current_call
from implementations.resilience.stalls import within
from protocols import (
    Attempt,
    BudgetProtocol,
    LLMAccountingProtocol,
    LLMProviderProtocol,
    ProviderReply,
    ProviderRequest,
    Reservation,
)


class Metered:
    """Reserves the cost, then times, prices, records and settles every attempt, successful or not."""

    def __init__(
        self, provider: LLMProviderProtocol, *, budget: BudgetProtocol, accounting: LLMAccountingProtocol
    ) -> None:
        self._provider = provider
        self._budget = budget
        self._accounting = accounting

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply, priced. Sets the provider on a failure; raises CostLimitExceededError before any call.

        If the reservation used up the deadline, or nobody waits for the verdict any more, no call is made and nothing
        is recorded: AttemptCutShortError.
        """
        reservation, call = await self._budget.reserve(request), current_call()
        if call.record.is_abandoned or not call.deadline.remaining_s():
            self._budget.release(reservation)
            details = "its caller has left" if call.record.is_abandoned else "the request had no time left"
            not_made = AttemptCutShortError(details, provider=request.provider)
            not_made.provider_was_asked = bool(call.record.attempts)
            raise not_made
        call.record.provider_request_id = None
        began_s = call.deadline.clock()
        self._accounting.started(request, is_retry=bool(call.record.attempts))  # a record holds one provider's attempts
        outcome, purchase = AttemptOutcome.DEFECT, None
        try:
            reply = await self._provider.generate_comparison(request)
            outcome = AttemptOutcome.SUCCESS
        except ProviderError as failure:
            failure.provider = request.provider
            outcome, purchase = failure.outcome, failure.purchase or _unknown_purchase(request, failure)
            raise
        except asyncio.CancelledError:
            outcome = AttemptOutcome.CANCELLED
            raise
        finally:
            elapsed_s = call.deadline.clock() - began_s
            if outcome is not AttemptOutcome.SUCCESS:
                billed = self._accounting.failed(request, outcome, elapsed_s, purchase)
                self._close(reservation, request, outcome, elapsed_s, billed)
        priced = self._accounting.succeeded(request, reply, elapsed_s)
        self._close(reservation, request, outcome, elapsed_s, priced.purchase)
        return priced

    def _close(
        self,
        reservation: Reservation,
        request: ProviderRequest,
        outcome: AttemptOutcome,
        elapsed_s: float,
        purchase: Purchase | None,
    ) -> None:
        """Settle the reservation and record the attempt."""
        self._budget.settle(reservation, outcome, purchase)
        record = current_call().record
        record.upstream_s += elapsed_s
        record.ended(
            Attempt(
                provider=request.provider,
                model=request.model,
                outcome=outcome,
                duration_s=elapsed_s,
                purchase=purchase,
                provider_request_id=record.provider_request_id,
            )
        )


def _unknown_purchase(request: ProviderRequest, failure: ProviderError) -> Purchase | None:
    """A purchase of unknown usage and cost, if the failure is billed although its usage could not be read."""
    return Purchase(model=request.model, usage=UNKNOWN_USAGE, cost_usd=None) if failure.is_billed else None


class TimeLimited:
    """Enforces the attempt timeout, whatever the provider does.

    An attempt that had much less than the usual attempt timeout does not count against the provider.
    """

    def __init__(self, provider: LLMProviderProtocol) -> None:
        self._provider = provider

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """The reply, or ProviderTimeoutError."""
        deadline = current_call().deadline
        attempt_s = deadline.attempt_s()
        limit = within(attempt_s)
        try:
            async with limit:
                return await self._provider.generate_comparison(request)
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            del limit  # breaks a reference cycle: limit, task, failure, this frame
        if attempt_s < deadline.telling_s:
            raise AttemptCutShortError("no answer in the short time that the request had left")
        raise ProviderTimeoutError("no answer within the attempt timeout")
