"""Identical work under way is done once, and nobody who leaves takes it along."""

import asyncio
import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exceptions import ProviderUnavailableError, ServiceStoppingError
from implementations.resilience.single_flight import SingleFlight, result_of
from implementations.resilience.stalls import any_done
from tests.fakes import settle
from tests.virtual_loop import arriving_during_a_stall, in_virtual_time


class Work:
    """Counts its runs and ends when the test says so."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.runs = 0
        self.ended = 0
        self.go = asyncio.Event()
        self._failure = failure

    async def __call__(self) -> str:
        self.runs += 1
        await self.go.wait()
        self.ended += 1
        if self._failure is not None:
            raise self._failure
        return "done"


def board(flights: SingleFlight[str], work: Work, count: int) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(flights.join("key", work)) for _ in range(count)]


async def test_two_hundred_identical_callers_cause_one_piece_of_work() -> None:
    flights, work = SingleFlight[str](), Work()
    callers = board(flights, work, 200)
    await settle()
    assert work.runs == len(flights.tasks) == 1
    work.go.set()
    assert await asyncio.gather(*callers) == ["done"] * 200
    assert work.runs == 1


async def test_a_first_caller_that_leaves_does_not_cancel_the_flight() -> None:
    flights, work = SingleFlight[str](), Work()
    first, *others = board(flights, work, 3)
    await settle()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.go.set()
    assert await asyncio.gather(*others) == ["done"] * 2
    assert work.runs == 1


async def test_a_waiter_that_leaves_does_not_cancel_the_flight() -> None:
    flights, work = SingleFlight[str](), Work()
    first, leaving, staying = board(flights, work, 3)
    await settle()
    leaving.cancel()
    work.go.set()
    assert [*await asyncio.gather(first, staying)] == ["done", "done"]
    assert leaving.cancelled()


async def test_a_flight_that_everybody_left_goes_on_to_its_end() -> None:
    flights, work = SingleFlight[str](), Work()
    callers = board(flights, work, 5)
    await settle()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    (flight,) = flights.tasks
    work.go.set()
    assert await flight == "done"
    assert work.ended == 1


async def test_who_comes_after_everybody_left_still_joins_the_flight() -> None:
    flights, work = SingleFlight[str](), Work()
    (first,) = board(flights, work, 1)
    await settle()
    first.cancel()
    await settle()
    (late,) = board(flights, work, 1)
    await settle()
    work.go.set()
    assert await late == "done"
    assert work.runs == 1


async def test_what_the_work_raises_every_waiter_raises() -> None:
    failure = ProviderUnavailableError("overloaded")
    flights, work = SingleFlight[str](), Work(failure)
    callers = board(flights, work, 20)
    await settle()
    work.go.set()
    assert await asyncio.gather(*callers, return_exceptions=True) == [failure] * 20
    assert flights.tasks == frozenset()


async def test_a_failed_flight_that_everybody_left_is_not_reported_as_forgotten() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    flights, work = SingleFlight[str](), Work(ValueError("nobody reads this"))
    (only,) = board(flights, work, 1)
    await settle()
    only.cancel()
    await settle()
    del only  # its frames hold the flight
    work.go.set()
    await settle()
    gc.collect()
    assert work.ended == 1
    assert complaints == []


async def test_a_cancelled_flight_tells_its_waiters_that_the_service_stops() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    flights, work = SingleFlight[str](), Work()
    callers = board(flights, work, 3)
    await settle()
    for flight in flights.tasks:
        flight.cancel()
    failures = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(failure) for failure in failures] == [ServiceStoppingError] * 3
    assert flights.tasks == frozenset()
    assert complaints == []


@in_virtual_time
async def test_who_waits_gets_what_came_while_the_loop_stood_still() -> None:
    async def work() -> str:
        await arriving_during_a_stall(3600.0)
        return "done"

    flight = SingleFlight[str]().board("key", work)
    assert await any_done(flight, within_s=30.0)
    assert result_of(flight) == "done"


@in_virtual_time
async def test_who_waits_while_the_loop_runs_leaves_on_time() -> None:
    began_s = asyncio.get_running_loop().time()
    assert not await any_done(SingleFlight[str]().board("key", Work()), within_s=30.0)
    assert asyncio.get_running_loop().time() == began_s + 30.0


async def test_only_who_started_the_flight_answers_for_it() -> None:
    flights, work, started = SingleFlight[str](), Work(), list[asyncio.Task[str]]()
    boarded = [flights.board("key", work, on_start=started.append) for _ in range(3)]
    await settle()
    assert started == list(flights.tasks)
    work.go.set()
    await asyncio.gather(*boarded)


async def test_different_keys_fly_apart() -> None:
    flights, one, other = SingleFlight[str](), Work(), Work()
    callers = [asyncio.create_task(flights.join(key, work)) for key, work in (("one", one), ("other", other))]
    await settle()
    assert len(flights.tasks) == 2
    one.go.set()
    await settle()
    assert callers[0].done()
    assert not callers[1].done()
    other.go.set()
    assert await asyncio.gather(*callers) == ["done", "done"]


async def test_nothing_is_kept_after_the_landing_and_the_next_caller_starts_anew() -> None:
    flights, work = SingleFlight[str](), Work()
    work.go.set()
    assert await flights.join("key", work) == "done"
    await settle()
    assert flights.tasks == frozenset()
    assert await flights.join("key", work) == "done"
    assert work.runs == 2


@settings(max_examples=50)
@given(keys=st.lists(st.integers(0, 5), max_size=40), leaving=st.sets(st.integers(0, 39)))
def test_whoever_stays_gets_the_result_of_their_key_from_one_run(keys: list[int], leaving: set[int]) -> None:
    async def scene() -> None:
        flights = SingleFlight[int]()
        runs: list[int] = []
        go = asyncio.Event()

        async def work(key: int) -> int:
            runs.append(key)
            await go.wait()
            return key * 10

        async def ask(key: int) -> int:
            return await flights.join(key, lambda: work(key))

        callers = [asyncio.create_task(ask(key)) for key in keys]
        await settle()
        for place in leaving & set(range(len(callers))):
            callers[place].cancel()
        await settle()
        go.set()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        await settle()
        assert sorted(runs) == sorted(set(keys))
        for place, (key, answer) in enumerate(zip(keys, answers, strict=True)):
            if place in leaving:
                assert isinstance(answer, asyncio.CancelledError)
            else:
                assert answer == key * 10
        assert flights.tasks == frozenset()

    asyncio.run(scene())
