"""One request from the query to the events: what is told, and what it costs."""

from contextlib import suppress
from unittest.mock import patch

import pytest

from api_models import (
    AttemptOutcome,
    CacheHit,
    CacheMiss,
    CacheOutcome,
    CostTracked,
    ProcessingEvent,
    ProviderFailed,
    Purchase,
    RequestEventData,
    RequestStarted,
    TemperatureUse,
    Usage,
)
from exceptions import (
    BrokenReplyError,
    ConnectionLostError,
    ContentRefusedError,
    DefectError,
    ProviderError,
    ProviderTimeoutError,
)
from implementations.judging.catalogue import ModelCatalogue
from implementations.judging.prompt import build_prompt
from protocols import ModelTraits, ProviderReply, ProviderRequest
from tests.fakes import CORRELATION_ID, KNOWN_MODEL, NOON, FakeProvider, booked_today, query, reply, sample
from tests.orchestrator_harness import ANTHROPIC, OPENAI_REPLY, Harness, harness_of, in_turn


async def test_a_bought_answer_is_told_in_order_and_completed_once() -> None:
    async def slowly(_: ProviderRequest) -> ProviderReply:
        harness.clock.advance(2.0)
        return reply()

    harness = harness_of(slowly)
    result = await harness.compare(query())
    assert harness.events.names == [
        ProcessingEvent.LLM_REQUEST_STARTED,
        ProcessingEvent.LLM_CACHE_MISS,
        ProcessingEvent.LLM_COST_TRACKING,
        ProcessingEvent.LLM_REQUEST_COMPLETED,
    ]
    assert (result.reply, result.cost_usd, result.cache_outcome) == (reply(), 0.25, CacheOutcome.MISS)
    assert (result.age_s, result.fallback_used, result.cached, result.coalesced) == (None, False, False, False)
    assert (result.timings.total_s, result.timings.upstream_s) == (2.0, 2.0)
    assert [attempt.outcome for attempt in result.attempts] == [AttemptOutcome.SUCCESS]
    labels = {"provider": "anthropic", "model": KNOWN_MODEL}
    assert sample(harness.metrics, "llm_provider_response_duration_seconds_sum", **labels, cached="false") == 2.0
    assert sample(harness.metrics, "llm_provider_verdicts_total", **labels, winner=result.reply.verdict.winner) == 1
    labels |= {"request_type": "comparison", "status": "success"}
    assert sample(harness.metrics, "llm_provider_requests_total", **labels) == 1
    for event in harness.events.of(RequestEventData):
        assert (event.correlation_id, event.metadata) == (CORRELATION_ID, {"batch": "b-1"})


@pytest.mark.parametrize("answer", [reply(), ConnectionLostError("gone")])
async def test_nobody_is_answered_before_the_last_event_about_it_is_stored(
    answer: ProviderReply | ProviderError,
) -> None:
    harness = harness_of(answer)
    with suppress(ProviderError):
        await harness.compare(query())
    assert harness.events.stored_after == [ProcessingEvent.LLM_REQUEST_COMPLETED]


async def test_the_events_of_a_purchase_say_what_was_bought() -> None:
    harness = harness_of(reply())
    result = await harness.compare(query())
    (started,), (tracked,), completed = (
        harness.events.of(RequestStarted),
        harness.events.of(CostTracked),
        harness.completed(),
    )
    assert (started.provider, started.request_type, started.user_id) == (None, "comparison", "teacher-7")
    assert (tracked.provider, tracked.cost_estimate_usd, tracked.cached) == (ANTHROPIC, 0.25, False)
    assert (tracked.service_name, tracked.request_timestamp) == ("service-under-test", NOON)
    assert tracked.prompt_sha256 == build_prompt(query()).sha256
    assert completed.prompt_sha256 == result.reply.prompt_sha256
    assert (completed.success, completed.cost_estimate, completed.cached) == (True, 0.25, False)
    assert completed.error_message is None
    assert result.prompt_version == build_prompt(query()).version
    assert completed.token_usage == reply().purchase.usage.as_token_usage()


async def test_a_purchase_has_the_model_the_counts_and_the_time_of_its_answer_by_which_an_auditor_finds_it() -> None:
    """A name is asked for, and a dated snapshot of the model answers."""

    async def slowly(_: ProviderRequest) -> ProviderReply:
        harness.clock.advance(1.5)
        return reply(model="model-of-anthropic-20260901")

    harness = harness_of(slowly)
    result = await harness.compare(query())
    (tracked,), answered, (attempt,) = harness.events.of(CostTracked), result.reply.purchase, result.attempts
    assert tracked.model == answered.model == "model-of-anthropic-20260901"
    assert tracked.token_usage == answered.usage.as_token_usage()
    assert tracked.response_time_ms == 1000 * attempt.duration_s == 1500


