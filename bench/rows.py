"""The results of a measurement, as they are kept in bench/results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

RESULTS = Path("bench/results")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One uninterrupted part of a measurement. began_s: of the machine's monotonic clock, in seconds.

    cpu_s: CPU time of the server, in seconds. p50_ms: median latency, None when nothing was due.
    """

    began_s: float
    seconds: float
    answers: int
    cpu_s: float
    p50_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The result of one load on one server.

    share: of the capacity that was measured just before, None in a closed loop. Latencies count from when a request
    was due, in milliseconds. overhead_ms: total less upstream of Server-Timing. cpu_ms: CPU time of the server per
    answer. load_cpu: the share of a core that the load generator itself took. histogram: latencies in microseconds, in
    HdrHistogram's own encoding. slices: what all else sums up.
    """

    setup: str
    connections: int
    share: float | None
    intended_rps: float | None
    achieved_rps: float
    latency_ms: Mapping[str, float]
    overhead_ms: Mapping[str, float]
    cpu_ms: float
    rss_mib: float
    seconds: float
    requests: int
    statuses: Mapping[str, int]
    upstream_calls: int
    late: int
    waited: int
    lost: int
    load_cpu: float
    histogram: str = field(repr=False)
    slices: Sequence[Slice] = ()

    @property
    def answers(self) -> float:
        """How many came within the window, whenever they were due."""
        return self.achieved_rps * self.seconds

    @property
    def due_rps(self) -> float | None:
        """What was really due each second in an open loop, whose arrivals are drawn; None in a closed one."""
        return None if self.intended_rps is None else self.requests / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of a command. more: results that are no rows."""

    command: str
    date: str
    commit: str
    machine: Mapping[str, str]
    rows: Sequence[Row] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str) -> "Report":
        """The results of an earlier run. Raises FileNotFoundError."""
        kept = orjson.loads((RESULTS / f"{name}.json").read_bytes())
        return cls(**kept | {"rows": [_row(row) for row in kept["rows"]]})

    def write(self, name: str) -> None:
        """Keep it."""
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_bytes(orjson.dumps(asdict(self)) + b"\n")


def _row(kept: dict[str, Any]) -> Row:
    return Row(**kept | {"slices": [Slice(**one) for one in kept.get("slices", ())]})
