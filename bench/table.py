"""Rows and goals as tables for the terminal."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import compress

from rich.table import Table

from bench.goals import Goal
from bench.rows import Row

HEADINGS = (
    "setup", "conn.", "load", "due/s", "answers/s", "p50 ms", "p90", "p99", "p99.9", "own p50 ms", "own p99", "CPU µs",
    "MiB", "calls", "late",
)  # fmt: skip
NARROW = frozenset({"setup", "conn.", "load", "answers/s", "p50 ms", "p99", "CPU µs", "calls"})
GOAL_HEADINGS = ("figure", "target", "found", "95 % interval", "pass-through", "met")


def table_of(rows: Iterable[Row], *, is_wide: bool) -> Table:
    """own: all but the provider call, as Server-Timing says. calls: provider calls per answer.

    What a narrow table lacks is in the file.
    """
    shown = [is_wide or heading in NARROW for heading in HEADINGS]
    table = Table(*compress(HEADINGS, shown))
    for heading in table.columns[1:]:
        heading.justify, heading.no_wrap = "right", True
    for row in rows:
        table.add_row(*compress(cells_of(row), shown))
    return table


def table_of_goals(goals: Iterable[Goal]) -> Table:
    """The targets and the results."""
    table = Table(*GOAL_HEADINGS)
    for goal in goals:
        table.add_row(*(cell.replace("*", "") for cell in goal.cells))
    return table


def cells_of(row: Row) -> Iterator[str]:
    """In the order of the headings. The load: a closed loop, or the share of the capacity in an open one."""
    load = "closed" if row.share is None else f"{row.share:.0%} of capacity"
    due = "" if row.due_rps is None else f"{row.due_rps:,.0f}"
    yield from (row.setup, str(row.connections), load, due, f"{row.achieved_rps:,.0f}")
    yield from (_ms(row.latency_ms, name) for name in ("p50", "p90", "p99", "p99.9"))
    yield from (
        _ms(row.overhead_ms, "p50"),
        _ms(row.overhead_ms, "p99"),
        f"{1000 * row.cpu_ms:,.0f}",
        f"{row.rss_mib:.0f}",
    )
    yield from (f"{row.upstream_calls / max(1.0, row.answers):.2f}", f"{row.late:,}")


def _ms(values: Mapping[str, float], name: str) -> str:
    """Nothing when nothing was counted: a refusal has no times."""
    return f"{values[name]:.2f}" if name in values else ""
