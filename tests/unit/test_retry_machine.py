"""Retries against a reference model in virtual time: many callers of one provider, whatever it answers them."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from api_models import ShedReason
from exceptions import (
    BrokenReplyError,
    CircuitOpenError,
    ContentRefusedError,
    InvalidReplyError,
    ProviderOverloadedError,
    ProviderUnavailableError,
    RateLimitedError,
    ServiceError,
    ServiceOverloadedError,
)
from implementations.resilience.call import SHORTEST_ATTEMPT_S, Call, Deadline, calling
from implementations.resilience.retry_budget import TOKENS, RetryBudget
from implementations.retry_manager_impl import MAX_ATTEMPTS, RetryManagerImpl
from tests.fakes import Timeline, settle

pytestmark = pytest.mark.untraced

KINDS: tuple[type[ServiceError], ...] = (
    ProviderUnavailableError,
    BrokenReplyError,
    ProviderOverloadedError,
    RateLimitedError,
    InvalidReplyError,
    ContentRefusedError,
    CircuitOpenError,
    ServiceOverloadedError,
)
REQUEST_S = 55.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the provider says to one attempt. kind: None for a good answer."""

    kind: type[ServiceError] | None = None
    retry_after_s: float | None = None

    def burdens(self, attempt: int) -> bool:
        """Whether a retry after it counts against the budget: not a first invited one, nor the repeat of a verdict."""
        kind = self.kind
        is_invited = attempt == 1 and kind is RateLimitedError and self.retry_after_s
        return kind is None or not (kind.is_retried_once or is_invited)

    def play(self) -> str:
        if self.kind is None:
            return "verdict"
        if self.kind is ServiceOverloadedError:
            raise ServiceOverloadedError("as drawn", shed=ShedReason.QUEUE_FULL)
        raise self.kind("as drawn", retry_after_s=self.retry_after_s)


ANSWERS = st.builds(
    Answer,
    kind=st.sampled_from((None, *KINDS)),
    retry_after_s=st.one_of(st.none(), st.sampled_from((0.0, 3.0, 30.0, 3600.0))),
)


def expected_attempts(script: list[Answer]) -> int:
    """How many calls a script causes when the budget is no concern; a wait of an hour is beyond every deadline."""
    seen: list[type[ServiceError]] = []
    for number, answer in enumerate(script, start=1):
        kind = answer.kind
        if kind is None or number == MAX_ATTEMPTS or not kind.is_retryable:
            return number
        if kind.is_retried_once and kind in seen:
            return number
        if not kind.is_retried_once and (answer.retry_after_s or 0.0) > REQUEST_S:
            return number
        seen.append(kind)
    return len(script)


@settings(max_examples=300)
@given(script=st.lists(ANSWERS, min_size=MAX_ATTEMPTS, max_size=MAX_ATTEMPTS))
def test_one_caller_causes_as_many_calls_as_the_model_says(script: list[Answer]) -> None:
    calls = 0

    async def run() -> None:
        time = Timeline()
        manager = RetryManagerImpl(budget=RetryBudget(), sleep=time.sleep)

        async def operation() -> str:
            nonlocal calls
            calls += 1
            return script[calls - 1].play()

        deadline = Deadline(expires_at_s=time() + REQUEST_S * MAX_ATTEMPTS, attempt_timeout_s=30.0, clock=time)
        with calling(Call(deadline=deadline, purchase_deadline=deadline, holds_slot_for=lambda _: None)):
            asked = asyncio.create_task(manager.run(operation))
        await time.pass_until(time() + REQUEST_S * MAX_ATTEMPTS)
        assert asked.done()
        asked.exception()

    asyncio.run(run())
    assert calls == expected_attempts(script)


class ManyCallers(RuleBasedStateMachine):
    """One provider, one budget, callers who come and go while time passes."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.time = Timeline()
        self.budget = RetryBudget()
        self.manager = RetryManagerImpl(budget=self.budget, sleep=self.time.sleep)
        self.firsts = self.repetitions = 0
        self.asked: list[tuple[asyncio.Task[str], float]] = []

    @rule(script=st.lists(ANSWERS, min_size=MAX_ATTEMPTS, max_size=MAX_ATTEMPTS), within_s=st.sampled_from((2.0, 55.0)))
    def ask(self, script: list[Answer], within_s: float) -> None:
        expires_at_s = self.time() + within_s
        calls = 0

        async def operation() -> str:
            nonlocal calls
            calls += 1
            assert self.time() <= expires_at_s - SHORTEST_ATTEMPT_S, "an attempt needs some time"
            if calls == 1:
                self.firsts += 1
            elif script[calls - 2].burdens(calls - 1):
                self.repetitions += 1
            assert calls <= MAX_ATTEMPTS
            return script[calls - 1].play()

        async def start() -> None:
            deadline = Deadline(expires_at_s=expires_at_s, attempt_timeout_s=30.0, clock=self.time)
            with calling(Call(deadline=deadline, purchase_deadline=deadline, holds_slot_for=lambda _: None)):
                self.asked.append((asyncio.create_task(self.manager.run(operation)), expires_at_s))
            await settle()

        self.loop.run_until_complete(start())

    @rule(seconds=st.sampled_from((0.1, 1.0, 10.0, 60.0)))
    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(self.time.pass_until(self.time() + seconds))

    @rule(which=st.integers(min_value=0))
    def leave(self, which: int) -> None:
        if self.asked:
            task, _ = self.asked[which % len(self.asked)]
            task.cancel()
            self.loop.run_until_complete(settle())

    @invariant()
    def the_budget_is_kept(self) -> None:
        assert 0 <= self.budget.tokens <= TOKENS
        assert self.repetitions <= TOKENS + 0.1 * self.firsts

    @invariant()
    def nobody_waits_beyond_the_deadline(self) -> None:
        assert all(task.done() for task, expires_at_s in self.asked if expires_at_s < self.time())

    @invariant()
    def who_failed_was_told_by_one_of_our_classes(self) -> None:
        for task, _ in self.asked:
            if task.done() and not task.cancelled():
                assert isinstance(task.exception(), ServiceError | None)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for task, _ in self.asked:
                task.cancel()
            self.loop.run_until_complete(settle())
            self.loop.close()


TestManyCallers = ManyCallers.TestCase
TestManyCallers.settings = settings(max_examples=80, stateful_step_count=40)
