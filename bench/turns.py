"""Ourselves and the peers in turns: the same machine, provider, body and load, in slices of less than a second.

In a round each subject has one slice on the way there and one on the way back, at each load: what is compared lies
seconds apart, and a drift of the machine's speed favours nobody. All servers are up, and all but the one that is asked
are suspended, so that none pays for another one's work. A slice begins with a part that does not count: the resumed
server meets cold caches, timers that are overdue, new connections from the load and old ones to the provider.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace

from bench import peers
from bench.checks import unexpected
from bench.measuring import Spans, Subject, Window, counted, look_up, measured, row_of
from bench.processes import Running, answers
from bench.question import comparison
from bench.rows import Row
from bench.setups import BARE, DIRECT, HIT, LEAN, LITELLM, MISS, PASSED_ON, PORTKEY, REDIS_HIT, Need, Run, Setup, World
from bench.stage import Stage

ROUNDS = 11
SPANS = Spans(warm_s=0.5, counted_s=0.8)
SLOW_TO_RESUME = {PORTKEY: 3.0}  # times warm_s: Node's CPU time per answer falls for a second after a suspension
SLOW_TO_ANSWER = {LITELLM: 3.0}  # times counted_s: its answers come in cohorts, a fifth of a second apart
PAUSE_S = 0.1  # all is answered by then; what a server still does in the background ends before it is suspended
WARMING, WARM_ANSWERS, MOST_WARMINGS = Spans(warm_s=0.0, counted_s=3.0), 12_000, 12
MANY, ONE = Run(), Run(connections=1)
ORDERS: Mapping[Run, Sequence[str]] = {  # what is compared stands close together
    MANY: (LITELLM, REDIS_HIT.name, PORTKEY, HIT.name, BARE.name, MISS.name, LEAN.name, PASSED_ON.name, DIRECT),
    ONE: (LITELLM, PORTKEY, DIRECT, MISS.name, PASSED_ON.name),
}
ROWS = sum(map(len, ORDERS.values()))  # of one round


async def rounds(stage: Stage, count: int, spans: Spans) -> AsyncIterator[Row]:
    """One row for each subject and load of each round; one round more comes first and is dropped.

    Raises SystemExit when a subject did not answer, or answered without the provider call that it had to make.
    """
    with ExitStack() as stack:
        world = stack.enter_context(stage.world(needs=(Need.REDIS,)))
        subjects = {subject.name: subject async for subject in _subjects(stage, stack, world)}
        for subject in subjects.values():
            _pause(subject.server, world)
        for subject in subjects.values():
            await _warmed(subject, world)
        for number in range(count + 1):
            for run, order in ORDERS.items():
                async for row in _round([subjects[name] for name in order], run, spans, world):
                    if told := unexpected(row):
                        raise SystemExit(told)
                    if number > 0:
                        yield row


async def _round(subjects: Sequence[Subject], run: Run, spans: Spans, world: World) -> AsyncIterator[Row]:
    windows: dict[str, list[Window]] = {subject.name: [] for subject in subjects}
    for subject in (*subjects, *reversed(subjects)):
        async with _its_turn(subject.server, world):
            windows[subject.name].append(await counted(subject, run, _spans_of(subject, spans)))
    for subject in subjects:
        yield row_of(subject, run, windows[subject.name])


def _spans_of(subject: Subject, spans: Spans) -> Spans:
    return replace(
        spans,
        warm_s=spans.warm_s * SLOW_TO_RESUME.get(subject.name, 1.0),
        counted_s=spans.counted_s * SLOW_TO_ANSWER.get(subject.name, 1.0),
    )


async def _subjects(stage: Stage, stack: ExitStack, world: World) -> AsyncIterator[Subject]:
    def subject(name: str, server: Running, request: Callable[[], bytes]) -> Subject:
        return Subject(name=name, server=server, provider=world.provider, request=request)

    def started(setup: Setup) -> Subject:
        request = comparison(headers={}, provider=setup.provider, is_new=setup.is_new)
        return subject(setup.name, stack.enter_context(stage.server(setup, world)), request)

    miss = started(MISS)
    if not answers(miss.server.port, miss.request()):
        raise SystemExit("the first question was not answered")
    body = await look_up(world.provider, "/last")  # what our service sends to the provider
    yield miss
    for setup in (PASSED_ON, HIT, REDIS_HIT, BARE, LEAN):
        yield started(setup)
    yield subject(PORTKEY, stack.enter_context(peers.portkey(stage)), peers.chat_through_portkey(body, world))
    yield subject(LITELLM, stack.enter_context(peers.litellm(stage, world)), peers.chat(body))
    yield subject(DIRECT, world.provider, peers.chat(body))


async def _warmed(subject: Subject, world: World) -> None:
    """A just-in-time compiler needs thousands of questions."""
    given, spans = 0, 0
    async with _its_turn(subject.server, world):
        while given < WARM_ANSWERS and spans < MOST_WARMINGS:
            given += (await measured(subject, MANY, WARMING)).requests
            spans += 1


@asynccontextmanager
async def _its_turn(server: Running, world: World) -> AsyncIterator[None]:
    server.resume()
    yield
    await asyncio.sleep(PAUSE_S)
    _pause(server, world)


def _pause(server: Running, world: World) -> None:
    if server is not world.provider:
        server.pause()
