"""The short and the full selection: every setup with all of its runs, shown as they come."""

from collections.abc import AsyncIterator, Sequence

from bench.checks import unexpected
from bench.measuring import Spans, Subject, measured
from bench.question import comparison
from bench.rows import Row
from bench.setups import CAPACITY, Setup
from bench.stage import Stage


async def rows_of(setups: Sequence[Setup], stage: Stage, spans: Spans) -> AsyncIterator[Row]:
    """One row for each run of each setup. Every run draws arrivals of its own, the same in each report.

    Raises SystemExit in the end when a row had to be left out.
    """
    wrong = []
    for setup in setups:
        with (
            stage.world(delay_ms=setup.delay_ms, sigma=setup.sigma, needs=setup.needs) as world,
            stage.server(setup, world) as server,
        ):
            request = comparison(headers=setup.headers, provider=setup.provider, is_new=setup.is_new)
            subject = Subject(name=setup.name, server=server, provider=world.provider, request=request)
            capacity_rps = 0.0
            for number, run in enumerate(setup.runs):
                rate = run.share and run.share * capacity_rps
                row = await measured(subject, run, spans, rate=rate, seed=number)
                if run == CAPACITY:
                    capacity_rps = row.achieved_rps
                if told := unexpected(row, status=setup.status):
                    wrong.append(told)
                else:
                    yield row
    if wrong:
        raise SystemExit("\n".join(wrong))
