"""Who is asked after a failure, and which failure is told when nobody answers."""

from collections.abc import Mapping
from itertools import permutations

import pytest

from api_models import CacheMiss, ErrorCode, ProcessingEvent, ProviderFailed, ProviderName, Purchase, ShedReason, Usage
from exceptions import (
    CircuitOpenError,
    ContentRefusedError,
    ContextTooLongError,
    CostLimitExceededError,
    DeadlineExceededError,
    InvalidReplyError,
    NoUsableProviderError,
    OverloadPausedError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RequestRejectedError,
    ServiceError,
    ServiceOverloadedError,
    ServiceStoppingError,
    ThrottlePausedError,
)
from implementations.judging.catalogue import ModelCatalogue
from protocols import ModelTraits
from tests.fakes import KNOWN_MODEL, FakeProvider, Held, query, reply, sample
from tests.orchestrator_harness import ANTHROPIC, OPENAI, OPENAI_REPLY, Harness, harness_of, in_turn


@pytest.mark.parametrize("failure", [ProviderUnavailableError("overloaded"), ProviderTimeoutError("late")])
async def test_a_failure_that_asks_for_it_is_answered_by_the_next_provider(failure: ServiceError) -> None:
    harness = in_turn(failure, OPENAI_REPLY)
    result = await harness.compare(query())
    assert (result.reply.provider, result.fallback_used) == (OPENAI, True)
    assert [attempt.provider for attempt in result.attempts] == [ANTHROPIC, OPENAI]
    assert harness.events.names == [
        ProcessingEvent.LLM_REQUEST_STARTED,
        ProcessingEvent.LLM_CACHE_MISS,
        ProcessingEvent.LLM_PROVIDER_FAILURE,
        ProcessingEvent.LLM_CACHE_MISS,
        ProcessingEvent.LLM_COST_TRACKING,
        ProcessingEvent.LLM_REQUEST_COMPLETED,
    ]
    assert [event.provider for event in harness.events.of(CacheMiss)] == [ANTHROPIC, OPENAI]


async def test_a_failure_that_another_provider_cannot_mend_ends_the_request() -> None:
    failure = NoUsableProviderError("asked without settings", provider=ANTHROPIC)
    second = FakeProvider(OPENAI_REPLY)
    harness = Harness({ANTHROPIC: FakeProvider(failure), OPENAI: second})
    with pytest.raises(NoUsableProviderError) as passed:
        await harness.compare(query())
    assert passed.value is failure
    assert second.requests == []


async def test_our_own_limit_is_told_as_no_failure_of_a_provider() -> None:
    harness = in_turn(CostLimitExceededError("nothing is left"), CostLimitExceededError("nothing is left"))
    with pytest.raises(CostLimitExceededError):
        await harness.compare(query())
    assert harness.events.of(ProviderFailed) == []
    assert harness.completed().success is False


async def test_what_is_too_dear_here_may_be_free_elsewhere() -> None:
    harness = in_turn(CostLimitExceededError("nothing is left"), OPENAI_REPLY)
    assert (await harness.compare(query())).reply == OPENAI_REPLY


async def test_what_is_too_dear_afterwards_does_not_hide_who_really_failed() -> None:
    failed = ProviderUnavailableError("overloaded")
    harness = in_turn(failed, CostLimitExceededError("nobody knows what it costs"))
    with pytest.raises(ProviderUnavailableError) as told:
        await harness.compare(query())
    assert told.value is failed


async def test_what_a_wait_may_mend_is_told_before_a_limit_of_ours() -> None:
    crowded = ServiceOverloadedError("too many wait already", shed=ShedReason.QUEUE_FULL)
    harness = in_turn(crowded, CostLimitExceededError("nothing is left"))
    with pytest.raises(ServiceOverloadedError) as told:
        await harness.compare(query())
    assert told.value is crowded


async def test_a_failure_says_what_was_tried_before_it() -> None:
    harness = in_turn(ProviderUnavailableError("overloaded"), ProviderUnavailableError("overloaded"))
    with pytest.raises(ProviderUnavailableError) as told:
        await harness.compare(query())
    assert told.value.attempts_in_words == ["anthropic: unavailable after 0 ms", "openai: unavailable after 0 ms"]


