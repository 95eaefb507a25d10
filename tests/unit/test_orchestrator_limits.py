"""The time, the places and the memory that a request takes."""

import asyncio
from typing import Any
from unittest.mock import patch

import pytest

from api_models import CacheOutcome, CircuitState, CostTracked, ProviderName
from config import COPIES_IN_MEMORY, MEMORY_OF_BODY, MIB, ServiceSettings
from exceptions import DeadlineExceededError, ProviderUnavailableError, ServiceError, ServiceOverloadedError
from implementations import answers_impl, llm_orchestrator_impl
from implementations.answers_impl import LANDING_S
from implementations.judging.prompt import prompt_bytes
from implementations.resilience.bulkhead import Bulkhead, Slot
from implementations.resilience.call import REDIS_TIMEOUT_S, SHORTEST_ATTEMPT_S, current_call
from implementations.resilience.memory_limit import MemoryLimit
from implementations.resilience.stalls import any_done
from protocols import CachedReply, ComparisonResult, ProviderReply, ProviderRequest
from tests.fakes import FakeProvider, Held, begun, query, reply, sample, settle
from tests.orchestrator_harness import ANTHROPIC, OPENAI, OPENAI_REPLY, Harness, harness_of


async def test_a_passed_deadline_ends_the_request_while_the_purchase_goes_on_and_is_kept() -> None:
    held = Held(reply())
    harness = harness_of(held)
    with pytest.raises(DeadlineExceededError) as late:
        await harness.compare(query(timeout_s=0.001))
    assert late.value.provider is ANTHROPIC
    assert harness.completed().error_message == DeadlineExceededError.sentence
    await held.reached.wait()
    await held.goes_on()
    assert len(harness.events.of(CostTracked)) == 1
    assert (await harness.compare(query())).cache_outcome is CacheOutcome.HIT
    assert harness.flights.tasks == frozenset()


async def test_a_candidate_that_was_not_asked_for_lack_of_time_does_not_hide_the_failure_of_the_one_before() -> None:
    async def exhausted(_: ProviderRequest) -> ProviderReply:
        harness.clock.advance(60.0)
        raise ProviderUnavailableError("overloaded")

    second = FakeProvider()
    harness = Harness({ANTHROPIC: FakeProvider(exhausted), OPENAI: second})
    with pytest.raises(ProviderUnavailableError) as failed:
        await harness.compare(query())
    assert failed.value.provider is ANTHROPIC
    assert second.requests == []


async def test_a_callers_wish_never_lengthens_the_request() -> None:
    harness = harness_of(Held(reply()), request_timeout_s=0.1)
    with pytest.raises(DeadlineExceededError):
        await harness.compare(query(timeout_s=9999.0))
    for flight in harness.flights.tasks:
        flight.cancel()
    await settle()


async def test_the_time_of_a_request_begins_with_its_first_byte() -> None:
    judge = FakeProvider(reply())
    harness = Harness({ANTHROPIC: judge}, request_timeout_s=55.0)
    with pytest.raises(DeadlineExceededError):
        await harness.compare(query(reading_s=55.0))
    assert judge.requests == [], "nothing is bought for a request whose time is over"
    assert harness.completed().response_time_ms == 55_000
    result = await harness.compare(query(reading_s=15.0))
    assert result.timings.total_s == 15.0


async def test_a_callers_own_time_begins_with_the_first_byte_too() -> None:
    judge = FakeProvider()
    harness = Harness({ANTHROPIC: judge})
    with pytest.raises(DeadlineExceededError):
        await harness.compare(query(reading_s=2.0, timeout_s=2.0))
    assert judge.requests == []


async def test_while_another_candidate_waits_one_gets_half_of_the_time() -> None:
    left: dict[ProviderName, float] = {}

    async def note(asked: ProviderRequest) -> ProviderReply:
        left[asked.provider] = current_call().deadline.remaining_s()
        harness.clock.advance(5.0)
        raise ProviderUnavailableError("down")

    harness = Harness({name: FakeProvider(note) for name in (ANTHROPIC, OPENAI, ProviderName.GOOGLE)})
    with pytest.raises(ProviderUnavailableError):
        await harness.compare(query())
    usual = {ANTHROPIC: 27.5, OPENAI: 25.0, ProviderName.GOOGLE: 45.0}
    assert left == pytest.approx({name: left_s - LANDING_S for name, left_s in usual.items()})


