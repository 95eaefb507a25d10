"""Money is kept in whole micro-dollars: sums of floats drift, and Redis adds integers only."""

from math import ceil, floor

MICRO = 1_000_000


def micro_usd(usd: float) -> int:
    """To the nearest micro-dollar, half a one up."""
    return floor(usd * MICRO + 0.5)


def micro_usd_at_least(usd: float) -> int:
    """Rounded up, for what must not be too little."""
    return ceil(usd * MICRO)


def usd(micro: int) -> float:
    """In US dollars."""
    return micro / MICRO
