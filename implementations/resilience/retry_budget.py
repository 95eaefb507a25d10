"""How many repetitions one provider may be burdened with: a tenth of its first attempts, and a few at once.

In an outage every request wants to repeat; without a budget the repetitions are the greater part of the load.
"""

TOKENS = 10.0
PER_FIRST_ATTEMPT = 0.1


class RetryBudget:
    """A bucket: a first attempt adds a tenth of a token, a repetition takes a whole one."""

    def __init__(self) -> None:
        self._tokens = TOKENS

    @property
    def tokens(self) -> float:
        """What is left."""
        return self._tokens

    @property
    def allows(self) -> bool:
        """One more repetition may be made."""
        return self._tokens >= 1.0

    def first_attempt(self) -> None:
        """A call that is no repetition."""
        self._tokens = min(TOKENS, self._tokens + PER_FIRST_ATTEMPT)

    def repetition(self) -> None:
        """A call that is one."""
        self._tokens -= 1.0
