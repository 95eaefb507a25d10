"""Where the time of one request goes: a hit and a miss in this process, without sockets, under cProfile.

A profiler makes calls expensive, and server, sockets and the HTTP client are left out: it shows where to look, not how
long it takes. Time is CPU time.
"""

import contextlib
import cProfile
import io
import pstats
import time

from rich.table import Table

from bench.processes import ROOT
from implementations.background.garbage_collection import tune_garbage_collection
from tests.in_process import in_process, questions
from tests.integration.dialects import OPENAI

WARM, COUNTED = 50, 1000
SHOWN = 70
LIBRARIES = "/site-packages/"


async def profiles() -> list[Table]:
    """One table for a known answer and one for a judged miss."""
    with contextlib.redirect_stdout(io.StringIO()):  # the service writes its log there
        return [await _profiled("local hit", is_new=False), await _profiled("judged miss", is_new=True)]


async def _profiled(title: str, *, is_new: bool) -> Table:
    body = questions(OPENAI, is_new=is_new)
    async with in_process(OPENAI) as ask:
        for _ in range(WARM):
            await ask(body())
        await tune_garbage_collection()  # as the server does: a full collection would be charged to whom it befalls
        bodies = [body() for _ in range(COUNTED)]
        with cProfile.Profile(time.thread_time) as profiler:
            for one in bodies:
                await ask(one)
    return _table(title, pstats.Stats(profiler))


def _table(title: str, stats: pstats.Stats) -> Table:
    """The most expensive functions, per request."""
    table = Table("where", "calls", "own µs", "with what it calls, µs", title=title)
    functions = stats.stats.items()  # type: ignore[attr-defined]  # typeshed forgets it
    for (file, line, name), (_, calls, own_s, whole_s, _) in sorted(functions, key=lambda item: -item[1][3])[:SHOWN]:
        place = file.removeprefix(f"{ROOT}/").rpartition(LIBRARIES)[2]
        figures = (f"{calls / COUNTED:.1f}", f"{1e6 * own_s / COUNTED:.0f}", f"{1e6 * whole_s / COUNTED:.0f}")
        table.add_row(f"{place}:{line} {name}", *figures)
    return table
