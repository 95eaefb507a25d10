"""The policies around a judge: each does its one thing and lets everything else pass."""

import asyncio
from dataclasses import replace

import pytest

from api_models import UNKNOWN_USAGE, AttemptOutcome, ProviderName, Purchase, Usage
from exceptions import (
    AttemptCutShortError,
    ContextTooLongError,
    InvalidReplyError,
    NoUsableProviderError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RequestRejectedError,
    TruncatedReplyError,
)
from implementations.resilience.call import (
    REDIS_TIMEOUT_S,
    Deadline,
    Record,
    calling,
    current_call,
    waiting_for_redis,
)
from implementations.resilience.metering import Metered, TimeLimited
from implementations.resilience.policies import Retrying
from implementations.resilience.retry_budget import RetryBudget
from implementations.retry_manager_impl import RetryManagerImpl
from protocols import Attempt, LLMProviderProtocol, ProviderReply, ProviderRequest, TimeShare
from tests.fakes import (
    KNOWN_MODEL,
    Calendar,
    Clock,
    FakeProvider,
    FixedPrices,
    Held,
    InstantSleep,
    Step,
    accounting_of,
    budget,
    call,
    cost_rules,
    new_metrics,
    reply,
    request,
    sample,
    unlimited,
)
from tests.virtual_loop import LoopClock, VirtualLoop, arriving_during_a_stall, in_virtual_time


def retrying(judge: LLMProviderProtocol, *, clock: Clock | None = None) -> Retrying:
    return Retrying(judge, retries=RetryManagerImpl(budget=RetryBudget(), sleep=InstantSleep(clock)))


class Harness:
    """A metered provider and its accounting."""

    def __init__(self, *script: Step) -> None:
        self.clock = Clock()
        self.metrics = new_metrics()
        self.accounting = accounting_of(FixedPrices(0.5), metrics=self.metrics, now=Calendar())
        self.judge = FakeProvider(*script)
        self.money = unlimited()
        self.metered = Metered(self.judge, budget=self.money, accounting=self.accounting)
        self.call = call(self.clock)

    async def ask(self) -> ProviderReply:
        with calling(self.call):
            return await self.metered.generate_comparison(request())

    @property
    def put_aside(self) -> list[int]:
        """Today and this month: what is held and not spent."""
        return [account.held - account.spent for account in self.money.accounts]

    def booked(self, outcome: AttemptOutcome) -> float | None:
        return sample(
            self.metrics,
            "llm_provider_upstream_attempts_total",
            provider="anthropic",
            model=KNOWN_MODEL,
            outcome=outcome,
        )


async def test_a_good_attempt_is_priced_booked_and_recorded() -> None:
    async def slowly(_: ProviderRequest) -> ProviderReply:
        harness.clock.advance(1.5)
        return reply(cost_usd=None)

    harness = Harness(slowly)
    answer = await harness.ask()
    assert answer.purchase.cost_usd == 0.5
    assert harness.call.record.attempts == [
        Attempt(
            provider=ProviderName.ANTHROPIC,
            model=KNOWN_MODEL,
            outcome=AttemptOutcome.SUCCESS,
            duration_s=1.5,
            purchase=answer.purchase,
        )
    ]
    assert harness.call.record.upstream_s == 1.5
    assert [account.spent for account in harness.money.accounts] == [500_000, 500_000]
    assert harness.put_aside == [0, 0]
    assert harness.booked(AttemptOutcome.SUCCESS) == 1
    assert harness.accounting.activity(ProviderName.ANTHROPIC).in_flight == 0


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (ProviderUnavailableError("overloaded"), AttemptOutcome.UNAVAILABLE),
        (ProviderTimeoutError("late"), AttemptOutcome.TIMEOUT),
        (ValueError("a defect of ours"), AttemptOutcome.DEFECT),
        (NoUsableProviderError("asked without settings"), AttemptOutcome.DEFECT),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_failed_attempt_is_booked_under_its_outcome_and_passed_on(
    failure: Exception, outcome: AttemptOutcome
) -> None:
    harness = Harness(failure)
    with pytest.raises(type(failure)) as passed:
        await harness.ask()
    assert passed.value is failure
    assert [attempt.outcome for attempt in harness.call.record.attempts] == [outcome]
    assert harness.booked(outcome) == 1
    assert harness.put_aside == [0, 0]
    activity = harness.accounting.activity(ProviderName.ANTHROPIC)
    assert (activity.in_flight, activity.failure_count) == (0, 1)


