"""The only place that retries failed calls: three attempts at most, with full jitter, within deadline and budget."""

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from exceptions import (
    CircuitOpenError,
    CostLimitExceededError,
    ProviderError,
    ServiceOverloadedError,
    ThrottlePausedError,
)
from implementations.resilience.call import current_call
from implementations.resilience.retry_budget import RetryBudget
from protocols import SleepProtocol

T = TypeVar("T")

MAX_ATTEMPTS = 3
BACKOFF = wait_random_exponential(multiplier=0.5, max=8.0)
THROTTLED_BACKOFF = wait_random_exponential(multiplier=1.0, max=30.0)
SHORTEST_INVITATION_S = 1.0  # a hint of milliseconds holds nobody back
INVITED_SPREAD, LONGEST_SPREAD_S = 0.25, 2.0  # of calls that come back after a Retry-After, beyond it


class RetryManagerImpl:
    """One per provider. sleep: takes seconds; injected for tests."""

    def __init__(self, *, budget: RetryBudget, sleep: SleepProtocol) -> None:
        self._budget = budget
        self._retrying = AsyncRetrying(
            retry=retry_if_exception(_is_retryable),
            stop=self._gives_up,
            wait=_wait_s,
            before_sleep=self._note,
            sleep=sleep,
            reraise=True,
        )

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Call until it succeeds, fails permanently, or time or budget run out; then raise the last failure.

        A retry that meets an open circuit, or one of our own limits, raises the failure that it was retrying.
        """
        self._budget.first_attempt()
        try:
            return await operation()  # fast path: most calls succeed at once
        except ProviderError as failure:
            met = [failure]
        return await self._retried(operation, met)

    async def _retried(self, operation: Callable[[], Awaitable[T]], met: list[ProviderError]) -> T:
        """met: the first attempt's failure; it is replayed as attempt one."""
        failures: list[ProviderError] = []

        async def attempt() -> T:
            try:
                if met:
                    raise met.pop()
                return await operation()
            except ProviderError as failure:
                failure.is_final |= failure.is_retried_once and failure.repeats(failures)
                failures.append(failure)
                raise
            except (CircuitOpenError, ThrottlePausedError, ServiceOverloadedError, CostLimitExceededError) as refusal:
                failures[-1].is_final = True
                failures[-1].ran_out_of_time = refusal.ran_out_of_time
                raise failures[-1] from None

        try:
            return await self._retrying(attempt)
        except ProviderError as failure:
            raise failure.with_traceback(None) from None  # or it would hold tenacity's frames, which hold it
        finally:
            failures.clear()

    def _gives_up(self, retry_state: RetryCallState) -> bool:
        """No attempt is left, no time for one, no patience for the pause that the provider asks for, or no budget.

        Tenacity asks after a failure, and computes the upcoming wait before.
        """
        call = current_call()
        return (
            retry_state.attempt_number >= MAX_ATTEMPTS
            or retry_state.upcoming_sleep > call.longest_wait_s()
            or _failure(retry_state).pause_s > call.longest_pause_s()
            or (_counts(retry_state) and not self._budget.allows)
        )

    def _note(self, retry_state: RetryCallState) -> None:
        if _counts(retry_state):
            self._budget.retry()


def _is_retryable(failure: BaseException) -> bool:
    return isinstance(failure, ProviderError) and failure.may_be_retried


def _failure(retry_state: RetryCallState) -> ProviderError:
    """The failure to be retried: tenacity asks about the wait and the end only after one that is retryable."""
    return cast("ProviderError", retry_state.outcome and retry_state.outcome.exception())


def _counts(retry_state: RetryCallState) -> bool:
    """Whether the retry counts against the budget, which bounds the load that retries add in an outage.

    The retry of an invalid or cut-off answer does not, nor a first one at the moment that the provider has named.
    """
    failure = _failure(retry_state)
    is_invited = retry_state.attempt_number == 1 and _invites(failure)
    return not (failure.is_retried_once or is_invited)


def _invites(failure: ProviderError) -> bool:
    """Whether a provider that works has said when to come back; until then the throttle gate holds back all calls."""
    return not failure.trips_circuit and failure.pause_s >= SHORTEST_INVITATION_S


def _wait_s(retry_state: RetryCallState) -> float:
    """Full jitter; an invalid or cut-off answer at once, the others not before the provider's Retry-After."""
    failure = _failure(retry_state)
    if failure.is_retried_once:
        return 0.0
    backoff_s = (THROTTLED_BACKOFF if failure.throttles else BACKOFF)(retry_state)
    if not failure.retry_after_s:
        return backoff_s
    return max(backoff_s, failure.retry_after_s + _spread_s(failure.retry_after_s))


def _spread_s(invited_s: float) -> float:
    """Spreads the calls that are invited for the same moment, as far as the deadline allows."""
    allowed_s = current_call().longest_pause_s() - invited_s
    most_s = max(0.0, min(INVITED_SPREAD * invited_s, LONGEST_SPREAD_S, allowed_s))
    return random.uniform(0, most_s)  # noqa: S311  spreads load
