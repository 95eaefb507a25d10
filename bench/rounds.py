"""What several rounds found: figures and ratios, round by round and as medians."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.rows import Row
from bench.setups import DIRECT

MANY, ONE = 32, 1


@dataclass(frozen=True, slots=True)
class Rounds:
    """The rows of several rounds, in each of which every subject was measured at every load."""

    rows: Sequence[Row]

    def each(self, setup: str, connections: int, figure: Callable[[Row], float]) -> Sequence[float]:
        """The figure of one subject at one load, round by round."""
        return [figure(row) for row in self.rows if (row.setup, row.connections) == (setup, connections)]

    def of(self, setup: str, connections: int, figure: Callable[[Row], float]) -> float:
        """The median of all rounds."""
        return median(self.each(setup, connections, figure))

    def ratios(self, ours: str, theirs: str, figure: Callable[[Row], float]) -> Sequence[float]:
        """Our figure divided by theirs at many connections, round by round: a slow minute slows both."""
        return _quotients(self.each(ours, MANY, figure), self.each(theirs, MANY, figure))

    def added(self, setup: str) -> Sequence[float]:
        """What is added to the median latency of asking the provider directly, in milliseconds, round by round."""
        alone = [self.each(name, ONE, lambda row: row.latency_ms["p50"]) for name in (setup, DIRECT)]
        return [ours - direct for ours, direct in zip(*alone, strict=True)]

    def added_ratios(self, ours: str, theirs: str) -> Sequence[float]:
        """What we add divided by what they add, round by round."""
        return _quotients(self.added(ours), self.added(theirs))

    def rps(self, setup: str) -> float:
        """Answers per second at many connections."""
        return self.of(setup, MANY, lambda row: row.achieved_rps)

    def cpu_us(self, setup: str) -> float:
        """CPU time of the server per answer, in microseconds."""
        return self.of(setup, MANY, lambda row: 1000 * row.cpu_ms)

    def p50_ms(self, setup: str) -> float:
        """The median latency at one connection."""
        return self.of(setup, ONE, lambda row: row.latency_ms["p50"])

    def added_ms(self, setup: str) -> float:
        """What is added to the median latency of asking the provider directly."""
        return median(self.added(setup))


def _quotients(ours: Sequence[float], theirs: Sequence[float]) -> Sequence[float]:
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]
