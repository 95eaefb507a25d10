"""More questions than a provider has slots for, for minutes: what is bought is answered, however long the queue."""

import asyncio

import pytest

from api_models import ProviderName, ShedReason
from di import guarded
from exceptions import CircuitOpenError, ServiceError, ServiceOverloadedError
from implementations.observability.no_tracing import NoTracing
from implementations.resilience.call import Call, Deadline, calling
from implementations.resilience.circuit_breaker import CircuitRules
from implementations.resilience.provider_guards import guards_of
from protocols import ProviderReply, ProviderRequest, TimeShare
from tests.fakes import Calendar, FixedPrices, accounting_of, new_metrics, reply, request, unlimited
from tests.virtual_loop import in_virtual_time

SLOTS = 4
REQUEST_S, ATTEMPT_S = 55.0, 30.0


class Crowd:
    """Asks one provider that takes takes_s for each answer; its queue holds 100. On the event loop's time."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s
        self.calls = self.answers = self.answers_in_time = 0
        metrics, clock = new_metrics(), asyncio.get_running_loop().time
        guards = guards_of(
            ProviderName.ANTHROPIC, CircuitRules(), slots=SLOTS, queue_limit=100, metrics=metrics, clock=clock
        )
        accounting = accounting_of(FixedPrices(), metrics=metrics, now=Calendar(), clock=clock)
        self._provider = guarded(
            self, guards, accounting, unlimited(), sleep=asyncio.sleep, tracer=NoTracing()
        ).provider

    async def generate_comparison(self, _: ProviderRequest) -> ProviderReply:
        self.calls += 1
        await asyncio.sleep(self.takes_s)
        self.answers += 1
        return reply()

    async def probe(self) -> str:
        return "fine"

    async def ask(self, waits_s: float = REQUEST_S, share: TimeShare = TimeShare.ALL) -> ProviderReply | ServiceError:
        """A flight, which gets this share of the request's time; its caller leaves after waits_s."""
        clock = asyncio.get_running_loop().time
        deadline = Deadline(expires_at_s=clock() + REQUEST_S, attempt_timeout_s=ATTEMPT_S, clock=clock)
        own = deadline.share(share)
        caller_leaves = own.at_most(clock() + waits_s)
        asked = Call(deadline=deadline, purchase_deadline=deadline, holds_slot_for=lambda _: None)
        with calling(asked.for_flight(own, caller_leaves)):
            try:
                answer = await self._provider.generate_comparison(request())
            except ServiceError as failure:
                return failure
        self.answers_in_time += caller_leaves.remaining_s() > 0
        return answer

    async def ask_at_once(self, number: int) -> list[ProviderReply | ServiceError]:
        await self.ask()  # from then on it is known how long an answer takes
        return await asyncio.gather(*(self.ask() for _ in range(number)))


@pytest.mark.parametrize("waits_s", [REQUEST_S, 22.0])
@in_virtual_time
async def test_in_a_lasting_overload_nobody_is_sold_a_call_that_ends_too_late(waits_s: float) -> None:
    crowd = Crowd(takes_s=10.0)
    await crowd.ask()
    asked = []
    for _ in range(300):  # one a second, 2.5 times what the slots can answer
        asked.append(asyncio.create_task(crowd.ask(waits_s)))
        await asyncio.sleep(1.0)
    outcomes = await asyncio.gather(*asked)
    refused = [one for one in outcomes if isinstance(one, ServiceOverloadedError)]
    assert crowd.calls == crowd.answers == crowd.answers_in_time == 1 + len(outcomes) - len(refused)
    assert crowd.answers >= 300 * SLOTS / crowd.takes_s, "no slot was ever idle"
    assert {one.shed for one in refused} == {ShedReason.QUEUE_TIMEOUT}
    assert all(one.ran_out_of_time for one in refused)


@pytest.mark.parametrize(("takes_s", "rows"), [(8.0, 6), (24.0, 2)])  # the last row waits for 40 s, or 24
@in_virtual_time
async def test_a_burst_is_answered_as_far_as_the_time_allows(takes_s: float, rows: int) -> None:
    assert await Crowd(takes_s).ask_at_once(rows * SLOTS) == [reply()] * rows * SLOTS


@in_virtual_time
async def test_a_burst_after_a_start_waits_as_long_as_any_answer_may_still_come() -> None:
    """Nobody knows yet how long one takes; the last of these waits for 51 s of the 55."""
    crowd = Crowd(takes_s=3.0)
    assert await asyncio.gather(*(crowd.ask() for _ in range(18 * SLOTS))) == [reply()] * 18 * SLOTS


@in_virtual_time
async def test_a_queue_does_not_hide_from_the_circuit_that_a_provider_hangs_while_another_may_be_asked() -> None:
    """Its calls have the time in which silence counts against it; else all were cut short, and none would count."""
    crowd = Crowd(takes_s=3.0)
    for _ in range(20):
        await crowd.ask()
    crowd.calls, crowd.takes_s = 0, 1000.0
    asked = []
    for _ in range(120):  # one a second
        asked.append(asyncio.create_task(crowd.ask(share=TimeShare.HALF)))
        await asyncio.sleep(1.0)
    outcomes = await asyncio.gather(*asked)
    refused = [one for one in outcomes if isinstance(one, CircuitOpenError)]
    assert crowd.calls < 3 * SLOTS
    assert len(refused) > len(outcomes) / 2


@pytest.mark.parametrize(
    ("request_s", "attempt_s", "share", "waits_s"),
    [
        (55.0, 30.0, TimeShare.ALL, 50.5),
        (55.0, 30.0, TimeShare.MOST, 50.25),
        (55.0, 30.0, TimeShare.HALF, 15.5),
        (20.0, 20.0, TimeShare.HALF, 5.5),  # two fifths of an attempt timeout are most of its ten seconds
        (20.0, 8.0, TimeShare.HALF, 5.5),
    ],
)
def test_a_wait_for_a_slot_leaves_the_time_for_an_answer_or_for_a_telling_timeout(
    request_s: float, attempt_s: float, share: TimeShare, waits_s: float
) -> None:
    full = Deadline(expires_at_s=request_s, attempt_timeout_s=attempt_s, clock=lambda: 0.0)
    call = Call(deadline=full.share(share), purchase_deadline=full, holds_slot_for=lambda _: None)
    assert call.longest_queue_s(3.0) == waits_s
