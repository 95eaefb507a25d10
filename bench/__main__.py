"""The commands: most measure and keep their results in bench/results; `page` writes them into docs/."""

import sys
from importlib.util import find_spec

if find_spec("hdrh") is None:
    sys.exit("The benchmark's packages are missing: `make bench` installs them.")

import argparse
import os
import tempfile
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import footprint, peers, scaling
from bench.burst import burst
from bench.commands import ended_when_told, positive
from bench.goals import Goal, of_footprint, of_full, of_peers, of_short
from bench.machine import commit, cores, described, need
from bench.measuring import FULL, SHORT, Spans
from bench.page import PAGE, SCALING, page, scaling_page
from bench.plots import draw
from bench.profile import show_profiles
from bench.rows import Report, Row
from bench.selection import rows_of
from bench.setups import SETUPS, Setup, shortened
from bench.stage import Stage
from bench.table import table_of, table_of_goals
from bench.turns import ROUNDS, ROWS, SPANS, rounds

IN_A_FILE = 150  # columns, where no terminal says how wide it is
FEWEST_ROUNDS, FEWEST_REQUESTS, FEWEST_MINUTES = 5, 100_000, 5.0  # less is a trial, whose results are not kept
NEEDS: Mapping[str, Sequence[str]] = {"peers": ("node", "npm"), "scaling": ("haproxy",)}
GOALS: Mapping[str, Callable[[Report], Iterable[Goal]]] = {
    "short": of_short,
    "full": of_full,
    "peers": of_peers,
    "footprint": of_footprint,
}


class Bench:
    """One run of one command, with a progress bar. rows: those that were measured so far."""

    def __init__(self, stage: Stage, progress: Progress, options: argparse.Namespace) -> None:
        self._stage = stage
        self._progress = progress
        self._options = options
        self.rows: list[Row] = []

    def short(self) -> Report:
        """Show what costs how much, in three minutes."""
        return self._selection(shortened(SETUPS), SHORT)

    def full(self) -> Report:
        """Measure every setup at every load."""
        return self._selection(SETUPS, FULL)

    def peers(self) -> Report:
        """Measure us and the peers in turns."""
        count, spans = self._options.rounds, SPANS.times(self._options.length)
        uvloop.run(self._keep(rounds(self._stage, count, spans), count * ROWS))
        return self.report(versions=peers.versions(), rounds=count, spans=asdict(spans))

    def footprint(self) -> Report:
        """Measure start, memory, and memory over many requests and many faults."""
        options = self._options
        started = footprint.starts(self._stage)
        over_requests = footprint.over_requests(self._stage, options.requests, self._shares("judged misses"))
        requests = uvloop.run(over_requests)
        over_faults = footprint.over_faults(self._stage, 60 * options.minutes, self._shares("faults"))
        return self.report(starts=started, requests=requests, faults=uvloop.run(over_faults))

    def scaling(self) -> Report:
        """Measure one to four replicas, and restarts under load."""
        bar = self._progress.add_task("", total=scaling.MOST_REPLICAS + 2)
        sizes = []
        for count in range(1, scaling.MOST_REPLICAS + 1):
            sizes.append(uvloop.run(scaling.size(self._stage, count, scaling.SPANS.times(self._options.length))))
            self._progress.update(bar, advance=1, description=f"{count} replicas")
        restarts = []
        for told_before in (True, False):
            restarts.append(uvloop.run(scaling.restarts(self._stage, told_before=told_before)))
            self._progress.update(bar, advance=1, description="restarts under load")
        return self.report(sizes=sizes, restarts=restarts, under_way=uvloop.run(scaling.under_way(self._stage)))

    def report(self, **more: Any) -> Report:
        """What was measured so far. more: what is no row."""
        return Report(
            command=" ".join(("python -m bench", *sys.argv[1:])),
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            commit=commit(),
            machine={**described(), **self._stage.versions},
            rows=self.rows,
            more=more,
        )

    def _selection(self, setups: Sequence[Setup], spans: Spans) -> Report:
        rows = rows_of(setups, self._stage, spans.times(self._options.length))
        uvloop.run(self._keep(rows, sum(len(setup.runs) for setup in setups)))
        return self.report(burst=uvloop.run(burst(self._stage)))

    async def _keep(self, rows: AsyncIterable[Row], total: int) -> None:
        bar = self._progress.add_task("", total=total)
        async for row in rows:
            self.rows.append(row)
            self._progress.update(bar, advance=1, description=row.setup)

    def _shares(self, name: str) -> Callable[[float], None]:
        bar = self._progress.add_task(name, total=1.0)
        return lambda share: self._progress.update(bar, completed=share)


def main() -> None:
    """Measure, or write down what was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", choices=("short", "full", "peers", "footprint", "scaling", "profile", "page"))
    parser.add_argument("--rounds", type=positive(int), default=ROUNDS, help="of peers")
    parser.add_argument("--requests", type=positive(int), default=FEWEST_REQUESTS, help="of footprint")
    parser.add_argument("--minutes", type=positive(float), default=FEWEST_MINUTES, help="of faults, of footprint")
    parser.add_argument(
        "--length", type=positive(float), default=1.0, help="multiplies all spans; below 1 nothing is kept"
    )
    options = parser.parse_args()
    need(*NEEDS.get(options.what, ()))
    with ended_when_told():
        _do(options)


def _do(options: argparse.Namespace) -> None:
    if options.what == "page":
        draw()
        PAGE.write_text(page())
        SCALING.write_text(scaling_page())
    elif options.what == "profile":
        uvloop.run(show_profiles())
    else:
        _measure(options, _console())


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else IN_A_FILE)


def _measure(options: argparse.Namespace, console: Console) -> None:
    server_core, other_core = cores()
    os.sched_setaffinity(0, {other_core})
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with tempfile.TemporaryDirectory() as directory, Progress(*columns, console=console) as progress:
        stage = Stage(
            server_core=server_core, other_core=other_core, directory=Path(directory), say=progress.console.print
        )
        bench = Bench(stage, progress, options)
        try:
            report: Report = getattr(bench, options.what)()
        except BaseException:
            if bench.rows:  # a run that ends early does not lose them
                _show(bench.report(), console)
                bench.report().write(f"trial-{options.what}")
            raise
    _show(report, console)
    if options.what in GOALS:
        console.print(table_of_goals(GOALS[options.what](report)))
    is_trial = (
        options.length < 1
        or options.rounds < FEWEST_ROUNDS
        or options.requests < FEWEST_REQUESTS
        or options.minutes < FEWEST_MINUTES
    )
    report.write(f"trial-{options.what}" if is_trial else options.what)


def _show(report: Report, console: Console) -> None:
    console.print(table_of(report.rows, is_wide=console.width >= IN_A_FILE) if report.rows else report.more)


if __name__ == "__main__":
    main()
