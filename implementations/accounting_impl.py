"""Books every attempt: what it cost, how it ended, how the provider is doing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime

from api_models import AttemptOutcome, ProviderName, Purchase
from metrics import Metrics
from protocols import PricesProtocol, ProviderActivity, ProviderReply, ProviderRequest

NEWEST_WEIGHT = 0.2


class AccountingImpl:
    """now: the UTC wall clock, which dates the books; their day only moves forward."""

    def __init__(self, *, prices: PricesProtocol, metrics: Metrics, now: Callable[[], datetime]) -> None:
        self._prices = prices
        self._metrics = metrics
        self._now = now
        self._day = now().date()
        self._books: dict[ProviderName, ProviderActivity] = {}

    def started(self, request: ProviderRequest) -> None:
        """One more attempt is under way."""
        self._roll_over(self._now().date())
        known = self._book(request.provider)
        self._books[request.provider] = replace(
            known, in_flight=known.in_flight + 1, requests_today=known.requests_today + 1
        )
        self._metrics.attempt_started(request.provider)

    def succeeded(self, request: ProviderRequest, reply: ProviderReply, elapsed_s: float) -> ProviderReply:
        """Book the purchase; the reply comes back priced."""
        self._ended(request, AttemptOutcome.SUCCESS, elapsed_s)
        known = self._book(request.provider)
        self._books[request.provider] = replace(
            known, last_success=self._now(), average_response_s=_decayed(known.average_response_s, elapsed_s)
        )
        return reply.priced(self._bought(request, reply.purchase).cost_usd)

    def failed(
        self, request: ProviderRequest, outcome: AttemptOutcome, elapsed_s: float, purchase: Purchase | None
    ) -> Purchase | None:
        """Book a failure, and what was billed for it; a cancelled attempt says nothing about the provider."""
        self._ended(request, outcome, elapsed_s)
        if outcome is not AttemptOutcome.CANCELLED:
            known = self._book(request.provider)
            self._books[request.provider] = replace(
                known, last_failure=self._now(), failure_count=known.failure_count + 1
            )
        return None if purchase is None else self._bought(request, purchase)

    def activity(self, provider: ProviderName) -> ProviderActivity:
        """What the provider did so far."""
        self._roll_over(self._now().date())
        return self._book(provider)

    def _bought(self, request: ProviderRequest, purchase: Purchase) -> Purchase:
        self._roll_over(self._now().date())
        cost_usd = self._prices.cost_usd(request.provider, purchase, asked=request.model)
        known = self._book(request.provider)
        self._books[request.provider] = replace(known, cost_today_usd=known.cost_today_usd + (cost_usd or 0.0))
        self._metrics.purchased(provider=request.provider, model=request.model, usage=purchase.usage, cost_usd=cost_usd)
        return replace(purchase, cost_usd=cost_usd)

    def _ended(self, request: ProviderRequest, outcome: AttemptOutcome, elapsed_s: float) -> None:
        known = self._book(request.provider)
        self._books[request.provider] = replace(known, in_flight=known.in_flight - 1)
        self._metrics.attempt_ended(
            provider=request.provider, model=request.model, outcome=outcome, elapsed_s=elapsed_s
        )

    def _book(self, provider: ProviderName) -> ProviderActivity:
        return self._books.get(provider, ProviderActivity())

    def _roll_over(self, today: date) -> None:
        if today <= self._day:
            return
        self._day = today
        self._books = {
            name: replace(known, requests_today=0, cost_today_usd=0.0) for name, known in self._books.items()
        }


def _decayed(average_s: float | None, newest_s: float) -> float:
    return newest_s if average_s is None else average_s + NEWEST_WEIGHT * (newest_s - average_s)
