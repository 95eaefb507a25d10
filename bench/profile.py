"""Where the time of one request goes: a hit and a miss in this process, without sockets, under cProfile.

A profiler makes calls expensive, and server, sockets and the HTTP client are left out: it shows where to look, not how
long it takes. Time is CPU time, over so many requests that its seconds are milliseconds of one.
"""

import contextlib
import cProfile
import io
import pstats
import time

from implementations.background.garbage_collection import tune_garbage_collection
from tests.in_process import in_process, questions
from tests.integration.dialects import OPENAI

WARM, COUNTED = 50, 1000
SHOWN = 70


async def show_profiles() -> None:
    """Print the most expensive functions of a known answer and of a judged miss."""
    for title, is_new in (("local hit", False), ("judged miss", True)):
        with contextlib.redirect_stdout(io.StringIO()):  # the service writes its log there
            profile = await _profile(is_new=is_new)
        print(f"{COUNTED} times a {title}")  # noqa: T201  beside what pstats prints
        pstats.Stats(profile).sort_stats(pstats.SortKey.CUMULATIVE).print_stats(SHOWN)


async def _profile(*, is_new: bool) -> cProfile.Profile:
    body = questions(OPENAI, is_new=is_new)
    async with in_process(OPENAI) as ask:
        for _ in range(WARM):
            await ask(body())
        await tune_garbage_collection()  # as the server does: a full collection would be charged to whom it befalls
        bodies = [body() for _ in range(COUNTED)]
        with cProfile.Profile(time.thread_time) as profile:
            for one in bodies:
                await ask(one)
    return profile
