"""The plots of docs/benchmarks.md, as SVG that is the same each time it is drawn from the same data."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.goals import first_of_each_load
from bench.rounds import Rounds
from bench.rows import Report, Row
from bench.setups import HIT, LITELLM, MISS, PORTKEY, REDIS_HIT

IMAGES = Path("docs/images")
SIZE = (7.0, 3.6)
PERCENTILES = ("p50", "p90", "p99", "p99.9")

mpl.use("svg")
mpl.rcParams.update(
    {"svg.hashsalt": "llm-provider-service", "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False}
)


def draw() -> None:
    """All of them."""
    IMAGES.mkdir(exist_ok=True)
    full, peers, footprint = (Report.read(name) for name in ("full", "peers", "footprint"))
    rows = first_of_each_load(full.rows)
    _under_load([row for row in rows if row.setup == MISS.name and row.share is not None])
    _beside_peers(Rounds(peers.rows))
    _memory(footprint)


def _under_load(rows: Sequence[Row]) -> None:
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    for name in PERCENTILES:
        axes.plot([100 * (row.share or 0) for row in rows], [row.latency_ms[name] for row in rows], "o-", label=name)
    axes.set(yscale="log", xlabel="load, % of the capacity", ylabel="latency from the due time, ms")
    axes.legend()
    _save(figure, "bench-load")


def _beside_peers(rounds: Rounds) -> None:
    names = (HIT.name, REDIS_HIT.name, MISS.name, PORTKEY, LITELLM)
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    bars = axes.barh(names, [rounds.rps(name) for name in names], color=["C0"] * 3 + ["C7"] * 2)
    axes.bar_label(bars, fmt="{:,.0f}", padding=4)
    axes.invert_yaxis()
    axes.set(xlabel="requests per second, one core, 32 connections, a provider without delay")
    axes.margins(x=0.12)
    _save(figure, "bench-peers")


def _memory(report: Report) -> None:
    figure, axes = plt.subplots(1, 2, figsize=SIZE, layout="constrained", sharey=True)
    for place, name, title in ((axes[0], "requests", "judged misses"), (axes[1], "faults", "a run of faults")):
        answered, mib = zip(*report.more[name]["points"], strict=True)
        place.plot(answered, mib)
        place.set(title=title, xlabel="answers")
    axes[0].set(ylabel="resident memory, MiB", ylim=(0, None))  # both are drawn by now, and share it
    _save(figure, "bench-memory")


def _save(figure: mpl.figure.Figure, name: str) -> None:
    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
