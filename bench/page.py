"""Writes docs/benchmarks.md from the raw data of bench/results; no result in it is typed by hand."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from bench.goals import SETTLED, at_half, first_of_each_load, goals
from bench.rounds import MANY, ONE, Rounds
from bench.rows import Report, Row
from bench.setups import BARE, DIRECT, HIT, LEAN, LITELLM, MISS, PASSED_ON, PORTKEY, REDIS_HIT
from bench.table import GOAL_HEADINGS, HEADINGS, cells_of
from tools.generated import replaced

PAGE, SCALING = Path("docs/benchmarks.md"), Path("docs/scaling.md")
TEXT = Path("bench/page.md")
SUBJECTS = (DIRECT, BARE.name, LEAN.name, PASSED_ON.name, MISS.name, HIT.name, REDIS_HIT.name, PORTKEY, LITELLM)


def page() -> str:
    """The text in bench/page.md with the tables in the places of their marks."""
    full, peers, footprint = (Report.read(name) for name in ("full", "peers", "footprint"))
    tables = {
        "targets": _targets(full, peers, footprint),
        "machine": _machine(full, peers, footprint),
        "alone": _alone(first_of_each_load(full.rows)),
        "outside": _outside(full),
        "peers": _peers(Rounds(peers.rows)),
        "by round": _by_round(Rounds(peers.rows)),
        "rounds": _rounds(peers),
        "leanest": _leanest(Rounds(peers.rows)),
        "redis": _redis(Rounds(peers.rows)),
        "footprint": _footprint(footprint),
    }
    text = TEXT.read_text()
    for name, lines in tables.items():
        text = text.replace(f"<!-- {name} -->", "\n".join(lines))
    return text


def scaling_page() -> str:
    """docs/scaling.md with fresh tables between its marks."""
    found, text = Report.read("scaling"), SCALING.read_text()
    for name, lines in (
        ("source", _source(found)),
        ("sizes", _sizes(found)),
        ("restarts", _restarts(found)),
        ("under way", _under_way(found)),
    ):
        text = replaced(text, name, "\n".join(lines))
    return text


def _source(found: Report) -> Iterator[str]:
    beside = [found.machine[name] for name in ("processor", "Redis server", "HAProxy") if name in found.machine]
    yield f"Measured {found.date} with `{found.command}` at {found.commit},"
    yield f"on {', '.join(beside)}."


def _targets(full: Report, peers: Report, footprint: Report) -> Iterator[str]:
    yield f"| {' | '.join(GOAL_HEADINGS)} |"
    yield "|" + "---|" * len(GOAL_HEADINGS)
    for goal in goals(full, peers, footprint):
        yield f"| {' | '.join(goal.cells)} |"


def _machine(*reports: Report) -> Iterator[str]:
    facts = [report.machine for report in reports] + [reports[1].more["versions"]]
    names = dict.fromkeys(name for each in facts for name in each)
    yield "| | |\n|---|---|"
    for name in names:
        values = dict.fromkeys(str(each[name]) for each in facts if name in each)  # of several machines, perhaps
        yield f"| {name} | {', '.join(values)} |"
    for report in reports:
        yield f"| `{report.command}` | {report.date}, commit {report.commit} |"


def _alone(rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|" + "---|" * len(HEADINGS)
    yield from (f"| {' | '.join(cells_of(row))} |" for row in rows)


def _outside(full: Report) -> Iterator[str]:
    """What the target at half of the capacity leaves out."""
    seen = [row.latency_ms["p99"] for row in at_half(full)]
    yield (
        f"At half of the capacity the load generator measured a p99 of {median(seen):.1f} ms "
        f"({min(seen):.1f}\N{EN DASH}{max(seen):.1f}) where the service reports the service time above."
    )


def _peers(rounds: Rounds) -> Iterator[str]:
    yield "| | requests/s | CPU µs | p50 ms, one connection | added, ms | memory, MiB |\n|---|---|---|---|---|---|"
    for name in SUBJECTS:
        memory = rounds.of(name, MANY, lambda row: row.rss_mib)
        alone = [row for row in rounds.rows if (row.setup, row.connections) == (name, ONE)]
        latency = f"{rounds.p50_ms(name):.2f} | {rounds.added_ms(name):.2f}" if alone else " | "
        yield f"| {name} | {rounds.rps(name):,.0f} | {rounds.cpu_us(name):,.0f} | {latency} | {memory:.0f} |"


def _rounds(report: Report) -> Iterator[str]:
    slices, spans = sum(len(row.slices) for row in report.rows) // len(report.rows), report.more["spans"]
    yield (
        f"The table shows medians of {report.more['rounds']} rounds, each with {slices} slices of "
        f"{spans['counted_s']:g} s per subject and load, after {spans['warm_s']:g} s that do not count."
    )


def _by_round(rounds: Rounds) -> Iterator[str]:
    """Portkey's speed beside the memory of its process, which it may give back."""
    numbers = range(1, 1 + len(rounds.each(PORTKEY, MANY, lambda row: row.rss_mib)))
    lines = (
        ("round", "d", numbers),
        ("its memory, MiB", ".0f", rounds.each(PORTKEY, MANY, lambda row: row.rss_mib)),
        ("its answers/s", ",.0f", rounds.each(PORTKEY, MANY, lambda row: row.achieved_rps)),
        (
            "judged misses \N{DIVISION SIGN} its answers",
            ".2f",
            rounds.ratios(MISS.name, PORTKEY, lambda row: row.achieved_rps),
        ),
    )
    table = [f"| {name} | {' | '.join(format(figure, kind) for figure in figures)} |" for name, kind, figures in lines]
    yield from (table[0], "|" + "---|" * (1 + len(numbers)), *table[1:])


