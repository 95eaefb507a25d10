"""Ourselves and the peers in turns: the same machine, provider, body and load, round after round.

All servers are up, and all but the one that is asked stand still, so that none pays for another one's start. Each is
warm before the first round: a just-in-time compiler needs thousands of questions.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from bench import peers
from bench.checks import checked
from bench.measuring import Spans, Subject, measured, provider_tells
from bench.processes import HOST, Running
from bench.question import comparison
from bench.rows import Row
from bench.setups import BARE, DIRECT, HIT, LITELLM, MISS, PASSED_ON, PORTKEY, REDIS_HIT, Need, Run, Setup, World
from bench.stage import Stage

ROUNDS = 5
TURNS = 13  # of one round
SETTLE_S = 0.5  # what is under way when a server is stopped would have timed out when it goes on
SPANS = Spans(warm_s=2.0, watched_s=5.0)
WARMING, WARM_ANSWERS, MOST_WARMINGS = Spans(warm_s=0.0, watched_s=3.0), 12_000, 12
MANY, ONE = Run(), Run(connections=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One subject at one load."""

    subject: Subject
    run: Run


async def rounds(stage: Stage, count: int, spans: Spans) -> AsyncIterator[Row]:
    """One row for each turn of each round; every other round goes backwards, so that a drift favours nobody."""
    with ExitStack() as stack:
        world = stack.enter_context(stage.world(needs=(Need.REDIS,)))
        turns = [turn async for turn in _turns(stage, stack, world)]
        assert len(turns) == TURNS, "the progress bar counts on it"  # noqa: S101
        for turn in turns:
            _pause(turn.subject.server, world)
        for turn in turns:
            if turn.run is MANY:
                await _warmed(turn.subject, world)
        for number in range(count):
            for turn in turns if number % 2 == 0 else reversed(turns):
                async with _its_turn(turn.subject.server, world):
                    yield checked(await measured(turn.subject, turn.run, spans))


async def _turns(stage: Stage, stack: ExitStack, world: World) -> AsyncIterator[Turn]:
    def started(setup: Setup) -> Subject:
        server = stack.enter_context(stage.server(setup, world))
        request = comparison(headers={}, provider=setup.provider, is_new=setup.is_new)
        return Subject(name=setup.name, server=server, provider=world.provider, request=request)

    miss = started(MISS)
    body = await _sent_upstream(miss)

    def other(name: str, server: Running, request: Callable[[], bytes]) -> Subject:
        return Subject(name=name, server=server, provider=world.provider, request=request)

    portkey = other(PORTKEY, stack.enter_context(peers.portkey(stage)), peers.chat_through_portkey(body, world))
    litellm = other(LITELLM, stack.enter_context(peers.litellm(stage, world)), peers.chat(body))
    direct = other(DIRECT, world.provider, peers.chat(body))
    for subject in (miss, started(PASSED_ON), portkey, litellm, direct):
        yield Turn(subject=subject, run=ONE)
        yield Turn(subject=subject, run=MANY)
    for setup in (HIT, REDIS_HIT, BARE):
        yield Turn(subject=started(setup), run=MANY)


async def _sent_upstream(subject: Subject) -> bytes:
    """The body that our service sends to the provider."""
    reader, writer = await asyncio.open_connection(HOST, subject.server.port)
    writer.write(subject.request())
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return await provider_tells(subject.provider, "/last")


async def _warmed(subject: Subject, world: World) -> None:
    answers, spans = 0, 0
    async with _its_turn(subject.server, world):
        while answers < WARM_ANSWERS and spans < MOST_WARMINGS:
            answers += (await measured(subject, MANY, WARMING)).requests
            spans += 1


@asynccontextmanager
async def _its_turn(server: Running, world: World) -> AsyncIterator[None]:
    server.resume()
    yield
    await asyncio.sleep(SETTLE_S)
    _pause(server, world)


def _pause(server: Running, world: World) -> None:
    if server is not world.provider:
        server.pause()
