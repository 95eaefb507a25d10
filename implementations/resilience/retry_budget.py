"""A retry budget per provider: retries up to a tenth of first attempts, plus a small burst.

In an outage every request retries; without a budget, retries become most of the load.
"""

TOKENS = 10.0
PER_FIRST_ATTEMPT = 0.1


class RetryBudget:
    """A token bucket: a first attempt adds a tenth of a token, a retry takes one."""

    def __init__(self) -> None:
        self._tokens = TOKENS

    @property
    def tokens(self) -> float:
        """Tokens left."""
        return self._tokens

    @property
    def allows(self) -> bool:
        """Whether one more retry is allowed."""
        return self._tokens >= 1.0

    def first_attempt(self) -> None:
        """Count a first attempt."""
        self._tokens = min(TOKENS, self._tokens + PER_FIRST_ATTEMPT)

    def retry(self) -> None:
        """Count a retry."""
        self._tokens -= 1.0
