"""The policies in composition, as `di.py` stacks them: calls to the provider and attempts of callers counted apart."""

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from api_models import CircuitState, ProviderName
from di import guarded
from exceptions import (
    AttemptCutShortError,
    CircuitOpenError,
    ContentRefusedError,
    InvalidReplyError,
    ModelRateLimitedError,
    OverloadPausedError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderOverloadedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitedError,
    RequestRejectedError,
    ServiceError,
    ServiceOverloadedError,
    ThrottlePausedError,
    UnknownModelError,
)
from implementations.observability.no_tracing import NoTracing
from implementations.resilience.call import SHORTEST_ATTEMPT_S, Call, Deadline, calling, current_call
from implementations.resilience.circuit_breaker import CircuitRules
from implementations.resilience.policies import PROBED_S
from implementations.resilience.provider_guards import guards_of
from implementations.resilience.throttle_gate import APART_S
from protocols import ProviderReply, ProviderRequest
from tests.fakes import (
    Calendar,
    FixedPrices,
    Held,
    Timeline,
    accounting_of,
    begun,
    call,
    new_metrics,
    reply,
    request,
    sample,
    settle,
    unlimited,
)
from tests.virtual_loop import in_virtual_time

ANTHROPIC = ProviderName.ANTHROPIC
Behaviour = Callable[[ProviderRequest], Awaitable[ProviderReply]]
SLOTS = 4