async def test_a_cancelled_attempt_is_booked_but_says_nothing_about_the_provider() -> None:
    held = Held(reply())
    harness = Harness(held)
    task = asyncio.create_task(harness.ask())
    await held.reached.wait()
    assert harness.accounting.activity(ProviderName.ANTHROPIC).in_flight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [attempt.outcome for attempt in harness.call.record.attempts] == [AttemptOutcome.CANCELLED]
    assert harness.booked(AttemptOutcome.CANCELLED) == 1
    activity = harness.accounting.activity(ProviderName.ANTHROPIC)
    assert (activity.in_flight, activity.failure_count, activity.last_failure) == (0, 0, None)


async def test_every_attempt_of_a_call_is_recorded_in_order() -> None:
    async def fails(_: ProviderRequest) -> ProviderReply:
        harness.clock.advance(1.0)
        current_call().record.provider_request_id = "of the first"
        raise ProviderUnavailableError("overloaded")

    async def answers(_: ProviderRequest) -> ProviderReply:
        harness.clock.advance(2.0)
        return reply()

    harness = Harness(fails, answers)
    with calling(harness.call):
        await retrying(harness.metered, clock=harness.clock).generate_comparison(request())
    record = harness.call.record
    assert [(attempt.outcome, attempt.duration_s, attempt.provider_request_id) for attempt in record.attempts] == [
        (AttemptOutcome.UNAVAILABLE, 1.0, "of the first"),
        (AttemptOutcome.SUCCESS, 2.0, None),
    ]
    assert record.upstream_s == 3.0, "the wait between them is no time upstream"


def test_an_attempt_has_all_of_its_time_and_ends_as_a_provider_timeout_after_it() -> None:
    async def answers_after(seconds: float) -> ProviderReply:
        limited = TimeLimited(FakeProvider(lambda _: asyncio.sleep(seconds, reply())))
        with calling(call(Clock(), attempt_timeout_s=30.0)):
            return await limited.generate_comparison(request())

    unheard: list[object] = []
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: unheard.append(context))
        assert runner.run(answers_after(29.9)) == reply()
        with pytest.raises(ProviderTimeoutError):
            runner.run(answers_after(30.1))
    assert unheard == [], "the end of an attempt that was answered is called off"


@in_virtual_time
async def test_an_answer_that_came_while_the_loop_stood_still_is_read() -> None:
    async def asked(_: ProviderRequest) -> ProviderReply:
        await arriving_during_a_stall(3600.0)
        return reply()

    with calling(call(LoopClock())):
        assert await TimeLimited(FakeProvider(asked)).generate_comparison(request()) == reply()


async def test_an_attempt_never_outlives_the_request_it_belongs_to() -> None:
    with calling(call(Clock(), remaining_s=0.001)), pytest.raises(AttemptCutShortError):
        await TimeLimited(FakeProvider(Held(reply()))).generate_comparison(request())


@pytest.mark.parametrize(("share", "kind"), [(0.39, AttemptCutShortError), (0.41, ProviderTimeoutError)])
async def test_a_provider_that_had_two_fifths_of_an_attempt_s_time_is_blamed(
    share: float, kind: type[ProviderError]
) -> None:
    with calling(call(Clock(), attempt_timeout_s=0.01, remaining_s=share * 0.01)), pytest.raises(kind):
        await TimeLimited(FakeProvider(Held(reply()))).generate_comparison(request())


