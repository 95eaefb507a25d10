"""The one owner of retries: at most three attempts with full jitter, inside the deadline."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from exceptions import ProviderError
from implementations.resilience.call import current_call

T = TypeVar("T")

MAX_ATTEMPTS = 3
BACKOFF = wait_random_exponential(multiplier=0.5, max=8.0)
THROTTLED_BACKOFF = wait_random_exponential(multiplier=1.0, max=30.0)
SHORTEST_ATTEMPT_S = 0.1


class DeadlineTooNear(stop_base):
    """Stops when the wait would leave no time for another attempt."""

    def __call__(self, retry_state: RetryCallState) -> bool:
        """Tenacity knows the coming wait before it asks whether to stop."""
        return retry_state.upcoming_sleep + SHORTEST_ATTEMPT_S > current_call().deadline.remaining_s()


class RetryManagerImpl:
    """sleep: waits so many seconds; injected, so that tests need not."""

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._retrying = AsyncRetrying(
            retry=retry_if_exception(_is_retryable),
            stop=stop_after_attempt(MAX_ATTEMPTS) | DeadlineTooNear(),
            wait=_wait_s,
            sleep=sleep,
            reraise=True,
        )

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Call until it succeeds, fails for good or the time is used up; then raise the last failure."""
        met: set[type[ProviderError]] = set()

        async def attempt() -> T:
            try:
                return await operation()
            except ProviderError as failure:
                failure.is_final |= failure.repeats_once and type(failure) in met
                met.add(type(failure))
                raise

        return await self._retrying(attempt)


def _is_retryable(failure: BaseException) -> bool:
    return isinstance(failure, ProviderError) and failure.may_be_repeated


def _wait_s(retry_state: RetryCallState) -> float:
    """Full jitter, not less than the provider asks for; an answer that was no verdict is asked for again at once."""
    failure = retry_state.outcome.exception() if retry_state.outcome else None
    if not isinstance(failure, ProviderError) or failure.repeats_once:
        return 0.0
    backoff = THROTTLED_BACKOFF if failure.throttles else BACKOFF
    return max(backoff(retry_state), failure.retry_after_s or 0.0)
