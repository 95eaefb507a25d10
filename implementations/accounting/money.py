"""Money is kept in whole micro-dollars: float sums drift, and integer sums are exact in Redis too."""

from math import ceil, floor

from protocols import MICRO


def micro_usd(usd: float) -> int:
    """To the nearest micro-dollar, halves rounded up."""
    return floor(usd * MICRO + 0.5)


def micro_usd_at_least(usd: float) -> int:
    """Rounded up, for upper bounds."""
    return ceil(usd * MICRO)


def usd(micro: int) -> float:
    """In US dollars."""
    return micro / MICRO
