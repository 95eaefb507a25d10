"""What one measurement found, as it is kept in bench/results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from bench.machine import commit, described

RESULTS = Path("bench/results")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one load on one server came to.

    share: of the capacity that was measured just before, None at a closed pace. Latencies count from when a request was
    due, in milliseconds. overhead_ms: total less upstream of Server-Timing. cpu_s: of the server, for
    1,000 answers. load_cpu: the share of a core that the load itself took. histogram: latencies in microseconds, in
    HdrHistogram's own encoding.
    """

    setup: str
    connections: int
    share: float | None
    intended_rps: float | None
    achieved_rps: float
    latency_ms: Mapping[str, float]
    overhead_ms: Mapping[str, float]
    cpu_s: float
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

    @property
    def answers(self) -> float:
        """How many came within the span, whenever they were due."""
        return self.achieved_rps * self.seconds

    @property
    def due_rps(self) -> float | None:
        """What was really due each second at an open pace, whose moments are drawn; None at a closed one."""
        return None if self.intended_rps is None else self.requests / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of a command. more: what is no row."""

    command: str
    date: str
    commit: str
    machine: Mapping[str, str]
    rows: Sequence[Row] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, command: str, rows: Sequence[Row] = (), **more: Any) -> "Report":
        """What was found, with what it depends on."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return cls(
            command=command,
            date=now,
            commit=commit(),
            machine=described(),
            rows=rows,
            more=more,
        )

    @classmethod
    def read(cls, name: str) -> "Report":
        """What an earlier run found. Raises FileNotFoundError."""
        kept = orjson.loads((RESULTS / f"{name}.json").read_bytes())
        return cls(**kept | {"rows": [Row(**row) for row in kept["rows"]]})

    def write(self, name: str) -> None:
        """Keep it."""
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2) + b"\n")