async def test_each_look_up_tells_the_key_of_its_question() -> None:
    judge = FakeProvider(reply())
    harness = Harness({ANTHROPIC: judge})
    for _ in range(2):
        await harness.compare(query())
    (missed,), (found,), (asked,) = harness.events.of(CacheMiss), harness.events.of(CacheHit), judge.requests
    assert missed.cache_key == found.cache_key == asked.fingerprint()


async def test_a_known_answer_is_free_and_tells_its_age_and_what_it_saved() -> None:
    harness = harness_of(reply())
    await harness.compare(query())
    harness.clock.advance(60)
    harness.events.events.clear()
    result = await harness.compare(query(correlation_id=CORRELATION_ID))
    assert (result.cache_outcome, result.age_s, result.cost_usd, result.attempts) == (CacheOutcome.HIT, 60, 0.0, ())
    assert result.reply.purchase.usage == reply().purchase.usage
    assert harness.events.names == [
        ProcessingEvent.LLM_REQUEST_STARTED,
        ProcessingEvent.LLM_CACHE_HIT,
        ProcessingEvent.LLM_REQUEST_COMPLETED,
    ]
    booked = booked_today(harness.ledger, ANTHROPIC)
    assert (booked.requests, booked.cache_hits, booked.cost_micro_usd, booked.saved_micro_usd) == (
        1,
        1,
        250_000,
        250_000,
    )
    assert (harness.completed().cached, harness.completed().cost_estimate) == (True, 0.0)


async def test_a_defect_of_the_counting_is_completed_once() -> None:
    harness = harness_of(reply())
    with (
        patch.object(harness.metrics, "comparison_answered", side_effect=ZeroDivisionError),
        pytest.raises(ZeroDivisionError),
    ):
        await harness.compare(query())
    assert not harness.completed().success


async def test_a_defect_is_completed_as_one_and_its_text_stays_inside() -> None:
    harness = harness_of(ValueError("the essay says so"))
    with pytest.raises(ValueError, match="the essay says so"):
        await harness.compare(query())
    completed = harness.completed()
    assert (completed.success, completed.error_message) == (False, DefectError.sentence)
    assert harness.events.of(ProviderFailed) == []
    labels = {"provider": "none", "model": "none", "request_type": "comparison", "status": "unknown_error"}
    assert sample(harness.metrics, "llm_provider_requests_total", **labels) == 1


async def test_an_answer_of_unknown_price_costs_nothing_known() -> None:
    harness = harness_of(reply(cost_usd=None))
    result = await harness.compare(query())
    assert result.cost_usd is None
    assert harness.completed().cost_estimate is None
    assert harness.events.of(CostTracked)[0].cost_estimate_usd is None


async def test_an_answer_tells_which_wishes_its_model_could_not_fulfil() -> None:
    stubborn = ModelCatalogue({ANTHROPIC: {"*": ModelTraits(temperature=TemperatureUse.NEVER)}})
    harness = Harness({ANTHROPIC: FakeProvider(reply())}, catalogue=stubborn)
    assert (await harness.compare(query(temperature=0.5))).dropped_parameters == ("temperature_override",)


async def test_everything_that_a_call_bought_is_told_and_makes_its_cost() -> None:
    useless = Purchase(model=KNOWN_MODEL, usage=Usage(prompt=100, completion=20), cost_usd=0.125)
    harness = in_turn(ContentRefusedError("declined", purchase=useless), OPENAI_REPLY)
    result = await harness.compare(query())
    assert result.cost_usd == 0.625
    assert [event.cost_estimate_usd for event in harness.events.of(CostTracked)] == [0.125, 0.5]
    assert harness.completed().cost_estimate == 0.625
    assert harness.completed().token_usage == OPENAI_REPLY.purchase.usage.as_token_usage()


async def test_a_cost_has_no_noise_of_the_sum_of_its_purchases() -> None:
    useless = Purchase(model=KNOWN_MODEL, usage=Usage(prompt=100, completion=20), cost_usd=0.0001)
    harness = in_turn(ContentRefusedError("declined", purchase=useless), reply(cost_usd=0.0002))
    assert (await harness.compare(query())).cost_usd == harness.completed().cost_estimate == 0.0003 != 0.0001 + 0.0002


@pytest.mark.parametrize(
    "failure", [ProviderTimeoutError("late"), ConnectionLostError("gone"), BrokenReplyError("half")]
)
async def test_what_an_attempt_without_a_reply_cost_is_unknown_and_counts_nothing(failure: ProviderError) -> None:
    harness = in_turn(failure, OPENAI_REPLY)
    assert (await harness.compare(query())).cost_usd == 0.5
    assert [event.cost_estimate_usd for event in harness.events.of(CostTracked)] == [0.5]
