"""What was promised and what was found: every figure is computed from the raw data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.rows import Report, Row
from bench.setups import BARE, DIRECT, HIT, LITELLM, MISS, PASSED_ON, PORTKEY, REDIS_HIT

MANY, ONE = 32, 1
HALF = 0.5
SETTLED = 0.1  # of a run: by then the caches are full
MB_PER_MIB = 2**20 / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """promise: as people read it. bound: the worst figure that keeps it. form: how the figures are written.

    found: the median where there were rounds; rounds: the figure of each. passed_on: the median of a bare route that
    only passes the question on.
    """

    promise: str
    found: float
    rounds: Sequence[float] = ()
    bound: float
    form: str = "{:.2f}"
    at_least: bool = False
    passed_on: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the promise is kept."""
        return self._keeps(self.found)

    @property
    def kept(self) -> str:
        """In words; what the median keeps and a single round does not, another run may decide otherwise."""
        if not self.is_met:
            return "**no**"
        return "yes" if all(map(self._keeps, self.rounds)) else "by the median, not in every round"

    def _keeps(self, figure: float) -> bool:
        return figure >= self.bound if self.at_least else figure <= self.bound

    @property
    def told(self) -> tuple[str, ...]:
        """The promise, its bound, what was found, between which figures the single rounds lie, and passed_on."""
        sign = "≥" if self.at_least else "≤"
        spread = f"{min(self.rounds):.2f}\N{EN DASH}{max(self.rounds):.2f}" if self.rounds else ""
        passed_on = "" if self.passed_on is None else self.form.format(self.passed_on)
        return self.promise, f"{sign} {self.form.format(self.bound)}", self.form.format(self.found), spread, passed_on


@dataclass(frozen=True, slots=True)
class Rounds:
    """The rows of several rounds; a figure is the median of all rounds."""

    rows: Sequence[Row]

    def each(self, setup: str, connections: int, figure: Callable[[Row], float]) -> Sequence[float]:
        """The figure of one subject at one load, round by round."""
        return [figure(row) for row in self.rows if (row.setup, row.connections) == (setup, connections)]

    def of(self, setup: str, connections: int, figure: Callable[[Row], float]) -> float:
        """The median of all rounds."""
        return median(self.each(setup, connections, figure))

    def times(self, ours: str, theirs: str, figure: Callable[[Row], float]) -> Sequence[float]:
        """How many times the one is the other at many connections, round by round: a slow minute slows both."""
        return [
            mine / other
            for mine, other in zip(self.each(ours, MANY, figure), self.each(theirs, MANY, figure), strict=True)
        ]

    def added(self, setup: str) -> Sequence[float]:
        """What is added to the median latency of asking the provider directly, in milliseconds, round by round."""
        alone = [self.each(name, ONE, lambda row: row.latency_ms["p50"]) for name in (setup, DIRECT)]
        return [ours - direct for ours, direct in zip(*alone, strict=True)]

    def rps(self, setup: str) -> float:
        """Answers a second at many connections."""
        return self.of(setup, MANY, lambda row: row.achieved_rps)

    def cpu_us(self, setup: str) -> float:
        """Processor time of the server for one answer, in microseconds."""
        return self.of(setup, MANY, lambda row: 1000 * row.cpu_s)

    def p50_ms(self, setup: str) -> float:
        """The median latency at one connection."""
        return self.of(setup, ONE, lambda row: row.latency_ms["p50"])

    def added_ms(self, setup: str) -> float:
        """What is added to asking the provider directly."""
        return median(self.added(setup))


def goals(full: Report, peers: Report, footprint: Report) -> Iterator[Goal]:
    """All of them."""
    yield from of_peers(peers)
    yield from of_full(full)
    yield from of_footprint(footprint)


