"""What callers and consumers notice of a Kafka that fails: `python -m bench.broker_outage MEASUREMENT`.

A real broker is used (Maven and Java put it together once). Each measurement prints a table and ends with exit code 1
when something is not as it is promised; `latency` only shows what it found.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.commands import ended_when_told, positive
from bench.machine import need
from bench.outages.figures import PromiseBrokenError, console
from bench.outages.killed import killed
from bench.outages.last_cent import last_cent
from bench.outages.latency import latency
from bench.outages.outage import outage
from bench.outages.publishing import publishing
from tests.integration.kafka_broker import Broker, apache

Measurement = Callable[[Path, argparse.Namespace], None]


def _with_broker(measure: Callable[[Path, Broker, argparse.Namespace], None]) -> Measurement:
    def measured(directory: Path, wanted: argparse.Namespace) -> None:
        with apache(directory, console.print) as broker:
            measure(directory, broker, wanted)

    return measured


def _outage(directory: Path, broker: Broker, wanted: argparse.Namespace) -> None:
    """20,000 comparisons with an outage of a minute in their middle."""
    outage(directory, broker, comparisons=wanted.comparisons, away_s=wanted.away, hangs=wanted.hang)


MEASUREMENTS: Mapping[str, Measurement] = {
    "outage": _with_broker(_outage),
    "kill": _with_broker(lambda directory, broker, wanted: killed(directory, broker, comparisons=wanted.comparisons)),
    "publish": _with_broker(lambda directory, broker, _: publishing(directory, broker)),
    "latency": lambda directory, wanted: latency(directory, rounds=wanted.rounds, comparisons=wanted.comparisons),
    "budget": lambda directory, wanted: last_cent(directory, requests=wanted.comparisons, rounds=wanted.rounds),
}
WITH_KAFKA = MEASUREMENTS.keys() - {"budget"}
COMPARISONS = {"outage": 20_000, "kill": 6_000, "publish": 0, "latency": 500, "budget": 500}
ROUNDS = {"latency": 10, "budget": 3}


def main() -> int:
    """Run one measurement in a folder of its own."""
    parser = argparse.ArgumentParser(prog="python -m bench.broker_outage", description=__doc__)
    parser.add_argument("measurement", choices=MEASUREMENTS)
    parser.add_argument("--comparisons", type=positive(int), help="how many; of each service and round for latency")
    parser.add_argument("--rounds", type=positive(int), help="of latency and budget")
    parser.add_argument("--away", type=positive(float), default=60.0, help="length of the outage, seconds")
    parser.add_argument("--hang", action="store_true", help="the broker is stopped (SIGSTOP) instead of killed")
    wanted = parser.parse_args()
    if wanted.measurement in WITH_KAFKA:
        need("java", "mvn")
    wanted.comparisons = wanted.comparisons or COMPARISONS[wanted.measurement]
    wanted.rounds = wanted.rounds or ROUNDS.get(wanted.measurement, 1)
    with ended_when_told(), tempfile.TemporaryDirectory() as directory:
        try:
            MEASUREMENTS[wanted.measurement](Path(directory), wanted)
        except PromiseBrokenError as broken:
            console.print(f"[red]broken[/red] {broken}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