def _leanest(rounds: Rounds) -> Iterator[str]:
    """The targets for CPU time, measured against the least that a route can cost."""
    shares = [rounds.ratios(name, LEAN.name, lambda row: row.cpu_ms) for name in (BARE.name, HIT.name, MISS.name)]
    bare, hit, miss = map(median, shares)
    yield (
        f"Against the leanest route that we could write, the plain one takes {bare:.2f} times as much CPU time, a "
        f"local hit {hit:.2f} times and a judged miss {miss:.2f} times as much."
    )


def _redis(rounds: Rounds) -> Iterator[str]:
    """What an exchange with Redis costs: an answer from it beside a local one."""
    redis, local = (rounds.each(name, MANY, lambda row: 1000 * row.cpu_ms) for name in (REDIS_HIT.name, HIT.name))
    costs = [theirs - ours for theirs, ours in zip(redis, local, strict=True)]
    spread = f"{min(costs):.0f}\N{EN DASH}{max(costs):.0f}"
    yield f"An answer from Redis takes {median(costs):.0f} µs ({spread}) more CPU time of the service than a local one."


def _footprint(report: Report) -> Iterator[str]:
    yield "| | answers | by status | memory at first, MiB | with full caches | at the end |\n|---|---|---|---|---|---|"
    for name, run in (("judged misses", report.more["requests"]), ("faults", report.more["faults"])):
        known = sum(run["statuses"].values())
        statuses = ", ".join(f"{status}: {count / known:.0%}" for status, count in run["statuses"].items())
        points = [mib for _, mib in run["points"]]
        memory = " | ".join(f"{mib:.0f}" for mib in (points[0], points[int(SETTLED * len(points))], points[-1]))
        yield f"| {name} | {run['answered']:,} | {statuses} | {memory} |"


def _sizes(report: Report) -> Iterator[str]:
    yield "| replicas | computed, answers/s | found | p50 ms | to the provider | to Redis | memory of each, MiB |"
    yield "|---|---|---|---|---|---|---|"
    for size in report.more["sizes"]:
        memory = max(size["rss_mib"])
        yield (
            f"| {size['replicas']} | {size['computed_rps']:.0f} | {size['found_rps']:.1f} | {size['p50_ms']:,.0f} "
            f"| {size['provider_connections']} | {size['redis_connections']} | {memory:.0f} |"
        )


def _restarts(report: Report) -> Iterator[str]:
    yield "| before SIGTERM | seconds | due | answered 200 | refused | lost |"
    yield "|---|---|---|---|---|---|"
    for run in report.more["restarts"]:
        good = run["statuses"].get("200", 0)
        first = "the balancer is told" if run["told_before"] else "nothing"
        refused = run["requests"] - run["lost"] - good
        yield f"| {first} | {run['seconds']:.0f} | {run['requests']:,} | {good:,} | {refused} | {run['lost']} |"


def _under_way(report: Report) -> Iterator[str]:
    found = report.more["under_way"]
    count, kb, kib = found["questions"], found["question_bytes"] / 1000, found["kib_each"]
    yield f"{count} questions of {kb:.0f} KB that waited for their provider took {kib:.0f} KiB each."
