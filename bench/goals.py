"""The targets and whether they are met: every figure is computed from the raw data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from statistics import median

from bench.intervals import interval
from bench.rounds import Rounds
from bench.rows import Report, Row
from bench.setups import BARE, HIT, LITELLM, MISS, PASSED_ON, PORTKEY, REDIS_HIT

HALF = 0.5
SETTLED = 0.1  # of a run: by then the caches are full
MB_PER_MIB = 2**20 / 1e6


class Met(StrEnum):
    """Whether a target is met: by the whole interval, by none of it, or by a part of it."""

    YES = "yes"
    NO = "**no**"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One target. bound: the worst figure that meets it; at_least: whether it is the least, not the most.

    figures: one for each round, window or start, or a single one. form: how a figure is written. pass_through: the
    median of a bare route that only passes the question on, where it is comparable.
    """

    target: str
    bound: float
    figures: Sequence[float]
    form: str = "{:.2f}"
    at_least: bool = False
    pass_through: float | None = None

    @property
    def found(self) -> float:
        """The median."""
        return median(self.figures)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the median; a single figure has none but itself."""
        return interval(self.figures)

    @property
    def met(self) -> Met:
        """Undecided when the bound lies within the interval."""
        answers = {(end >= self.bound if self.at_least else end <= self.bound) for end in self.interval}
        if len(answers) > 1:
            return Met.UNDECIDED
        return Met.YES if answers.pop() else Met.NO

    @property
    def cells(self) -> tuple[str, ...]:
        """As a row of a table: the target, its bound, the figure, its interval, pass_through and whether it is met."""
        sign = "≥" if self.at_least else "≤"
        spread = "\N{EN DASH}".join(map(self.form.format, self.interval)) if len(self.figures) > 1 else ""
        pass_through = "" if self.pass_through is None else self.form.format(self.pass_through)
        bound, found = (self.form.format(figure) for figure in (self.bound, self.found))
        return self.target, f"{sign} {bound}", found, spread, pass_through, self.met


def goals(full: Report, peers: Report, footprint: Report) -> Iterator[Goal]:
    """All of them."""
    yield from of_peers(peers)
    yield from of_full(full)
    yield from of_footprint(footprint)


def of_peers(report: Report) -> Iterator[Goal]:
    """Those that compare subjects measured in turns."""
    rounds = Rounds(report.rows)

    def throughput(ours: str, theirs: str) -> Sequence[float]:
        return rounds.ratios(ours, theirs, lambda row: row.achieved_rps)

    def cpu(ours: str) -> Sequence[float]:
        return rounds.ratios(ours, BARE.name, lambda row: row.cpu_ms)

    for target, ours, theirs, bound in (
        (f"throughput of judged misses ÷ {PORTKEY}", MISS, PORTKEY, 2.0),
        (f"throughput of judged misses ÷ {LITELLM}", MISS, LITELLM, 20.0),
        (f"throughput of local hits ÷ misses of the {PORTKEY}", HIT, PORTKEY, 3.0),
        (f"throughput of Redis hits ÷ misses of the {PORTKEY}", REDIS_HIT, PORTKEY, 1.5),
    ):
        yield Goal(
            target=target,
            bound=bound,
            figures=throughput(ours.name, theirs),
            at_least=True,
            pass_through=median(throughput(PASSED_ON.name, theirs)) if ours is MISS else None,
        )
    yield Goal(
        target=f"latency added by a judged miss ÷ by the {PORTKEY} (p50, one connection)",
        bound=0.75,
        figures=rounds.added_ratios(MISS.name, PORTKEY),
        pass_through=median(rounds.added_ratios(PASSED_ON.name, PORTKEY)),
    )
    yield Goal(target="CPU time of a local hit ÷ bare Quart route", bound=1.8, figures=cpu(HIT.name))
    yield Goal(
        target="CPU time of a judged miss ÷ bare Quart route",
        bound=2.9,
        figures=cpu(MISS.name),
        pass_through=median(cpu(PASSED_ON.name)),
    )


def at_half(report: Report) -> Sequence[Row]:
    """Judged misses at half of the capacity, window by window."""
    return [row for row in report.rows if (row.setup, row.share) == (MISS.name, HALF)]


def first_of_each_load(rows: Sequence[Row]) -> Sequence[Row]:
    """Without the further windows of a load that was measured again."""
    first: dict[object, Row] = {}
    for row in rows:
        first.setdefault((row.setup, row.connections, row.share), row)
    return list(first.values())


def of_full(report: Report) -> Iterator[Goal]:
    """Those of the service alone, at every load."""
    yield Goal(
        target="service time of a judged miss at 50 % of capacity (p99)",
        bound=10.0,
        figures=[row.overhead_ms["p99"] for row in at_half(report)],
        form="{:.1f} ms",
    )
    yield from of_short(report)


def of_short(report: Report) -> Iterator[Goal]:
    """Those that the short selection measures, too."""
    burst = report.more["burst"]
    target = f"provider calls for {burst['callers']} identical questions at once"
    yield Goal(target=target, bound=1, figures=[burst["upstream_calls"]], form="{:.0f}")


def of_footprint(report: Report) -> Iterator[Goal]:
    """Those of starting and of running for long."""
    starts, requests, faults = (report.more[name] for name in ("starts", "requests", "faults"))
    idle_mb = [MB_PER_MIB * mib for mib in starts["idle_mib"]]
    yield Goal(target="resident memory when idle", bound=120, figures=idle_mb, form="{:.0f} MB")
    for run, length in (
        (requests, f"{requests['answered']:,} requests"),
        (faults, f"{faults['seconds'] / 60:.0f} minutes of faults"),
    ):
        target = f"change of resident memory over {length}"
        yield Goal(target=target, bound=0.05, figures=[drift(run["points"])], form="{:.1%}")
    yield Goal(target="from process start to the first verdict", bound=2.0, figures=starts["start_s"], form="{:.1f} s")


def drift(points: Sequence[tuple[int, float]]) -> float:
    """The largest relative change of memory, up or down, after the caches were full. points: answers, MiB."""
    settled = points[int(SETTLED * len(points)) :]
    before = settled[0][1]
    return max(abs(mib / before - 1) for _, mib in settled)