async def test_a_candidate_is_waited_for_with_half_of_the_callers_own_time_while_another_waits() -> None:
    """The purchase goes on for longer: the caller would get no answer if the first one hung."""
    harness = Harness({name: FakeProvider(ProviderUnavailableError("down")) for name in (ANTHROPIC, OPENAI)})
    waits_s: list[float] = []

    async def noted(*flights: asyncio.Task[Any], within_s: float) -> bool:
        waits_s.append(within_s)
        return await any_done(*flights, within_s=within_s)

    with patch.object(answers_impl, "any_done", noted), pytest.raises(ProviderUnavailableError):
        await harness.compare(query(timeout_s=10.0))
    assert waits_s == [5.0, 10.0]


@pytest.mark.parametrize(
    ("circuit", "opens_in_s", "pause_s", "left_s"),
    [
        (CircuitState.OPEN, None, 0.0, 55.0 - REDIS_TIMEOUT_S),
        (CircuitState.OPEN, 28.0, 0.0, 55.0 - REDIS_TIMEOUT_S),
        (CircuitState.OPEN, 27.0, 0.0, 27.5),
        (CircuitState.CLOSED, None, 0.0, 27.5),
        (CircuitState.CLOSED, None, 54.5, 55.0 - REDIS_TIMEOUT_S),
        (CircuitState.CLOSED, None, 54.0, 27.5),
    ],
)
async def test_to_those_that_would_turn_the_question_away_a_candidate_leaves_the_time_of_a_look_up(
    circuit: CircuitState, opens_in_s: float | None, pause_s: float, left_s: float
) -> None:
    left: dict[ProviderName, float] = {}

    async def note(asked: ProviderRequest) -> ProviderReply:
        left[asked.provider] = current_call().deadline.remaining_s()
        return reply()

    harness = Harness({name: FakeProvider(note) for name in (ANTHROPIC, OPENAI, ProviderName.GOOGLE)})
    for name in (OPENAI, ProviderName.GOOGLE):
        harness.guards[name].circuit.force(circuit, reason="maintenance", actor="an operator", for_s=opens_in_s)
        harness.guards[name].gate.pause(pause_s)
    await harness.compare(query())
    assert left == pytest.approx({ANTHROPIC: left_s - LANDING_S})


async def test_one_of_the_others_that_may_be_asked_is_enough_for_half_of_the_time() -> None:
    left_s: list[float] = []

    async def note(_: ProviderRequest) -> ProviderReply:
        left_s.append(current_call().deadline.remaining_s())
        return reply()

    harness = Harness({name: FakeProvider(note) for name in (ANTHROPIC, OPENAI, ProviderName.GOOGLE)})
    harness.guards[OPENAI].circuit.force(CircuitState.OPEN, reason="maintenance", actor="an operator")
    await harness.compare(query())
    assert left_s == pytest.approx([27.5 - LANDING_S])


async def test_a_circuit_that_is_being_tried_may_let_the_question_pass_when_its_turn_comes() -> None:
    tried = Harness({}).guards[ANTHROPIC]
    tried.circuit.force(CircuitState.OPEN, reason="maintenance", actor="an operator", for_s=0.0)
    tried.circuit.acquire()
    assert (tried.circuit.state, tried.circuit.refusal() is None) == (CircuitState.HALF_OPEN, False)
    assert tried.may_be_asked(1.0)


def test_who_would_have_no_time_for_an_attempt_would_not_be_asked() -> None:
    idle = Harness({}).guards[ANTHROPIC]
    assert idle.may_be_asked(SHORTEST_ATTEMPT_S)
    assert not idle.may_be_asked(0.99 * SHORTEST_ATTEMPT_S)


async def test_a_cached_answer_of_a_candidate_whose_circuit_is_open_is_found_when_the_first_one_hangs() -> None:
    hanging, openai = Held(reply()), FakeProvider(OPENAI_REPLY)
    harness = Harness({ANTHROPIC: FakeProvider(ProviderUnavailableError("down"), hanging), OPENAI: openai})
    await harness.compare(query())
    harness.guards[OPENAI].circuit.force(CircuitState.OPEN, reason="maintenance", actor="an operator")
    answered = await harness.compare(query(timeout_s=0.4))
    assert (answered.reply, answered.cached) == (OPENAI_REPLY, True)
    await hanging.goes_on()


async def test_the_time_of_all_look_ups_is_told() -> None:
    failing = FakeProvider(ProviderUnavailableError("down"))
    harness = Harness({ANTHROPIC: failing, OPENAI: FakeProvider(OPENAI_REPLY)})
    look_up = harness.cache.get

    async def slowly(key: str) -> CachedReply | None:
        harness.clock.advance(0.25)
        return await look_up(key)

    with patch.object(harness.cache, "get", slowly):
        harness.rebuild()
        timings = (await harness.compare(query())).timings
    assert (timings.cache_s, timings.total_s) == (0.5, 0.5)