async def test_a_pinned_provider_is_never_silently_replaced() -> None:
    second = FakeProvider(OPENAI_REPLY)
    harness = Harness({ANTHROPIC: FakeProvider(ProviderUnavailableError("overloaded")), OPENAI: second})
    with pytest.raises(ProviderUnavailableError):
        await harness.compare(query(provider=ANTHROPIC))
    assert second.requests == []
    assert not harness.completed().success
    assert harness.completed().provider is ANTHROPIC


async def test_a_pinned_provider_is_replaced_when_the_caller_allows_it() -> None:
    harness = in_turn(ProviderUnavailableError("overloaded"), OPENAI_REPLY)
    result = await harness.compare(query(provider=ANTHROPIC, allow_fallback=True))
    assert (result.reply.provider, result.fallback_used) == (OPENAI, True)


async def test_when_everybody_fails_the_error_is_that_of_the_last_one_asked() -> None:
    last = ProviderTimeoutError("late", provider=OPENAI)
    harness = in_turn(ProviderUnavailableError("overloaded"), last)
    with pytest.raises(ProviderTimeoutError) as passed:
        await harness.compare(query())
    assert passed.value is last
    failed = harness.events.of(ProviderFailed)
    assert [(event.provider, event.failure_type) for event in failed] == [
        (ANTHROPIC, ErrorCode.EXTERNAL_SERVICE_ERROR),
        (OPENAI, ErrorCode.TIMEOUT),
    ]
    assert harness.completed().error_message == last.sentence
    labels = {"provider": "openai", "model": "none", "request_type": "comparison", "status": "timeout"}
    assert sample(harness.metrics, "llm_provider_requests_total", **labels) == 1


async def test_nobody_usable_is_completed_too() -> None:
    harness = Harness({})
    with pytest.raises(NoUsableProviderError):
        await harness.compare(query())
    assert harness.events.names == [ProcessingEvent.LLM_REQUEST_STARTED, ProcessingEvent.LLM_REQUEST_COMPLETED]
    assert not harness.completed().success


async def test_a_provider_that_is_still_being_asked_was_asked() -> None:
    held = Held(reply())
    harness = in_turn(held, CircuitOpenError("open", retry_after_s=3.0))
    with pytest.raises(DeadlineExceededError):
        await harness.compare(query(timeout_s=0.05))
    await held.goes_on()


@pytest.mark.parametrize(
    ("first", "second", "told", "wait_s"),
    [
        (CircuitOpenError("held"), CircuitOpenError("open", retry_after_s=12.0), CircuitOpenError, 12.0),
        (CircuitOpenError("held"), CircuitOpenError("held"), CircuitOpenError, None),
        (CircuitOpenError("held"), ThrottlePausedError("paused", retry_after_s=70.0), CircuitOpenError, 70.0),
        (
            CircuitOpenError("open", retry_after_s=3000.0),
            ThrottlePausedError("paused", retry_after_s=70.0),
            CircuitOpenError,
            70.0,
        ),
        (
            ThrottlePausedError("paused", retry_after_s=60.0),
            ThrottlePausedError("paused", retry_after_s=3000.0),
            ThrottlePausedError,
            60.0,
        ),
        (
            ThrottlePausedError("paused", retry_after_s=60.0),
            OverloadPausedError("paused", retry_after_s=60.0),
            OverloadPausedError,
            60.0,
        ),
        (
            ServiceOverloadedError("full", shed=None),
            CostLimitExceededError("nothing is left"),
            ServiceOverloadedError,
            None,
        ),
    ],
)
async def test_where_nobody_was_asked_the_smallest_wait_is_told(
    first: ServiceError, second: ServiceError, told: type[ServiceError], wait_s: float | None
) -> None:
    harness, waits = in_turn(first, second), (first.retry_after_s, second.retry_after_s)
    with pytest.raises(told) as caught:
        await harness.compare(query())
    assert caught.value.retry_after_s == wait_s
    assert (first.retry_after_s, second.retry_after_s) == waits  # others may share the flights


async def test_the_end_of_a_failed_question_names_the_provider_that_failed() -> None:
    rejected = RequestRejectedError("it answered 400", provider=OPENAI)
    harness = in_turn(ProviderUnavailableError("down"), rejected)
    with pytest.raises(RequestRejectedError):
        await harness.compare(query(provider=ANTHROPIC, allow_fallback=True))
    assert harness.completed().provider is OPENAI


