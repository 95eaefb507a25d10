"""Finds out whether the answers are those that were meant to be measured."""

from bench.rows import Row
from bench.setups import DIRECT, LITELLM, MISS, OK, PASSED_ON, PORTKEY

ASKING = frozenset({MISS.name, PASSED_ON.name, PORTKEY, LITELLM, DIRECT})
FEWEST_CALLS = 0.9  # of the provider per answer, except for those in flight at the beginning of a slice


def unexpected(row: Row, *, status: int = OK) -> str:
    """Tell of other statuses, lost requests and purchases that were not made, except beyond the capacity."""
    if row.share is not None and row.share >= 1:
        return ""
    if set(row.statuses) != {str(status)} or row.lost:
        return f"{row.setup}: {row.statuses} instead of {status} only, and {row.lost} lost, of {row.requests} requests."
    if row.setup in ASKING and row.upstream_calls < FEWEST_CALLS * row.answers - row.connections * len(row.slices):
        return f"{row.setup}: {row.upstream_calls} calls of the provider for {row.answers:.0f} answers."
    return ""