async def test_nobody_is_asked_and_nothing_is_booked_when_putting_money_aside_took_all_the_time() -> None:
    money = budget(lambda: cost_rules(limit_usd_per_day=10.0), metrics=new_metrics())
    judge, books_ = FakeProvider(reply()), accounting_of(FixedPrices(0.5), metrics=new_metrics(), now=Calendar())
    late = call(Clock(), remaining_s=0.0)
    with calling(late), pytest.raises(AttemptCutShortError) as cut:
        await Metered(judge, budget=money, accounting=books_).generate_comparison(request())
    assert (cut.value.provider, cut.value.provider_was_asked) == (request().provider, False)
    assert not judge.requests
    assert not late.record.attempts
    assert [(account.held, account.spent) for account in money.accounts] == [(0, 0), (0, 0)]


async def test_the_time_limit_lets_a_caller_who_leaves_go() -> None:
    held = Held(reply())

    async def ask() -> ProviderReply:
        with calling(call(Clock())):
            return await TimeLimited(FakeProvider(held)).generate_comparison(request())

    task = asyncio.create_task(ask())
    await held.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_deadline_never_leaves_less_than_nothing() -> None:
    clock = Clock()
    deadline = Deadline(expires_at_s=clock() + 10, attempt_timeout_s=4, clock=clock)
    assert (deadline.remaining_s(), deadline.attempt_s()) == (10, 4)
    clock.advance(8)
    assert (deadline.remaining_s(), deadline.attempt_s()) == (2, 2)
    clock.advance(8)
    assert (deadline.remaining_s(), deadline.attempt_s()) == (0, 0)


@pytest.mark.parametrize(("left_s", "most_s"), [(10.0, 10.0 - REDIS_TIMEOUT_S), (REDIS_TIMEOUT_S, REDIS_TIMEOUT_S / 2)])
def test_most_of_the_time_is_all_but_a_look_up_and_at_least_half(left_s: float, most_s: float) -> None:
    assert call(Clock(), remaining_s=left_s).deadline.share(TimeShare.MOST).remaining_s() == most_s


def test_a_call_ends_with_its_block() -> None:
    outer = call(Clock())
    with calling(outer):
        inner = outer.for_flight(call(Clock(), remaining_s=1).deadline, outer.deadline)
        with calling(inner):
            assert current_call() is inner
        assert current_call() is outer
    with pytest.raises(LookupError):
        current_call()


def test_what_is_recorded_apart_is_added_when_it_is_wanted() -> None:
    outer = call(Clock())
    outer.record.replaced_connection = True
    for _ in range(2):
        inner = outer.for_flight(outer.deadline, outer.deadline)
        assert inner.record == Record(replaced_connection=True)
        inner.record.queued_s, inner.record.upstream_s, inner.record.cache_s = 1.0, 2.0, 3.0
        outer.record.add(inner.record)
    assert outer.record == Record(queued_s=2.0, upstream_s=4.0, cache_s=6.0, replaced_connection=True)


async def test_a_foreign_time_out_is_a_defect_and_not_taken_for_the_end_of_the_attempt() -> None:
    with calling(call(Clock())), pytest.raises(TimeoutError):
        await TimeLimited(FakeProvider(TimeoutError("of a library"))).generate_comparison(request())


async def test_a_failure_leaves_with_the_name_of_its_provider() -> None:
    harness = Harness(ProviderUnavailableError("down"))
    with pytest.raises(ProviderUnavailableError) as failure:
        await harness.ask()
    assert failure.value.provider is ProviderName.ANTHROPIC


async def test_what_was_billed_for_nothing_is_booked_priced_and_recorded() -> None:
    bought = Purchase(model=KNOWN_MODEL, usage=Usage(prompt=100, completion=20), cost_usd=None)
    harness = Harness(InvalidReplyError("prose", purchase=bought))
    with pytest.raises(InvalidReplyError):
        await harness.ask()
    (attempt,) = harness.call.record.attempts
    assert (attempt.outcome, attempt.purchase) == (AttemptOutcome.MALFORMED, replace(bought, cost_usd=0.5))
    labels = {"provider": ProviderName.ANTHROPIC, "model": KNOWN_MODEL}
    assert sample(harness.metrics, "llm_provider_cost_dollars_total", **labels) == 0.5
    assert harness.call.record.cost_usd == 0.5


