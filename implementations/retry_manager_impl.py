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

from exceptions import ServiceError
from implementations.resilience.call import current_call

T = TypeVar("T")

MAX_ATTEMPTS = 3
BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 8.0
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
            wait=wait_random_exponential(multiplier=BACKOFF_BASE_S, max=BACKOFF_CAP_S),
            sleep=sleep,
            reraise=True,
        )

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Call until it succeeds, fails for good or the time is used up; then raise the last failure."""

        async def attempt() -> T:
            return await operation()

        return await self._retrying(attempt)


def _is_retryable(failure: BaseException) -> bool:
    return isinstance(failure, ServiceError) and failure.is_retryable