def with_windows(first: int | None, second: int | None, judges: Mapping[ProviderName, FakeProvider]) -> Harness:
    windows = {ANTHROPIC: ModelTraits(context_tokens=first), OPENAI: ModelTraits(context_tokens=second)}
    return Harness(judges, catalogue=ModelCatalogue({name: {"*": traits} for name, traits in windows.items()}))


@pytest.mark.parametrize(
    ("first", "second", "is_asked"),
    [
        (200, 1000, True),
        (200, 200, False),
        (200, 100, False),
        (200, None, False),
        (None, 100, True),
        (None, None, True),
    ],
)
async def test_a_question_too_long_for_one_window_goes_only_to_a_larger_one(
    first: int | None, second: int | None, *, is_asked: bool
) -> None:
    other = FakeProvider(OPENAI_REPLY)
    harness = with_windows(
        first, second, {ANTHROPIC: FakeProvider(ContextTooLongError("it answered 400")), OPENAI: other}
    )
    if is_asked:
        assert (await harness.compare(query())).reply == OPENAI_REPLY
    else:
        with pytest.raises(ContextTooLongError):
            await harness.compare(query())
    assert len(other.requests) == is_asked


async def test_who_is_down_is_replaced_by_one_with_a_smaller_window() -> None:
    judges = {ANTHROPIC: FakeProvider(ProviderUnavailableError("down")), OPENAI: FakeProvider(OPENAI_REPLY)}
    assert (await with_windows(200, 100, judges).compare(query())).reply == OPENAI_REPLY


async def test_a_refusal_asks_one_other_provider_and_a_second_one_is_final() -> None:
    google = reply(provider=ProviderName.GOOGLE, model="model-of-google")
    harness = in_turn(ContentRefusedError("declined"), ContentRefusedError("declined"), google)
    with pytest.raises(ContentRefusedError):
        await harness.compare(query())
    assert [event.provider for event in harness.events.of(CacheMiss)] == [ANTHROPIC, OPENAI]


@pytest.mark.parametrize("kinds", [*permutations((ContentRefusedError, ProviderUnavailableError))])
async def test_beside_a_refusal_a_provider_that_is_down_does_not_count_as_the_one_other(
    kinds: tuple[type[ProviderError], type[ProviderError]],
) -> None:
    google = reply(provider=ProviderName.GOOGLE, model="model-of-google")
    harness = in_turn(*(kind("") for kind in kinds), google)
    assert (await harness.compare(query())).reply == google


async def test_where_nobody_was_asked_the_provider_with_the_smallest_wait_is_named() -> None:
    harness = in_turn(
        CircuitOpenError("open", provider=ANTHROPIC, retry_after_s=30.0),
        CircuitOpenError("open", provider=OPENAI, retry_after_s=3.0),
        CircuitOpenError("open", provider=ProviderName.GOOGLE, retry_after_s=12.0),
    )
    with pytest.raises(CircuitOpenError) as told:
        await harness.compare(query())
    assert (told.value.provider, told.value.retry_after_s) == (OPENAI, 3.0)


async def test_the_failure_that_opened_a_circuit_says_so_in_its_event() -> None:
    opening = ProviderUnavailableError("down")
    opening.opened_circuit = True
    harness = in_turn(opening, ProviderUnavailableError("down"))
    with pytest.raises(ProviderUnavailableError):
        await harness.compare(query())
    assert [event.circuit_breaker_opened for event in harness.events.of(ProviderFailed)] == [True, False]


async def test_a_failed_request_tells_what_it_cost_all_the_same() -> None:
    useless = Purchase(model=KNOWN_MODEL, usage=Usage(prompt=100, completion=20), cost_usd=0.125)
    harness = harness_of(InvalidReplyError("prose", purchase=useless))
    with pytest.raises(InvalidReplyError):
        await harness.compare(query())
    completed = harness.completed()
    assert (completed.success, completed.cached, completed.cost_estimate) == (False, False, 0.125)


async def test_a_failure_that_ends_everything_is_not_hidden_by_an_earlier_one() -> None:
    harness = in_turn(ContentRefusedError("declined"), ServiceStoppingError())
    with pytest.raises(ServiceStoppingError):
        await harness.compare(query())


async def test_a_failure_says_what_its_attempts_cost() -> None:
    useless = Purchase(model=KNOWN_MODEL, usage=Usage(prompt=100, completion=20), cost_usd=0.125)
    with pytest.raises(ContentRefusedError) as told:
        await harness_of(ContentRefusedError("declined", purchase=useless)).compare(query())
    assert told.value.cost_usd == 0.125
