"""Ends a measurement whose answers are not those that were meant to be measured."""

from bench.rows import Row
from bench.setups import DIRECT, LITELLM, MISS, PASSED_ON, PORTKEY, Setup

ASKING = frozenset({MISS.name, PASSED_ON.name, PORTKEY, LITELLM, DIRECT})
FEWEST_CALLS = 0.9  # of the provider per answer, except for those in flight at the beginning of a slice


def check(row: Row, setup: Setup) -> None:
    """Raises SystemExit for unexpected statuses, except beyond the capacity."""
    unwanted = {status: count for status, count in row.statuses.items() if status != str(setup.status)}
    if unwanted and (row.share is None or row.share < 1):
        raise SystemExit(f"{setup.name}: {unwanted} of {row.requests} answers are not {setup.status}.")


def checked(row: Row) -> Row:
    """Raises SystemExit when a subject did not answer, or answered without the provider call that it had to make."""
    if set(row.statuses) != {"200"}:
        raise SystemExit(f"{row.setup}: {row.statuses} instead of 200.")
    if row.setup in ASKING and row.upstream_calls < FEWEST_CALLS * row.answers - row.connections * len(row.slices):
        raise SystemExit(f"{row.setup}: {row.upstream_calls} calls of the provider for {row.answers:.0f} answers.")
    return row
