"""Records every attempt: its cost, its outcome and the provider's current state."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from operator import attrgetter

from api_models import AttemptOutcome, ProviderName, Purchase
from implementations.accounting.ledger import Ledger
from implementations.accounting.money import micro_usd
from metrics import Metrics
from protocols import ClockProtocol, PricesProtocol, ProviderActivity, ProviderReply, ProviderRequest, UsageTotals

NEWEST_WEIGHT = 0.2
GIVEN_UP = frozenset({AttemptOutcome.CANCELLED, AttemptOutcome.CUT_SHORT})  # by us: it tells nothing of the provider


class AccountingImpl:
    """now: the UTC wall clock, for the times of successes and failures; clock: monotonic seconds."""

    def __init__(
        self,
        *,
        prices: PricesProtocol,
        ledger: Ledger,
        metrics: Metrics,
        now: Callable[[], datetime],
        clock: ClockProtocol,
    ) -> None:
        self._prices = prices
        self._ledger = ledger
        self._metrics = metrics
        self._now = now
        self._clock = clock
        self._activities = {name: ProviderActivity() for name in ProviderName}
        for name, activity in self._activities.items():
            metrics.concurrent.of(name).set_function(partial(attrgetter("in_flight"), activity))

    def started(self, request: ProviderRequest, *, is_retry: bool = False) -> None:
        """Record that an attempt has started."""
        if is_retry:
            self._metrics.retries.of(request.provider).inc()
        self._book(request, UsageTotals(requests=1))
        self._activities[request.provider].in_flight += 1  # last: whoever fails before it never tells the end

    def succeeded(self, request: ProviderRequest, reply: ProviderReply, elapsed_s: float) -> ProviderReply:
        """Record the purchase; return the reply with its price."""
        self._ended(request, AttemptOutcome.SUCCESS, elapsed_s)
        activity = self._activities[request.provider]
        activity.last_success, activity.last_heard_s = self._now(), self._clock()
        activity.average_response_s = _decayed(activity.average_response_s, elapsed_s)
        return ProviderReply(
            verdict=reply.verdict,
            provider=reply.provider,
            purchase=self._bought(request, reply.purchase, successes=1),
            prompt_sha256=reply.prompt_sha256,
        )

    def failed(
        self, request: ProviderRequest, outcome: AttemptOutcome, elapsed_s: float, purchase: Purchase | None
    ) -> Purchase | None:
        """Record a failure and what was billed for it; one that we gave up does not count against the provider."""
        self._ended(request, outcome, elapsed_s)
        if outcome not in GIVEN_UP:
            activity = self._activities[request.provider]
            activity.last_failure, activity.last_heard_s = self._now(), self._clock()
            activity.failure_count += 1
            self._book(request, UsageTotals(failures=1))
        return None if purchase is None else self._bought(request, purchase)

    def saved(self, request: ProviderRequest, reply: ProviderReply) -> None:
        """Record what a cache hit saved."""
        saved = micro_usd(reply.purchase.cost_usd or 0.0)
        self._book(request, UsageTotals(cache_hits=1, saved_micro_usd=saved))

    def activity(self, provider: ProviderName) -> ProviderActivity:
        """The provider's activity, not a copy: it goes on changing."""
        return self._activities[provider]

    def _bought(self, request: ProviderRequest, purchase: Purchase, *, successes: int = 0) -> Purchase:
        cost_usd = self._prices.cost_usd(request.provider, purchase, asked=request.model)
        self._book(
            request,
            UsageTotals(
                successes=successes,
                prompt_tokens=purchase.usage.prompt,
                completion_tokens=purchase.usage.completion,
                cost_micro_usd=micro_usd(cost_usd or 0.0),
                unpriced=int(cost_usd is None),
            ),
        )
        self._metrics.purchased(provider=request.provider, model=request.model, usage=purchase.usage, cost_usd=cost_usd)
        return Purchase(model=purchase.model, usage=purchase.usage, cost_usd=cost_usd)

    def _book(self, request: ProviderRequest, entry: UsageTotals) -> None:
        """By the metrics' name of the model: a caller may invent any number of others, and each would be kept."""
        self._ledger.book(request.provider, self._metrics.model_label(request.model), entry)

    def _ended(self, request: ProviderRequest, outcome: AttemptOutcome, elapsed_s: float) -> None:
        self._activities[request.provider].in_flight -= 1
        self._metrics.attempt_ended(
            provider=request.provider, model=request.model, outcome=outcome, elapsed_s=elapsed_s
        )


def _decayed(average_s: float | None, newest_s: float) -> float:
    return newest_s if average_s is None else average_s + NEWEST_WEIGHT * (newest_s - average_s)