def of_peers(report: Report) -> Iterator[Goal]:
    """What all of them in turns show."""
    rounds = Rounds(report.rows)
    miss, hit, redis, passed_on = MISS.name, HIT.name, REDIS_HIT.name, PASSED_ON.name

    def speed(ours: str, theirs: str) -> Sequence[float]:
        return rounds.times(ours, theirs, lambda row: row.achieved_rps)

    def added(ours: str) -> Sequence[float]:
        return [mine / other for mine, other in zip(rounds.added(ours), rounds.added(PORTKEY), strict=True)]

    def processor_time(ours: str) -> Sequence[float]:
        return rounds.times(ours, BARE.name, lambda row: row.cpu_s)

    for promise, ours, theirs, bound in (
        (f"a judged miss is so many times as fast as through the {PORTKEY}", miss, PORTKEY, 2.0),
        (f"a judged miss is so many times as fast as through the {LITELLM}", miss, LITELLM, 20.0),
        (f"a local hit is so many times as fast as a miss of the {PORTKEY}", hit, PORTKEY, 3.0),
        (f"a Redis hit is so many times as fast as a miss of the {PORTKEY}", redis, PORTKEY, 1.5),
    ):
        found = speed(ours, theirs)
        passing = median(speed(passed_on, theirs)) if ours == miss else None
        yield Goal(promise=promise, found=median(found), rounds=found, bound=bound, at_least=True, passed_on=passing)
    shares = added(miss)
    promise = f"a judged miss adds so much of what the {PORTKEY} adds to the median, one connection"
    yield Goal(promise=promise, found=median(shares), rounds=shares, bound=0.75, passed_on=median(added(passed_on)))
    for name, ours, bound in (("a local hit", hit, 1.8), ("a judged miss", miss, 2.9)):
        promise = f"{name} takes so many times the processor time of a bare Quart route"
        cpu = processor_time(ours)
        passing = median(processor_time(passed_on)) if ours == miss else None
        yield Goal(promise=promise, found=median(cpu), rounds=cpu, bound=bound, passed_on=passing)


def at_half(report: Report) -> Sequence[Row]:
    """Judged misses at half of the capacity, window by window."""
    return [row for row in report.rows if (row.setup, row.share) == (MISS.name, HALF)]


def of_full(report: Report) -> Iterator[Goal]:
    """What the service shows alone, at every load."""
    halves = [row.overhead_ms["p99"] for row in at_half(report)]
    yield Goal(
        promise="at half of the capacity a judged miss takes beside the provider's call, in 99 of 100 cases and as it "
        "tells itself, at most",
        found=median(halves),
        rounds=halves,
        bound=10.0,
        form="{:.1f} ms",
    )
    yield from of_short(report)


def of_short(report: Report) -> Iterator[Goal]:
    """What a short selection shows."""
    burst = report.more["burst"]
    promise = f"{burst['callers']} identical questions at once buy so many answers"
    yield Goal(promise=promise, found=burst["upstream_calls"], bound=1, form="{:.0f}")


def of_footprint(report: Report) -> Iterator[Goal]:
    """What it takes to start and to run for long."""
    found = report.more
    idle_mb = [MB_PER_MIB * mib for mib in found["starts"]["idle_mib"]]
    yield Goal(promise="memory when idle", found=median(idle_mb), rounds=idle_mb, bound=120, form="{:.0f} MB")
    for promise, run in (
        (f"memory over {found['requests']['answered']:,} requests changes by", found["requests"]),
        (f"memory over {found['faults']['seconds'] / 60:.0f} minutes of faults changes by", found["faults"]),
    ):
        yield Goal(promise=promise, found=drift(run["points"]), bound=0.05, form="{:.1%}")
    start_s = found["starts"]["start_s"]
    promise = "from the start to the first verdict"
    yield Goal(promise=promise, found=median(start_s), rounds=start_s, bound=2.0, form="{:.1f} s")


def drift(points: Sequence[tuple[int, float]]) -> float:
    """The largest change of memory, up or down, after the caches were full."""
    settled = points[int(SETTLED * len(points)) :]
    before = settled[0][1]
    return max(abs(mib / before - 1) for _, mib in settled)
