"""Token counts as providers report them: one implausible count makes the whole usage unknown."""

from dataclasses import replace
from typing import Any

from api_models import UNKNOWN_USAGE, Usage

MOST_TOKENS = 100_000_000


def read_usage(
    *,
    prompt: tuple[Any, ...],
    completion: tuple[Any, ...],
    cached: Any = None,
    written: Any = None,
    written_for_long: Any = None,
    reasoning: Any = None,
    price_factor: float = 1.0,
) -> Usage:
    """The usage; prompt and completion are sums of separately billed parts, an absent count is 0.

    UNKNOWN_USAGE if anything is not a count, or more tokens were cached than sent.
    """
    try:
        usage = Usage(
            prompt=sum(map(_count, prompt)),
            completion=sum(map(_count, completion)),
            cached=_count(cached),
            written=_count(written),
            written_for_long=_count(written_for_long),
            reasoning=_count(reasoning),
            price_factor=price_factor,
        )
    except ValueError:
        return UNKNOWN_USAGE
    if usage.cached + usage.written > usage.prompt or usage.written_for_long > usage.written:
        return UNKNOWN_USAGE
    return usage if usage.reasoning <= usage.completion else replace(usage, reasoning=usage.completion)


def uncounted(total: Any, prompt: Any, *completion: Any) -> int:
    """Tokens that only the total contains: of what xAI's models think, for one, no other count tells."""
    counts = (total, prompt, *(0 if part is None else part for part in completion))
    return max(0, total - sum(counts[1:])) if all(isinstance(count, int) for count in counts) else 0


def _count(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
        raise ValueError("not a count")
    return value