async def test_an_answer_of_unreadable_usage_that_is_billed_makes_the_cost_unknown() -> None:
    harness = Harness(InvalidReplyError("the answer is not a JSON object"))
    with pytest.raises(InvalidReplyError):
        await harness.ask()
    (attempt,) = harness.call.record.attempts
    assert attempt.purchase is not None
    assert attempt.purchase.usage == UNKNOWN_USAGE


@pytest.mark.parametrize(
    ("cap", "limit", "larger"),
    [(512, 128_000, 1024), (512, 1000, 1000), (512, 513, 513), (64_000, 128_000, 128_000)],
)
async def test_an_answer_that_was_cut_off_is_asked_for_with_more_room(cap: int, limit: int, larger: int) -> None:
    provider = FakeProvider(TruncatedReplyError("512 tokens were not enough"), reply())
    asked = request(base_url="http://server", temperature=0.2, reasoning="low", marks_prefix=True, replicate=1)
    asked = replace(asked, max_tokens=cap, max_tokens_limit=limit)
    with calling(call(Clock())):
        await retrying(provider).generate_comparison(asked)
    assert provider.requests == [asked, replace(asked, max_tokens=larger)], "it is known as the answer to the first"


@pytest.mark.parametrize("rejection", [RequestRejectedError("it answered 400"), ContextTooLongError("it answered 400")])
async def test_a_larger_cap_that_the_provider_rejects_leaves_the_failure_a_truncation(rejection: ProviderError) -> None:
    bought = Purchase(model=KNOWN_MODEL, usage=UNKNOWN_USAGE, cost_usd=None)
    cut = TruncatedReplyError("512 tokens were not enough", purchase=bought)
    provider = FakeProvider(cut, rejection)
    with calling(call(Clock())), pytest.raises(TruncatedReplyError) as passed:
        await retrying(provider).generate_comparison(request())
    assert passed.value is cut
    assert cut.asks_next_provider
    assert [asked.max_tokens for asked in provider.requests] == [512, 1024]


@pytest.mark.parametrize(("limit", "is_final"), [(512, False), (100, False), (128_000, True)])
async def test_an_answer_that_was_cut_off_is_not_asked_for_again_at_the_models_limit_nor_against_the_providers_word(
    limit: int, *, is_final: bool
) -> None:
    provider = FakeProvider(TruncatedReplyError("that was all", is_final=is_final))
    with calling(call(Clock())), pytest.raises(TruncatedReplyError):
        await retrying(provider).generate_comparison(request(max_tokens_limit=limit))
    assert len(provider.requests) == 1


def test_what_a_request_has_used_up_its_flight_has_used_up_too_and_the_other_way_round() -> None:
    """Patience with Redis and the one replaced connection are per request, not per candidate."""
    asked = call(Clock())
    asked.record.redis_s = 0.1
    first = asked.for_flight(asked.deadline, asked.deadline)
    assert (first.record.redis_s, first.record.replaced_connection) == (0.1, False)
    first.record.redis_s, first.record.replaced_connection = 0.2, True
    asked.record.add(first.record)
    second = asked.for_flight(asked.deadline, asked.deadline)
    assert (second.record.redis_s, second.record.replaced_connection) == (0.2, True)
    asked.record.add(second.record)
    asked.record.add(Record())
    assert (asked.record.redis_s, asked.record.replaced_connection) == (0.2, True)


def test_what_was_waited_for_redis_is_missing_from_the_next_wait() -> None:
    clock = Clock()
    with calling(call(clock, remaining_s=0.375)):
        for left_s in (0.25, 0.125, 0.125 - 0.0625):
            with waiting_for_redis() as timeout_s:
                assert timeout_s == left_s
                clock.advance(left_s / 2)