class Upstream:
    """A provider that behaves as the test says at each moment, and counts."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.calls = 0
        self.at_once = 0
        self.most_at_once = 0

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.behave(request)
        finally:
            self.at_once -= 1

    async def probe(self) -> str:
        return "fine"


class Stack:
    """One provider behind all its policies, in virtual time."""

    def __init__(self, behave: Behaviour, *, slots: int = SLOTS) -> None:
        self.time = Timeline()
        self.metrics = new_metrics()
        self.upstream = Upstream(behave)
        self.guards = guards_of(
            ANTHROPIC, CircuitRules(), slots=slots, queue_limit=100, metrics=self.metrics, clock=self.time
        )
        accounting = accounting_of(FixedPrices(), metrics=self.metrics, now=Calendar())
        self.provider = guarded(
            self.upstream,
            self.guards,
            accounting,
            unlimited(),
            sleep=self.time.sleep,
            tracer=NoTracing(),
        ).provider

    @property
    def retries(self) -> float | None:
        return sample(self.metrics, "llm_provider_retries_total", provider=ANTHROPIC)

    async def ask(self, *, within_s: float = 55.0, starter_waits_s: float = 55.0) -> ProviderReply:
        deadline = Deadline(expires_at_s=self.time() + within_s, attempt_timeout_s=30.0, clock=self.time)
        asked = Call(deadline=deadline, purchase_deadline=deadline, holds_slot_for=lambda _: None)
        with calling(asked.for_flight(deadline, deadline.at_most(self.time() + starter_waits_s))):
            return await self.provider.generate_comparison(request())

    async def outcome(self, *, within_s: float = 55.0, starter_waits_s: float = 55.0) -> ProviderReply | BaseException:
        asked = asyncio.create_task(self.ask(within_s=within_s, starter_waits_s=starter_waits_s))
        await self.time.pass_until(self.time() + within_s)
        await settle()
        assert asked.done()
        return asked.exception() or asked.result()

    def assert_nothing_is_held(self) -> None:
        assert (self.guards.bulkhead.inside, self.guards.bulkhead.waiting, self.upstream.at_once) == (0, 0, 0)
        assert self.guards.circuit.refusal() is None or self.guards.circuit.state is CircuitState.OPEN


def failing(kind: type[ProviderError], *, retry_after_s: float | None = None) -> Behaviour:
    async def behave(_: ProviderRequest) -> ProviderReply:
        raise kind("as the test wants it", retry_after_s=retry_after_s)

    return behave


async def well(_: ProviderRequest) -> ProviderReply:
    return reply()


async def test_a_good_answer_passes_through_all_policies_with_one_call() -> None:
    stack = Stack(well)
    assert await stack.outcome() == reply()
    assert stack.upstream.calls == 1
    stack.assert_nothing_is_held()


@pytest.mark.parametrize(
    ("kind", "calls", "trips"),
    [
        (ProviderUnavailableError, 3, True),
        (ProviderConnectionError, 3, True),
        (ProviderTimeoutError, 3, True),
        (RateLimitedError, 3, False),
        (InvalidReplyError, 2, False),
        (ContentRefusedError, 1, False),
        (RequestRejectedError, 1, False),
        (UnknownModelError, 1, False),
    ],
)
async def test_each_failure_costs_as_many_calls_as_its_class_says(
    kind: type[ProviderError],
    calls: int,
    trips: bool,  # noqa: FBT001  a column of the table
) -> None:
    stack = Stack(failing(kind))
    assert isinstance(await stack.outcome(), kind)
    assert stack.upstream.calls == calls
    for _ in range(3):
        await stack.outcome()
    assert (stack.guards.circuit.state is CircuitState.OPEN) is trips
    stack.assert_nothing_is_held()


@pytest.mark.parametrize("kind", [QuotaExceededError, ProviderAuthenticationError])
async def test_what_does_not_mend_itself_closes_the_door_at_once_and_for_long(kind: type[ProviderError]) -> None:
    stack = Stack(failing(kind))
    first = await stack.outcome(within_s=1.0)
    assert isinstance(first, kind)
    assert first.opened_circuit
    again = await stack.outcome(within_s=1.0)
    assert isinstance(again, CircuitOpenError)
    assert again.retry_after_s is not None
    assert 290 < again.retry_after_s <= 300
    assert kind.outcome in again.details
    stack.upstream.behave = well
    await stack.time.pass_until(stack.time() + 300)
    assert await stack.outcome(within_s=1.0) == reply()
    assert stack.upstream.calls == 2


async def test_what_an_operator_forced_goes_before_what_the_service_would_decide() -> None:
    stack = Stack(failing(ProviderAuthenticationError))
    stack.guards.circuit.force(CircuitState.CLOSED, reason="being repaired", actor="somebody")
    for _ in range(3):
        assert isinstance(await stack.outcome(within_s=1.0), ProviderAuthenticationError)
    assert stack.guards.circuit.state is CircuitState.CLOSED


async def test_a_refusal_of_the_key_from_before_a_reset_does_not_force_the_circuit_open_again() -> None:
    answers = asyncio.Event()

    async def refuses_later(_: ProviderRequest) -> ProviderReply:
        await answers.wait()
        raise ProviderAuthenticationError("the old key")

    stack = Stack(refuses_later)
    asked = await begun(stack.ask())
    stack.guards.circuit.reset()
    answers.set()
    with pytest.raises(ProviderAuthenticationError) as failure:
        await asked
    assert not failure.value.opened_circuit
    assert stack.guards.circuit.state is CircuitState.CLOSED


async def test_an_open_circuit_is_not_tried_before_the_provider_wants_to_be_asked_again() -> None:
    stack = Stack(failing(ProviderUnavailableError, retry_after_s=120.0))
    for _ in range(5):
        await stack.outcome(within_s=1.0)
    refused = await stack.outcome(within_s=1.0)
    assert isinstance(refused, CircuitOpenError)
    assert refused.retry_after_s is not None
    assert 110.0 < refused.retry_after_s <= 120.0


async def test_exactly_one_failure_says_that_it_opened_the_circuit_and_a_retry_ends_there() -> None:
    stack = Stack(failing(ProviderUnavailableError))
    outcomes = [await stack.outcome(within_s=5.0) for _ in range(3)]
    assert stack.upstream.calls == 5
    told = [outcome.opened_circuit for outcome in outcomes if isinstance(outcome, ProviderError)]
    assert told == [False, True]
    assert isinstance(outcomes[2], CircuitOpenError)
    transitions = sample(
        stack.metrics, "llm_provider_circuit_breaker_transitions_total", provider=ANTHROPIC, to=CircuitState.OPEN
    )
    assert transitions == 1.0
    assert stack.retries == 3.0  # the one that met the open circuit was no call


async def test_every_call_that_repeats_a_failed_one_is_counted_also_one_that_is_no_burden() -> None:
    failures = [ProviderUnavailableError("busy"), InvalidReplyError("no verdict")]

    async def behave(_: ProviderRequest) -> ProviderReply:
        if failures:
            raise failures.pop(0)
        return reply()

    stack = Stack(behave)
    assert await stack.outcome() == reply()
    assert (stack.upstream.calls, stack.retries) == (3, 2.0)


@pytest.mark.untraced
async def test_an_outage_of_a_minute_costs_few_calls_and_ends_soon_after_it_is_over() -> None:
    """50 requests a second on a pinned judge: at most 3 % of them, and the first burst, reach the provider."""
    stack, rate, outage_s = Stack(failing(ProviderUnavailableError), slots=32), 50, 60
    began_s = stack.time()
    asked: list[asyncio.Task[ProviderReply]] = []
    for number in range(rate * outage_s):
        await stack.time.pass_until(began_s + number / rate)
        asked.append(asyncio.create_task(stack.ask()))
    await settle()
    assert stack.upstream.calls <= rate * outage_s * 0.03 + 32 + 10
    stack.upstream.behave = well
    back_s = stack.time()
    while stack.guards.circuit.state is not CircuitState.CLOSED:
        await stack.time.pass_until(stack.time() + 1 / rate)
        asked.append(asyncio.create_task(stack.ask()))
        await settle()
        assert stack.time() - back_s < 4 * CircuitRules().recovery_s, (
            "the third open time is the longest of this outage"
        )
    await stack.time.pass_until(stack.time() + 60)
    assert {type(task.exception()) for task in asked[:-1]} <= {ProviderUnavailableError, CircuitOpenError, type(None)}
    stack.assert_nothing_is_held()


async def test_a_half_open_circuit_lets_one_call_through_and_refuses_the_others_at_once() -> None:
    stack = await half_open()
    held, before = Held(reply()), stack.upstream.calls
    stack.upstream.behave = held
    asked = [asyncio.create_task(stack.ask()) for _ in range(20)]
    await settle()
    assert stack.upstream.calls - before == 1
    assert sum(task.done() for task in asked) == 19
    await held.goes_on()
    outcomes = [task.exception() for task in asked]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, CircuitOpenError)]
    assert (outcomes.count(None), len(refusals)) == (1, 19)
    assert {refusal.retry_after_s for refusal in refusals} == {PROBED_S}, "not until a lost probe would be given up"


async def half_open() -> Stack:
    stack = Stack(failing(ProviderUnavailableError))
    while stack.guards.circuit.state is CircuitState.CLOSED:
        await stack.outcome(within_s=5.0)
    await stack.time.pass_until(stack.time() + 30)
    return stack


@pytest.mark.parametrize("kind", [RateLimitedError, ContentRefusedError, RequestRejectedError, AttemptCutShortError])
async def test_a_probe_that_says_nothing_of_the_provider_gives_its_place_to_the_next_call(
    kind: type[ProviderError],
) -> None:
    stack = await half_open()
    stack.upstream.behave = failing(kind)
    assert isinstance(await stack.outcome(within_s=1.0), kind)
    assert stack.guards.circuit.state is CircuitState.HALF_OPEN
    stack.upstream.behave = well
    assert await stack.outcome(within_s=1.0) == reply()


async def test_a_probe_whose_caller_leaves_gives_its_place_to_the_next_call() -> None:
    stack = await half_open()
    stack.upstream.behave = Held(reply())
    asked = await begun(stack.ask())
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    stack.upstream.behave = well
    assert await stack.outcome(within_s=1.0) == reply()


async def test_an_open_circuit_says_why_and_when_to_come_back_if_anybody_knows() -> None:
    stack = Stack(failing(ProviderUnavailableError, retry_after_s=20.0))
    stack.guards.circuit.force(CircuitState.OPEN, reason="they bill twice", actor="somebody")
    held = await stack.outcome(within_s=1.0)
    stack.guards.circuit.reset()
    while stack.guards.circuit.state is CircuitState.CLOSED:
        await stack.outcome(within_s=1.0)
    failed = await stack.outcome(within_s=1.0)
    await stack.time.pass_until(stack.time() + 30)
    stack.upstream.behave = Held(reply())
    probe = await begun(stack.ask(within_s=500.0))
    await stack.time.pass_until(stack.time() + 33.0)
    probed = await stack.outcome(within_s=1.0)
    probe.cancel()
    told = [
        (refusal.details, refusal.retry_after_s)
        for refusal in (held, failed, probed)
        if isinstance(refusal, CircuitOpenError)
    ]
    assert told[0] == ("its circuit is held open: they bill twice", None)
    assert [details for details, _ in told[1:]] == ["it has failed too often recently"] * 2
    assert told[2][1] == pytest.approx(2.0), "a probe is given up after 35 s"


async def test_a_queued_call_sees_that_the_circuit_opened_meanwhile() -> None:
    held = Held(ProviderUnavailableError("down"))
    stack = Stack(held)
    asked = [asyncio.create_task(stack.ask()) for _ in range(30)]
    await settle()
    assert (stack.upstream.calls, stack.guards.bulkhead.waiting) == (SLOTS, 30 - SLOTS)
    held.go.set()
    await stack.time.pass_until(stack.time() + 55)
    assert all(isinstance(task.exception(), ServiceError) for task in asked)
    assert stack.upstream.calls <= 5 + SLOTS
    stack.assert_nothing_is_held()


async def test_an_open_circuit_answers_at_once_even_while_every_place_is_taken() -> None:
    answers = asyncio.Event()

    async def hangs(_: ProviderRequest) -> ProviderReply:
        await answers.wait()
        return reply()

    stack = Stack(hangs, slots=1)
    first = await begun(stack.ask())
    stack.guards.circuit.force(CircuitState.OPEN, reason="maintenance", actor="somebody")
    second = await begun(stack.ask())
    refused = second.exception()
    assert isinstance(refused, CircuitOpenError)
    assert refused.provider is ANTHROPIC
    answers.set()
    assert await first == reply()


async def test_no_more_calls_are_under_way_than_there_are_places() -> None:
    held = Held(reply())
    stack = Stack(held)
    asked = [asyncio.create_task(stack.ask()) for _ in range(30)]
    await settle()
    held.go.set()
    assert await asyncio.gather(*asked) == [reply()] * 30
    assert stack.upstream.most_at_once == SLOTS
    stack.assert_nothing_is_held()


@pytest.mark.parametrize("within_s", [0.1, SHORTEST_ATTEMPT_S])
@in_virtual_time
async def test_nobody_waits_for_a_place_that_would_leave_no_time_for_an_attempt(within_s: float) -> None:
    held = Held(reply())
    stack = Stack(held)
    asked = [asyncio.create_task(stack.ask()) for _ in range(SLOTS)]
    await settle()
    late = await begun(stack.ask(within_s=within_s))
    crowded = late.exception()
    assert isinstance(crowded, ServiceOverloadedError)
    assert crowded.provider is ANTHROPIC
    assert stack.upstream.calls == SLOTS
    held.go.set()
    await asyncio.gather(*asked)
    stack.assert_nothing_is_held()


async def test_a_throttled_provider_is_left_alone_for_as_long_as_it_asks() -> None:
    stack = Stack(failing(RateLimitedError, retry_after_s=20.0))
    first = await begun(stack.ask())
    stack.upstream.behave = well
    second = asyncio.create_task(stack.ask())
    await stack.time.pass_until(stack.time() + 19.9)
    assert (first.done(), second.done(), stack.upstream.calls) == (False, False, 1)
    await stack.time.pass_until(stack.time() + 10)
    assert (first.result(), second.result(), stack.upstream.calls) == (reply(), reply(), 3)


async def test_a_limit_of_one_model_holds_back_who_met_it_and_nobody_else() -> None:
    stack = Stack(failing(ModelRateLimitedError, retry_after_s=20.0))
    limited = await begun(stack.ask())
    stack.upstream.behave = well
    other = await begun(stack.ask())
    assert (limited.done(), other.result()) == (False, reply())
    await stack.time.pass_until(stack.time() + 19.9)
    assert (limited.done(), stack.upstream.calls) == (False, 2)
    await stack.time.pass_until(stack.time() + 10)
    assert (limited.result(), stack.upstream.calls) == (reply(), 3)


@pytest.mark.parametrize("callers", [SLOTS, 32, 100])
async def test_a_burst_that_meets_one_pause_is_answered_after_it(callers: int) -> None:
    async def throttled(_: ProviderRequest) -> ProviderReply:
        await stack.time.sleep(0.1)
        raise RateLimitedError("slow down", retry_after_s=1.0)

    stack = Stack(throttled)
    asked = [asyncio.create_task(stack.ask()) for _ in range(callers)]
    await stack.time.pass_until(stack.time() + 0.1)
    stack.upstream.behave = well
    await stack.time.pass_until(stack.time() + 0.9)
    assert stack.upstream.calls == SLOTS, "who waited for a slot does not call during the pause"
    await stack.time.pass_until(stack.time() + 2 + callers * APART_S)
    assert [task.result() for task in asked] == [reply()] * callers
    assert stack.upstream.calls == callers + SLOTS
    stack.assert_nothing_is_held()


@pytest.mark.parametrize("leaves_after_s", [None, 4.0])
async def test_of_a_pause_is_told_what_was_waited(leaves_after_s: float | None) -> None:
    stack = Stack(well)
    stack.guards.gate.pause(10.0)
    with calling(call(stack.time)) as under_way:
        asked = asyncio.create_task(stack.provider.generate_comparison(request()))
    await settle()
    waits_s = leaves_after_s or 10.0 + APART_S
    await stack.time.pass_until(stack.time() + waits_s)
    asked.cancel() if leaves_after_s else await asked
    await settle()
    assert under_way.record.queued_s == pytest.approx(waits_s)


async def test_every_wait_of_a_call_is_told() -> None:
    """For the end of a pause, which was prolonged meanwhile, and for a place."""
    held = Held(reply())
    stack = Stack(held, slots=1)
    first = await begun(stack.ask())
    stack.guards.gate.pause(10.0)
    with calling(call(stack.time)) as under_way:
        second = asyncio.create_task(stack.provider.generate_comparison(request()))
    await settle()
    stack.guards.gate.pause(15.0)
    await stack.time.pass_until(stack.time() + 22.0)
    held.go.set()
    await asyncio.gather(first, second)
    assert under_way.record.queued_s == 22.0


async def test_a_limit_that_is_still_in_force_after_the_pause_refuses_one_of_those_who_waited_not_all() -> None:
    async def still_throttled(_: ProviderRequest) -> ProviderReply:
        await stack.time.sleep(0.9 * APART_S)
        raise RateLimitedError("slow down", retry_after_s=10.0)

    stack = Stack(still_throttled)
    stack.guards.gate.pause(10.0)
    asked = [asyncio.create_task(stack.ask()) for _ in range(50)]
    await stack.time.pass_until(stack.time() + 20)
    assert stack.upstream.calls == 1
    stack.upstream.behave = well
    await stack.time.pass_until(stack.time() + 1 + 51 * APART_S)
    assert await asyncio.gather(*asked) == [reply()] * 50
    stack.assert_nothing_is_held()


async def test_nobody_waits_for_a_turn_that_leaves_no_time_for_an_attempt() -> None:
    stack = Stack(well)
    stack.guards.gate.pause(10.0)
    asked = [asyncio.create_task(stack.ask(within_s=10.0 + SHORTEST_ATTEMPT_S + 3.5 * APART_S)) for _ in range(5)]
    await settle()
    turned_away = [task for task in asked if task.done()]
    assert turned_away == asked[3:]
    assert all(isinstance(task.exception(), ThrottlePausedError) for task in turned_away)
    await stack.time.pass_until(stack.time() + 11)
    assert await asyncio.gather(*asked[:3]) == [reply()] * 3


async def test_not_too_many_wait_for_the_end_of_a_pause() -> None:
    stack = Stack(well)
    stack.guards.gate.pause(10.0)
    asked = [asyncio.create_task(stack.ask()) for _ in range(130)]
    await settle()
    turned_away = [task for task in asked if task.done()]
    assert len(turned_away) == 30
    assert all(isinstance(task.exception(), ThrottlePausedError) for task in turned_away)
    await stack.time.pass_until(stack.time() + 10 + 101 * APART_S)
    assert await asyncio.gather(*(task for task in asked if task not in turned_away)) == [reply()] * 100
    stack.assert_nothing_is_held()


async def test_a_pause_of_an_overloaded_provider_is_told_as_its_overload() -> None:
    stack = Stack(failing(ProviderOverloadedError, retry_after_s=3600.0))
    assert isinstance(await stack.outcome(within_s=1.0), ProviderOverloadedError)
    second = await stack.outcome(within_s=1.0)
    assert isinstance(second, OverloadPausedError)
    assert (second.status, second.sentence) == (503, ProviderOverloadedError.sentence)
    assert stack.upstream.calls == 1


@pytest.mark.parametrize("outcome", [ProviderUnavailableError("down"), InvalidReplyError("a tie"), reply()])
async def test_what_nobody_waits_for_any_more_is_not_bought_again(outcome: ProviderReply | ProviderError) -> None:
    async def abandoned(_: ProviderRequest) -> ProviderReply:
        current_call().record.is_abandoned = True
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome

    stack = Stack(abandoned)
    ended = await stack.outcome()
    assert isinstance(ended, AttemptCutShortError | ProviderReply)
    assert (ended == outcome, stack.upstream.calls) == (isinstance(outcome, ProviderReply), 1)
    stack.assert_nothing_is_held()


async def test_a_pause_beyond_the_deadline_fails_at_once_with_its_figure() -> None:
    stack = Stack(failing(RateLimitedError, retry_after_s=3600.0))
    first = await stack.outcome(within_s=1.0)
    assert isinstance(first, RateLimitedError)
    assert first.retry_after_s == 3600.0
    second = await stack.outcome(within_s=1.0)
    assert isinstance(second, ThrottlePausedError)
    assert second.provider is ANTHROPIC
    assert second.retry_after_s is not None
    assert 3590 < second.retry_after_s <= 3600
    assert stack.upstream.calls == 1


@pytest.mark.parametrize("pause_s", [10.0, 0.75])
@pytest.mark.parametrize("kind", [RateLimitedError, ProviderOverloadedError])
async def test_a_pause_beyond_the_time_of_who_started_the_flight_fails_at_once_with_its_figure(
    kind: type[ProviderError], pause_s: float
) -> None:
    stack = Stack(failing(kind, retry_after_s=pause_s))
    for _ in range(2):
        began_s, asked = stack.time(), asyncio.create_task(stack.ask(starter_waits_s=pause_s + 0.9))
        await settle()
        failure = asked.exception()
        assert isinstance(failure, ServiceError)
        assert (failure.code, failure.retry_after_s, stack.time() - began_s) == (kind.code, pause_s, 0.0)
    assert stack.upstream.calls == 1
    stack.upstream.behave = well
    assert await stack.outcome(starter_waits_s=pause_s + APART_S + SHORTEST_ATTEMPT_S) == reply()


async def test_a_back_off_of_our_own_is_not_shortened_by_who_started_the_flight() -> None:
    stack = Stack(failing(ProviderUnavailableError))
    assert isinstance(await stack.outcome(starter_waits_s=0.1), ProviderUnavailableError)
    assert stack.upstream.calls == 3


async def test_a_caller_who_leaves_at_any_moment_leaves_nothing_behind() -> None:
    """Cancelled after each number of turns of the loop: at a queue, in a call, in a pause, in a back-off."""
    for behave in (
        well,
        failing(ProviderUnavailableError),
        failing(RateLimitedError, retry_after_s=5.0),
        Held(reply()),
    ):
        for turns in range(12):
            stack = Stack(behave, slots=1)
            asked = [asyncio.create_task(stack.ask()) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            stack.assert_nothing_is_held()
    gc.collect()
