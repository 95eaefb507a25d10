"""At most three attempts with full jitter, inside the deadline, and only for what may be repeated."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from api_models import ProviderName, ShedReason
from exceptions import (
    CircuitOpenError,
    CostLimitExceededError,
    DeadlineExceededError,
    InvalidReplyError,
    NoConnectionLeftError,
    ProviderError,
    ProviderOverloadedError,
    ProviderUnavailableError,
    RateLimitedError,
    ServiceError,
    ServiceOverloadedError,
    ThrottlePausedError,
)
from implementations.resilience.call import SHORTEST_ATTEMPT_S, Call, calling
from implementations.resilience.retry_budget import TOKENS, RetryBudget
from implementations.retry_manager_impl import MAX_ATTEMPTS, RetryManagerImpl
from protocols import SleepProtocol
from tests.fakes import Clock, InstantSleep, call


class Operation:
    """Fails so many times with the failure, then succeeds."""

    def __init__(self, failures: int, failure: BaseException | None = None) -> None:
        self.calls = 0
        self._failures = failures
        self._failure = failure or ProviderUnavailableError("overloaded")

    async def __call__(self) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        if self.calls <= self._failures:
            raise self._failure
        return "done"


async def retrying(
    operation: Callable[[], Awaitable[str]],
    *,
    within: Call | None = None,
    sleep: SleepProtocol | None = None,
    budget: RetryBudget | None = None,
) -> str:
    manager = RetryManagerImpl(budget=budget or RetryBudget(), sleep=sleep or InstantSleep())
    with calling(within or call(Clock())):
        return await manager.run(operation)


async def test_a_first_success_needs_no_second_attempt() -> None:
    sleep, operation = InstantSleep(), Operation(0)
    assert await retrying(operation, sleep=sleep) == "done"
    assert (operation.calls, sleep.naps) == (1, [])


async def test_a_transient_failure_is_overcome() -> None:
    operation = Operation(2)
    assert await retrying(operation) == "done"
    assert operation.calls == 3


async def test_the_third_failure_is_the_last_and_is_raised_as_it_is() -> None:
    failure = ProviderUnavailableError("overloaded")
    operation = Operation(99, failure)
    with pytest.raises(ProviderUnavailableError) as last:
        await retrying(operation)
    assert last.value is failure
    assert operation.calls == MAX_ATTEMPTS == 3


@pytest.mark.parametrize(
    "failure",
    [
        DeadlineExceededError(provider=ProviderName.OPENAI, provider_was_asked=True),
        CircuitOpenError("open", retry_after_s=30.0),
        ValueError("a defect"),
        asyncio.CancelledError(),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_what_may_not_be_repeated_is_not(failure: BaseException) -> None:
    sleep, operation = InstantSleep(), Operation(99, failure)
    with pytest.raises(type(failure)):
        await retrying(operation, sleep=sleep)
    assert (operation.calls, sleep.naps) == (1, [])


@pytest.mark.parametrize("end", [ValueError("a defect"), asyncio.CancelledError()], ids=lambda end: type(end).__name__)
async def test_a_repetition_that_a_defect_or_a_stop_ends_passes_it_on(end: BaseException) -> None:
    outcomes = [ProviderUnavailableError("overloaded"), end]

    async def operation() -> str:
        raise outcomes.pop(0)

    with pytest.raises(type(end)) as passed:
        await retrying(operation)
    assert passed.value is end


async def test_the_back_off_stays_within_its_growing_bounds() -> None:
    sleep = InstantSleep()
    for _ in range(50):
        await retrying(Operation(2), sleep=sleep)
    first, second = sleep.naps[0::2], sleep.naps[1::2]
    assert len(first) == len(second) == 50
    assert all(0 <= nap <= 0.5 for nap in first)
    assert all(0 <= nap <= 1.0 for nap in second)
    assert max(second) > 0.5
    assert len(set(first)) > 40, "without jitter all callers come back at once"


async def test_who_is_throttled_waits_longer() -> None:
    sleep = InstantSleep()
    for _ in range(50):
        await retrying(Operation(1, ProviderOverloadedError("busy")), sleep=sleep)
    assert 0.5 < max(sleep.naps) <= 1.0


@pytest.mark.parametrize(("asked_s", "longest_s"), [(12.0, 14.0), (2.0, 2.5)])
async def test_a_wait_that_the_provider_asks_for_is_not_cut_short_and_not_ended_by_all_at_once(
    asked_s: float, longest_s: float
) -> None:
    sleep = InstantSleep()
    for _ in range(20):
        await retrying(Operation(2, RateLimitedError("slow down", retry_after_s=asked_s)), sleep=sleep)
    assert len(set(sleep.naps)) == len(sleep.naps) == 40
    assert all(asked_s <= nap <= longest_s for nap in sleep.naps)


async def test_a_wait_of_milliseconds_that_the_provider_asks_for_does_not_take_the_place_of_the_back_off() -> None:
    sleep = InstantSleep()
    for _ in range(50):
        await retrying(Operation(1, RateLimitedError("slow down", retry_after_s=0.008)), sleep=sleep)
    assert all(0.008 <= nap <= 1.0 for nap in sleep.naps)
    assert max(sleep.naps) > 0.5


@pytest.mark.parametrize("flight_s", [12.0, 55.0])
async def test_a_wait_that_just_fits_the_deadline_is_not_lengthened_beyond_it(flight_s: float) -> None:
    """Neither that of the flight nor that of the request that started it."""
    sleep, asked = InstantSleep(), call(Clock(), remaining_s=flight_s + SHORTEST_ATTEMPT_S)
    flight = asked.for_flight(asked.deadline, asked.deadline.at_most(Clock()() + 12.0 + SHORTEST_ATTEMPT_S))
    await retrying(Operation(1, RateLimitedError("slow down", retry_after_s=12.0)), within=flight, sleep=sleep)
    assert sleep.naps == [12.0]


async def test_a_wait_that_the_provider_asks_for_is_not_shortened_by_who_started_the_flight() -> None:
    sleep, asked = InstantSleep(), call(Clock())
    flight = asked.for_flight(asked.deadline, asked.deadline.at_most(Clock()() + 5.0))
    await retrying(Operation(1, ProviderUnavailableError("down", retry_after_s=12.0)), within=flight, sleep=sleep)
    assert sleep.naps == [12.0]


async def test_only_the_first_invitation_is_free_of_charge() -> None:
    budget = RetryBudget()
    await retrying(Operation(2, RateLimitedError("slow down", retry_after_s=2.0)), budget=budget)
    assert budget.tokens == TOKENS - 1


@pytest.mark.parametrize(
    ("failure", "charged"),
    [
        (RateLimitedError("slow down", retry_after_s=2.0), 0),
        (RateLimitedError("slow down", retry_after_s=1.0), 0),
        (RateLimitedError("slow down", retry_after_s=0.008), 5),
        (RateLimitedError("slow down"), 5),
        (ProviderOverloadedError("busy", retry_after_s=2.0), 5),
        (NoConnectionLeftError("none is left for a connection", retry_after_s=1.0), 5),
    ],
    ids=str,
)
async def test_who_is_invited_to_come_back_by_a_provider_that_works_burdens_nobody(
    failure: ProviderError, charged: int
) -> None:
    budget = RetryBudget()
    for _ in range(5):
        await retrying(Operation(1, failure), budget=budget)
    assert round(TOKENS - budget.tokens) == charged


async def test_a_wait_beyond_the_deadline_is_not_begun_and_its_figure_is_passed_on() -> None:
    sleep, operation = InstantSleep(), Operation(99, RateLimitedError("slow down", retry_after_s=3600.0))
    with pytest.raises(RateLimitedError) as told:
        await retrying(operation, sleep=sleep)
    assert (operation.calls, sleep.naps, told.value.retry_after_s) == (1, [], 3600.0)


async def test_a_provider_in_trouble_is_burdened_with_few_repetitions() -> None:
    budget, down = RetryBudget(), Operation(9999, ProviderUnavailableError("down"))
    for _ in range(1000):
        with pytest.raises(ProviderUnavailableError):
            await retrying(down, budget=budget)
    assert 1100 <= down.calls <= 1000 * 1.1 + 10


def test_a_provider_in_trouble_from_the_beginning_is_burdened_with_ten() -> None:
    budget, retries = RetryBudget(), 0
    while budget.allows:
        budget.retry()
        retries += 1
    assert retries == 10


@pytest.mark.parametrize(
    "failure", [InvalidReplyError("prose"), RateLimitedError("slow down", retry_after_s=2.0)], ids=str
)
async def test_a_spent_budget_takes_nobody_a_repetition_that_burdens_nobody(failure: ProviderError) -> None:
    budget = RetryBudget()
    while budget.allows:
        budget.retry()
    assert await retrying(Operation(1, failure), budget=budget) == "done"


@pytest.mark.parametrize(
    "obstacle",
    [
        CircuitOpenError("opened meanwhile", retry_after_s=30.0),
        ThrottlePausedError("paused meanwhile", retry_after_s=30.0),
        ServiceOverloadedError("too many wait already", shed=ShedReason.QUEUE_FULL),
        CostLimitExceededError("what is left may not be enough for this call"),
    ],
    ids=lambda obstacle: type(obstacle).__name__,
)
@pytest.mark.parametrize("before", [[], [ProviderUnavailableError("down")]], ids=["first", "second"])
async def test_a_repetition_that_meets_an_obstacle_of_ours_ends_with_the_failure_it_was_to_mend(
    before: list[ServiceError], obstacle: ServiceError
) -> None:
    failed = ProviderUnavailableError("down again")
    failures = [*before, failed, obstacle]

    async def operation() -> str:
        raise failures.pop(0)

    with pytest.raises(ProviderUnavailableError) as told:
        await retrying(operation)
    assert told.value is failed
    assert failures == []


async def test_a_provider_may_forbid_the_repetition_of_what_could_be_repeated() -> None:
    operation = Operation(99, ProviderUnavailableError("down", is_final=True))
    with pytest.raises(ProviderUnavailableError):
        await retrying(operation)
    assert operation.calls == 1


async def test_an_answer_that_is_no_verdict_is_asked_for_once_more_and_at_once() -> None:
    sleep, no_verdict = InstantSleep(), Operation(99, InvalidReplyError("prose"))
    with pytest.raises(InvalidReplyError):
        await retrying(no_verdict, sleep=sleep)
    assert (no_verdict.calls, sleep.naps) == (2, [0.0])


async def test_an_answer_that_is_no_verdict_after_another_failure_still_has_its_repetition() -> None:
    failures = [ProviderUnavailableError("down"), InvalidReplyError("prose")]

    async def operation() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    assert await retrying(operation) == "done"


@pytest.mark.parametrize("kind", [ProviderUnavailableError, InvalidReplyError], ids=["after a wait", "at once"])
async def test_no_attempt_is_made_for_which_no_time_would_be_left(kind: type[ProviderError]) -> None:
    sleep, operation = InstantSleep(), Operation(99, kind("down"))
    with pytest.raises(kind):
        await retrying(operation, within=call(Clock(), remaining_s=SHORTEST_ATTEMPT_S / 2), sleep=sleep)
    assert (operation.calls, sleep.naps) == (1, [])


async def test_the_time_that_waiting_took_counts() -> None:
    clock = Clock()
    sleep = InstantSleep(clock)

    async def slow_failure() -> str:
        clock.advance(15.0)
        raise ProviderUnavailableError("overloaded")

    with pytest.raises(ProviderUnavailableError):
        await retrying(slow_failure, within=call(clock, remaining_s=20.0), sleep=sleep)
    assert len(sleep.naps) == 1


async def test_a_caller_who_leaves_during_the_back_off_is_let_go() -> None:
    sleeping = asyncio.Event()

    async def endless(_: float) -> None:
        sleeping.set()
        await asyncio.Event().wait()

    operation = Operation(99)
    task = asyncio.create_task(retrying(operation, sleep=endless))
    await sleeping.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert operation.calls == 1


async def test_concurrent_runs_do_not_disturb_each_others_attempts() -> None:
    manager = RetryManagerImpl(budget=RetryBudget(), sleep=InstantSleep())
    operations = [Operation(number % 5) for number in range(5)]

    async def ask(operation: Operation) -> str:
        with calling(call(Clock())):
            return await manager.run(operation)

    outcomes = await asyncio.gather(*map(ask, operations), return_exceptions=True)
    for number, (operation, outcome) in enumerate(zip(operations, outcomes, strict=True)):
        assert operation.calls == min(number % 5 + 1, MAX_ATTEMPTS)
        assert (outcome == "done") == (number % 5 < MAX_ATTEMPTS)
