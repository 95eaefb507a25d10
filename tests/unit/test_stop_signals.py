"""The first signal empties the service, a second one ends it; the server hears of both in its own way."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import pytest

from exceptions import ServiceStoppingError
from implementations.background.stop_signals import StopSignals
from implementations.resilience.admission import Admission
from implementations.resilience.drain import POLL_S, Drain
from implementations.resilience.single_flight import SingleFlight
from tests.fakes import settle

TERM, INTERRUPT = signal.SIGTERM, signal.SIGINT


@pytest.fixture
async def heard_by_server() -> AsyncIterator[list[int]]:
    """A server's handlers, and what they were told."""
    heard: list[int] = []
    before = {number: signal.signal(number, lambda told, _: heard.append(told)) for number in (TERM, INTERRUPT)}
    yield heard
    for number, handler in before.items():
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, handler)


class Harness:
    """The signals of a service with one request, which runs until `finish` is set."""

    def __init__(self) -> None:
        self.admission, self.finish = Admission(), asyncio.Event()
        flights = SingleFlight[str]()
        self.signals = StopSignals(
            Drain(self.admission, flights, delay_s=0.0, grace_s=60.0, clock=time.monotonic, sleep=asyncio.sleep)
        )
        self.request = asyncio.create_task(self._handle())

    async def begin_cleanup(self) -> asyncio.Task[None]:
        """The final cleanup, which has begun and takes a minute."""
        begun = asyncio.Event()

        async def send_what_waits() -> None:
            begun.set()
            await asyncio.sleep(60)

        last = asyncio.create_task(self.signals.unless_hurried(send_what_waits()))
        await begun.wait()
        return last

    async def _handle(self) -> None:
        with self.admission.admit():
            await self.finish.wait()


async def received(number: signal.Signals) -> None:
    signal.raise_signal(number)
    await settle()


@pytest.mark.parametrize("number", [TERM, INTERRUPT])
async def test_the_server_is_told_when_the_last_one_has_left(
    number: signal.Signals, heard_by_server: list[int]
) -> None:
    harness = Harness()
    harness.signals.take_over()
    await received(number)
    assert (heard_by_server, harness.admission.is_draining, harness.request.done()) == ([], True, False)
    harness.finish.set()
    await asyncio.wait_for(harness.request, timeout=30)
    await asyncio.sleep(2 * POLL_S)
    assert heard_by_server == [TERM]
    assert not harness.request.cancelled()


async def test_a_second_one_ends_what_runs_and_the_server_and_a_third_changes_nothing(
    heard_by_server: list[int],
) -> None:
    harness = Harness()
    harness.signals.take_over()
    await received(TERM)
    await received(TERM)
    with pytest.raises(ServiceStoppingError):
        await harness.request
    await received(TERM)
    assert heard_by_server == [TERM, INTERRUPT]


async def test_a_second_one_cuts_the_last_work_short(heard_by_server: list[int]) -> None:
    harness = Harness()
    harness.signals.take_over()
    await received(TERM)
    last = await harness.begin_cleanup()
    await received(TERM)
    await asyncio.wait_for(last, timeout=30)
    assert heard_by_server
    harness.request.cancel()


async def test_when_the_server_heard_the_first_one_itself_the_next_one_hurries(heard_by_server: list[int]) -> None:
    harness = Harness()
    harness.signals.take_over()
    last = await harness.begin_cleanup()
    await received(TERM)
    await asyncio.wait_for(last, timeout=30)
    assert heard_by_server
    with pytest.raises(ServiceStoppingError):
        await harness.request


async def test_a_failure_of_the_last_work_is_not_lost() -> None:
    async def fail() -> None:
        raise ValueError("the last work")

    harness = Harness()
    with pytest.raises(ValueError, match="the last work"):
        await harness.signals.unless_hurried(fail())
    harness.request.cancel()


async def test_a_signal_that_nobody_handles_keeps_its_effect(heard_by_server: list[int]) -> None:
    signal.signal(TERM, signal.SIG_DFL)
    signal.signal(INTERRUPT, signal.default_int_handler)
    harness = Harness()
    harness.signals.take_over()
    assert signal.getsignal(TERM) is signal.SIG_DFL
    assert signal.getsignal(INTERRUPT) is signal.default_int_handler
    assert heard_by_server == []
    harness.request.cancel()
    await settle()
