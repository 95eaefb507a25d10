"""Admission tracks the running requests, and the drain waits for them before the service stops."""

import asyncio
from contextlib import suppress

import pytest

from exceptions import ServiceStoppingError
from implementations.resilience.admission import Admission
from implementations.resilience.drain import POLL_S, Drain
from implementations.resilience.single_flight import SingleFlight
from implementations.resilience.stalls import LONGEST_STALL_GRACE_S
from tests.fakes import Clock, InstantSleep, begun, settle


class Harness:
    """Admission, flights and a drain whose sleeping takes no time."""

    def __init__(self, *, delay_s: float = 0.0, grace_s: float = 1.0) -> None:
        self.admission = Admission()
        self.flights = SingleFlight[str]()
        self.clock = Clock()
        self.sleep: InstantSleep = InstantSleep(self.clock)
        self.drain = Drain(
            self.admission, self.flights, delay_s=delay_s, grace_s=grace_s, clock=self.clock, sleep=self.sleep
        )


async def handle(admission: Admission, finish: asyncio.Event) -> str:
    with admission.admit():
        await finish.wait()
        return "served"


async def test_admission_tracks_the_running_requests() -> None:
    admission, finish = Admission(), asyncio.Event()
    requests = [asyncio.create_task(handle(admission, finish)) for _ in range(3)]
    await settle()
    assert admission.inside == frozenset(requests)
    finish.set()
    await asyncio.gather(*requests)
    assert admission.inside == frozenset()


async def test_closed_it_refuses_with_a_hint_when_to_come_back() -> None:
    admission = Admission()
    assert not admission.is_draining
    admission.close()
    assert admission.is_draining
    with pytest.raises(ServiceStoppingError) as refusal, admission.admit():
        pytest.fail("nobody enters")
    assert refusal.value.retry_after_s is not None
    assert refusal.value.retry_after_s > 0


async def test_a_failure_inside_frees_the_place() -> None:
    admission = Admission()
    with pytest.raises(ValueError, match="inside"), admission.admit():
        raise ValueError("inside")
    assert admission.inside == frozenset()


async def test_a_caller_that_leaves_stays_cancelled() -> None:
    admission = Admission()
    task = await begun(handle(admission, asyncio.Event()))
    task.cancel()
    await settle()
    assert task.cancelled()
    assert admission.inside == frozenset()


async def test_who_is_turned_out_answers_that_the_service_stops() -> None:
    admission = Admission()
    task = await begun(handle(admission, asyncio.Event()))
    admission.cancel_all()
    admission.cancel_all()
    with pytest.raises(ServiceStoppingError):
        await task
    assert task.cancelling() == 0
    assert admission.inside == frozenset()


async def test_an_empty_service_drains_at_once() -> None:
    harness = Harness(delay_s=3.0)
    assert await harness.drain.run()
    assert harness.admission.is_draining
    assert harness.sleep.naps == [3.0]


async def test_idle_connections_are_closed_once_nobody_is_admitted_any_more() -> None:
    harness, naps = Harness(delay_s=3.0), list[float]()
    harness.admission.on_close = lambda: naps.extend(harness.sleep.naps)
    await harness.drain.run()
    assert naps == [3.0]


async def test_until_balancers_know_of_the_end_whoever_comes_is_served() -> None:
    harness, end_of_delay = Harness(), asyncio.Event()

    async def delay(_: float) -> None:
        await end_of_delay.wait()

    drain = Drain(harness.admission, harness.flights, delay_s=5.0, grace_s=1.0, clock=harness.clock, sleep=delay)
    draining = await begun(drain.run())
    assert harness.admission.is_draining
    with harness.admission.admit():
        pass
    end_of_delay.set()
    assert await draining
    with pytest.raises(ServiceStoppingError), harness.admission.admit():
        pytest.fail("nobody enters")


async def test_the_drain_waits_for_running_requests() -> None:
    harness, finish = Harness(), asyncio.Event()
    inside = await begun(handle(harness.admission, finish))
    draining = await begun(harness.drain.run())
    assert not draining.done()
    finish.set()
    assert await draining
    assert await inside == "served"


async def test_the_drain_waits_for_flights_that_everybody_left() -> None:
    harness, land = Harness(), asyncio.Event()

    async def work() -> str:
        await land.wait()
        return "bought"

    caller = await begun(harness.flights.join("key", work))
    caller.cancel()
    draining = await begun(harness.drain.run())
    assert not draining.done()
    land.set()
    assert await draining


async def test_after_the_grace_what_remains_is_ended_and_the_drain_says_so() -> None:
    harness = Harness(grace_s=0.2)

    async def work() -> str:
        await asyncio.Event().wait()
        return "never"

    inside = asyncio.create_task(handle(harness.admission, asyncio.Event()))
    flying = asyncio.create_task(harness.flights.join("key", work))
    await settle()
    assert not await harness.drain.run()
    assert (harness.admission.inside, harness.flights.tasks) == (frozenset(), frozenset()), "it waits for their end"
    outcomes = await asyncio.gather(inside, flying, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ServiceStoppingError] * 2
    assert harness.sleep.naps[1:11] == pytest.approx([POLL_S] * 10)


async def test_what_was_answered_during_a_stall_of_our_own_is_served_although_the_grace_is_over() -> None:
    harness, finish = Harness(), asyncio.Event()
    inside = await begun(handle(harness.admission, finish))

    async def stalled(seconds: float) -> None:
        if seconds == POLL_S:
            harness.clock.advance(70.0)
        elif seconds == LONGEST_STALL_GRACE_S:
            finish.set()
            await settle()

    drain = Drain(harness.admission, harness.flights, delay_s=0.0, grace_s=1.0, clock=harness.clock, sleep=stalled)
    assert await drain.run()
    assert await inside == "served"


async def test_who_does_not_end_when_told_to_delays_the_end_by_a_second_at_most() -> None:
    harness, finish = Harness(grace_s=0.2), asyncio.Event()

    async def deaf() -> None:
        with harness.admission.admit():
            while not finish.is_set():
                with suppress(asyncio.CancelledError):
                    await finish.wait()

    inside = await begun(deaf())
    began_s = harness.clock()
    all_ended, took_s = await harness.drain.run(), harness.clock() - began_s
    finish.set()
    await inside
    assert not all_ended
    assert took_s == pytest.approx(1.2)


async def test_the_grace_is_counted_in_seconds_however_slowly_the_loop_turns() -> None:
    harness = Harness(grace_s=1.0)
    inside = await begun(handle(harness.admission, asyncio.Event()))
    began_s = harness.clock()

    async def late(seconds: float) -> None:
        harness.clock.advance(seconds + 0.03)
        await asyncio.sleep(0)

    drain = Drain(harness.admission, harness.flights, delay_s=0.0, grace_s=1.0, clock=harness.clock, sleep=late)
    assert not await drain.run()
    assert harness.clock() - began_s < 1.2
    assert isinstance((await asyncio.gather(inside, return_exceptions=True))[0], ServiceStoppingError)


async def test_an_end_at_once_lets_nobody_in_any_more() -> None:
    harness = Harness()
    harness.drain.abort()
    with pytest.raises(ServiceStoppingError), harness.admission.admit():
        pytest.fail("nobody enters")


async def test_without_grace_the_drain_looks_once_and_ends() -> None:
    harness = Harness(grace_s=0.0)
    inside = await begun(handle(harness.admission, asyncio.Event()))
    assert not await harness.drain.run()
    assert isinstance((await asyncio.gather(inside, return_exceptions=True))[0], ServiceStoppingError)
