"""How long a comparison takes while Kafka is well, absent from the start, hung or dead.

Four services are asked in turns, so that the machine's noise falls on all of them.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.outages.callers import Callers
from bench.outages.figures import console, quantile, show
from tests.integration.events_on_kafka import NOBODY, TOPICS, ask, is_empty, kafka_is, with_kafka
from tests.integration.kafka_broker import apache
from tests.integration.service_process import ServiceProcess, service, wait_until

WELL = "well"
CALLERS = 4
NOTICED_S = 30.0
SHARES = {"p50": 0.5, "p99": 0.99}

Times = dict[str, list[list[float]]]


def latency(directory: Path, *, rounds: int, comparisons: int) -> None:
    """Ask each of four services so often in every round, in an order that goes round."""
    with ExitStack() as stack:
        services = _services(directory, stack)
        for running in services.values():
            _measured(running, first=0, count=comparisons)
        times: Times = {state: [] for state in services}
        order = deque(services)
        for turn in range(1, rounds + 1):
            for state in order:
                times[state].append(_measured(services[state], first=turn * comparisons, count=comparisons))
            order.rotate()
    show(f"Comparisons, ms, over {rounds} rounds of {comparisons}", _headings(), [_row(name, times) for name in times])


def _services(directory: Path, stack: ExitStack) -> Mapping[str, ServiceProcess]:
    """Each meets its own Kafka alive but for the one that is absent; then two of them are hit."""
    brokers = {}
    for name in (WELL, "hung", "dead"):
        (directory / name).mkdir()
        brokers[name] = stack.enter_context(apache(directory / name, console.print))
        brokers[name].create(*TOPICS)
    servers = {name: broker.servers for name, broker in brokers.items()} | {"absent": NOBODY}
    services = {name: stack.enter_context(service(directory, with_kafka(at))) for name, at in servers.items()}
    for name in brokers:
        ask(services[name], name, 1)
        wait_until(partial(is_empty, services[name]), within_s=NOTICED_S)
    brokers["hung"].freeze()
    stack.callback(brokers["hung"].thaw)
    brokers["dead"].kill()
    for name in ("hung", "dead"):
        ask(services[name], name, 1, first=1)
        wait_until(partial(kafka_is, services[name], "unhealthy"), within_s=NOTICED_S)
    return services


def _measured(running: ServiceProcess, *, first: int, count: int) -> list[float]:
    callers = Callers(CALLERS)
    asyncio.run(callers.ask(running.port, range(first, first + count)))
    return [one.elapsed_s for one in callers.answered]


def _headings() -> list[str]:
    return ["Kafka", "answered", *SHARES, *(f"{name} : {WELL}, median of rounds" for name in SHARES)]


def _row(state: str, times: Times) -> list[str]:
    pooled = [one for part in times[state] for one in part]
    ratios = {
        name: [
            quantile(mine, share) / quantile(well, share) for mine, well in zip(times[state], times[WELL], strict=True)
        ]
        for name, share in SHARES.items()
    }
    return [
        state,
        f"{len(pooled):,}",
        *(f"{1000 * quantile(pooled, share):.2f}" for share in SHARES.values()),
        *(f"{quantile(ratios[name], 0.5):.3f}" for name in SHARES),
    ]
