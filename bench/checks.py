"""Ends a measurement whose answers are not those that were meant to be measured."""

from bench.rows import Row
from bench.setups import DIRECT, LITELLM, MISS, PASSED_ON, PORTKEY, Setup

ASKING = frozenset({MISS.name, PASSED_ON.name, PORTKEY, LITELLM, DIRECT})
FEWEST_CALLS = 0.9  # of the provider per answer, except for those in flight at the beginning of a slice


def check(row: Row, setup: Setup) -> None:
    """Raises SystemExit for unexpected statuses and lost requests, except beyond the capacity."""
    unwanted = {status: count for status, count in row.statuses.items() if status != str(setup.status)}
    is_wrong = unwanted or row.lost or not row.statuses
    if is_wrong and (row.share is None or row.share < 1):
        told = f"{row.statuses} instead of {setup.status} only, and {row.lost} lost"
        raise SystemExit(f"{setup.name}: {told}, of {row.requests} requests.")


def checked(row: Row) -> Row:
    """Raises SystemExit when a subject did not answer, or answered without the provider call that it had to make."""
    if set(row.statuses) != {"200"} or row.lost:
        raise SystemExit(f"{row.setup}: {row.statuses} instead of 200, and {row.lost} lost.")
    if row.setup in ASKING and row.upstream_calls < FEWEST_CALLS * row.answers - row.connections * len(row.slices):
        raise SystemExit(f"{row.setup}: {row.upstream_calls} calls of the provider for {row.answers:.0f} answers.")
    return row