async def test_an_attempt_never_has_more_time_than_a_request() -> None:
    usual: list[float] = []

    async def note(_: ProviderRequest) -> ProviderReply:
        usual.append(current_call().deadline.attempt_timeout_s)
        return reply()

    await harness_of(note, request_timeout_s=8.0, attempt_timeout_s=30.0).compare(query())
    assert usual == [8.0], "or a provider that hangs would always count as cut short, and its circuit never open"


async def test_a_place_is_held_until_the_flight_ends_that_its_owner_left() -> None:
    held = Held(reply())
    harness = harness_of(held)
    asked = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert harness.capacity.inside == 1
    await held.goes_on()
    assert harness.capacity.inside == 0


async def test_a_place_is_given_back_whatever_fails_behind_it() -> None:
    harness = harness_of()
    with patch.object(llm_orchestrator_impl, "Record", side_effect=MemoryError), pytest.raises(MemoryError):
        await harness.compare(query())
    assert harness.capacity.inside == 0


def test_the_least_memory_that_may_be_set_holds_the_largest_question() -> None:
    """A character takes four bytes at most."""
    least = ServiceSettings(max_request_bytes=MIB, max_memory_mb=MEMORY_OF_BODY)
    assert least.answering_bytes == COPIES_IN_MEMORY * 4 * least.max_request_bytes


async def test_a_question_takes_its_memory_until_nobody_answers_it_any_more() -> None:
    held, memory = Held(reply()), MemoryLimit(1_000_000)
    harness = harness_of(held)
    harness.capacity = Bulkhead(limit=1, queue_limit=9, memory=memory)
    harness.rebuild()
    question = query(user_prompt="{essay_a} or {essay_b}? " * 2)
    asked = asyncio.create_task(harness.compare(question))
    await held.reached.wait()
    assert memory.taken_bytes == COPIES_IN_MEMORY * prompt_bytes(question) > 0
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert memory.taken_bytes > 0
    await held.goes_on()
    assert memory.taken_bytes == 0


async def one_after_the_other(outcome: ProviderReply | ServiceError) -> tuple[Harness, asyncio.Task[ComparisonResult]]:
    """How the second of two requests ended, which waited three seconds for the only place."""
    held = Held(reply())
    harness = harness_of(held, outcome)
    harness.capacity = Bulkhead(limit=1, queue_limit=1)
    harness.rebuild()
    first = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    second = await begun(harness.compare(query(replicate=1)))
    harness.clock.advance(3.0)
    held.go.set()
    await asyncio.wait([first, second])
    return harness, second


async def test_the_wait_for_a_place_is_part_of_the_time() -> None:
    _, waited = await one_after_the_other(reply())
    timings = waited.result().timings
    assert (timings.total_s, timings.queued_s) == (3.0, 3.0)


@pytest.mark.parametrize("outcome", [reply(), ProviderUnavailableError("down")], ids=["answered", "failed"])
async def test_the_wait_for_a_place_is_counted_however_the_request_ends(outcome: ProviderReply | ServiceError) -> None:
    harness, waited = await one_after_the_other(outcome)
    assert (waited.exception() is None) is isinstance(outcome, ProviderReply)
    assert sample(harness.metrics, "llm_provider_queue_wait_seconds_count") == 2
    assert sample(harness.metrics, "llm_provider_queue_wait_seconds_sum") == 3.0


@pytest.mark.parametrize(("timeout_s", "patience_s"), [(None, 5.0), (20.0, 2.0)])
async def test_a_place_is_waited_for_with_a_tenth_of_the_callers_time_and_five_seconds_at_most(
    timeout_s: float | None, patience_s: float
) -> None:
    waits_s: list[float] = []
    harness = harness_of(reply())
    enter = harness.capacity.enter

    async def noted(*, within_s: float, size_bytes: int) -> Slot:
        waits_s.append(within_s)
        return await enter(within_s=within_s, size_bytes=size_bytes)

    with patch.object(harness.capacity, "enter", noted):
        await harness.compare(query(timeout_s=timeout_s))
    assert waits_s == [patience_s]


async def test_who_finds_the_service_full_is_told_so_and_nothing_is_announced() -> None:
    held = Held(reply())
    harness = harness_of(held)
    harness.capacity = Bulkhead(limit=1, queue_limit=0)
    harness.rebuild()
    first = asyncio.create_task(harness.compare(query()))
    await held.reached.wait()
    told = len(harness.events.events)
    with pytest.raises(ServiceOverloadedError):
        await harness.compare(query(replicate=1))
    assert len(harness.events.events) == told
    held.go.set()
    await first
