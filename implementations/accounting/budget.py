"""Reserves the cost of a call before it and settles it afterwards; decision 10 says what may still exceed a limit.

With Redis all replicas share one budget; without it, or while it is down, each stays within its share of the limits. A
call that costs nothing is never refused.
"""

from collections.abc import Callable
from functools import partial

import structlog

from api_models import AttemptOutcome, DegradedMode, MoneyReport, PeriodMoney, Purchase, UsageScope
from exceptions import CostLimitExceededError
from implementations.accounting.budget_sync import BudgetSync
from implementations.accounting.ceilings import Ceilings
from implementations.accounting.charges import charge
from implementations.accounting.local_budget import LocalBudget
from implementations.accounting.money import micro_usd, usd
from implementations.accounting.shared_budget import NOTHING, REFUSALS, BudgetAnswer, Share, SharedBudget
from implementations.resilience.call import waiting_for_redis
from implementations.resilience.stalls import any_done
from metrics import PERIODS, UNKNOWN_PRICE, Metrics
from protocols import Account, CostRules, ProviderRequest, Reservation

NEARLY_EXHAUSTED = 0.8

log = structlog.get_logger("budget")


class Budget:
    """rules: those in force now. replicas: how many share the limits. shared: None without Redis."""

    def __init__(
        self,
        *,
        local: LocalBudget,
        ceilings: Ceilings,
        shared: SharedBudget | None,
        rules: Callable[[], CostRules],
        replicas: int,
        metrics: Metrics,
    ) -> None:
        self._local = local
        self._ceilings = ceilings
        self._shared = shared
        self._rules = rules
        self._replicas = replicas
        self._metrics = metrics
        self._sync = BudgetSync(shared)
        self._logged_local = False
        self._exhausted: set[tuple[str, int]] = set()  # periods and limits
        for index, period in enumerate(PERIODS):
            metrics.budget_left.of(period).set_function(partial(self.left_usd, index))
            metrics.budget_left_ratio.of(period).set_function(partial(self._left_ratio, index))
        metrics.degraded_mode.of(DegradedMode.BUDGET_LOCAL).set_function(lambda: float(self.is_local))

    @property
    def is_local(self) -> bool:
        """There are limits and a Redis to share them, but it does not answer."""
        return self._shared is not None and not self._shared.is_heard and self._rules().has_limits

    async def reserve(self, request: ProviderRequest) -> Reservation:
        """Reserve the most that the attempt can cost. Raises CostLimitExceededError if less is left."""
        try:
            reservation = self._local.hold(self._ceilings.of(request))
        except CostLimitExceededError:
            self._metrics.limit_refusals.of(UNKNOWN_PRICE).inc()
            raise
        if reservation.ceiling and self._rules().has_limits:
            try:
                answer = await self._answer(reservation, self._limits())
                if answer is not BudgetAnswer.DONE:
                    self._refuse(reservation, answer, request)
            except BaseException:  # a cancelled caller's among them
                self.release(reservation)
                raise
        self._local.decide(reservation)
        return reservation

    def release(self, reservation: Reservation) -> None:
        """Release the whole reservation, because no call was made; never waits."""
        self._settle(reservation, 0)

    def settle(self, reservation: Reservation, outcome: AttemptOutcome, purchase: Purchase | None) -> None:
        """Charge the actual cost, or the ceiling if it is unknown, and release the rest; never waits."""
        self._settle(reservation, charge(reservation, outcome, purchase))

    @property
    def accounts(self) -> tuple[Account, Account]:
        """The accounts of today and of this month."""
        return self._local.accounts

    @property
    def scope(self) -> UsageScope:
        """Whose spending is known: the fleet's, possibly stale, once it was heard at all; else this replica's."""
        heard = self._shared is not None and self._shared.others
        return UsageScope.FLEET if heard else UsageScope.REPLICA

    def is_exhausted(self, period: str, limit: int) -> bool:
        """Whether this limit (micro-dollars) refused a call when most of it was spent, and not merely a large one."""
        return (period, limit) in self._exhausted

    def spent(self, period: str) -> int:
        """Spent by all replicas as far as known, in micro-dollars; this replica's part is 0 for a past period."""
        mine = sum(account.spent for account in self.accounts if account.period == period)
        return mine + self._others(period).spent

    def spending(self) -> MoneyReport:
        """What is spent and what is left, as known here."""
        return MoneyReport(scope=self.scope, day=self._of_period(0), month=self._of_period(1))

    def left_usd(self, index: int) -> float:
        """What this replica may still reserve today (0) or this month (1), in US dollars; infinite without a limit."""
        limit = self._limits()[index]
        if limit is None:
            return float("inf")
        account = self._local.accounts[index]
        left = limit - self._others(account.period).held - account.held
        return usd(max(0, left if self._is_shared else min(left, limit // self._replicas - account.held)))

    def _left_ratio(self, index: int) -> float:
        """Share left of the limit, or of our part of it while local; 1 without a limit, 0 for a limit of 0."""
        limit = self._limits()[index]
        if limit is None:
            return 1.0
        allowed = limit if self._is_shared else limit // self._replicas
        return self.left_usd(index) / usd(allowed) if allowed else 0.0

    async def finish(self) -> None:
        """Send pending differences to the fleet; bounded by a few Redis timeouts."""
        await self._sync.finish()

    async def refresh(self) -> None:
        """Exchange pending differences with the fleet; also detects that Redis lost its data."""
        if self._shared is not None:
            await self._shared.sync()
        self._log_mode()

    def _of_period(self, index: int) -> PeriodMoney:
        period, limit = self.accounts[index].period, self._limits()[index]
        return PeriodMoney(
            period=period,
            spent_usd=usd(self.spent(period)),
            limit_usd=None if limit is None else usd(limit),
            left_usd=None if limit is None else self.left_usd(index),
        )

    @property
    def _is_shared(self) -> bool:
        return self._shared is not None and self._shared.is_heard

    async def _answer(self, reservation: Reservation, limits: tuple[int | None, int | None]) -> BudgetAnswer:
        """The fleet's answer; our own if Redis does not answer within the call's remaining Redis timeout."""
        if self._shared is None:
            return self._own_answer(reservation, limits)
        asking = self._sync.start(self._shared.take(reservation, limits))
        asking.add_done_callback(lambda _: self._sync_soon())  # what is granted too late is given back
        with waiting_for_redis() as timeout_s:
            is_answered = await any_done(asking, within_s=timeout_s)
        answer = asking.result() if is_answered else None
        return self._own_answer(reservation, limits) if answer is None else answer

    def _own_answer(self, reservation: Reservation, limits: tuple[int | None, int | None]) -> BudgetAnswer:
        """Decide within our share of each limit, and within what others are known to have left."""
        for account, limit, refusal in zip(reservation.accounts, limits, REFUSALS, strict=True):
            if limit is None:
                continue
            if account.held > min(limit // self._replicas, limit - self._others(account.period).held):
                return refusal
        return BudgetAnswer.DONE

    def _others(self, period: str) -> Share:
        return NOTHING if self._shared is None else self._shared.others.get(period, NOTHING)

    def _refuse(self, reservation: Reservation, answer: BudgetAnswer, request: ProviderRequest) -> None:
        index = 1 if answer is BudgetAnswer.MONTH_REFUSES else 0
        period, limit = reservation.accounts[index].period, self._limits()[index]
        if limit is not None and self.spent(period) >= limit * NEARLY_EXHAUSTED:
            self._exhausted.add((period, limit))
        self._metrics.limit_refusals.of(PERIODS[index]).inc()
        raise CostLimitExceededError(
            f"what is left for this {PERIODS[index]} (UTC) may not be enough for this call", provider=request.provider
        )

    def _settle(self, reservation: Reservation, micro: int) -> None:
        self._local.settle(reservation, micro)
        self._sync_soon()

    def _limits(self) -> tuple[int | None, int | None]:
        rules = self._rules()
        return _micro(rules.limit_usd_per_day), _micro(rules.limit_usd_per_month)

    def _sync_soon(self) -> None:
        """Without limits the next refresh is soon enough."""
        if self._rules().has_limits:
            self._sync.sync_soon()

    def _log_mode(self) -> None:
        if self.is_local is self._logged_local:
            return
        self._logged_local = self.is_local
        if self._logged_local:
            log.warning("budget_local", replicas=self._replicas)
        else:
            log.info("budget_shared")


def _micro(limit_usd: float | None) -> int | None:
    return None if limit_usd is None else micro_usd(limit_usd)
