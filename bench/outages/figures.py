"""Figures, and tables of them for the terminal."""

import math
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

console = Console()


class PromiseBrokenError(Exception):
    """What was measured is not what is promised."""


def hold(promise: str, *, kept: bool) -> None:
    """Say that a promise was kept. Raises PromiseBrokenError when it was not."""
    if not kept:
        raise PromiseBrokenError(promise)
    console.print(f"[green]kept[/green]  {promise}")


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share does not exceed; nan of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def show(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; all columns but the first are figures."""
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
