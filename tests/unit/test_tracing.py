"""Spans as OpenTelemetry makes them: whose child they are, how they fail, and what waits and attempts tell."""

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from api_models import ProviderName, Purchase, Usage
from di import guarded
from exceptions import CircuitOpenError, InvalidReplyError, ProviderError, ProviderUnavailableError, RateLimitedError
from implementations.observability.propagation import outbound_headers, queueing, traceparent
from implementations.observability.traced import Traced, traced_look_up
from implementations.resilience.bulkhead import Bulkhead
from implementations.resilience.call import calling
from implementations.resilience.throttle_gate import ThrottleGate
from protocols import CachedReply, ProviderRequest, TraceContext
from tests.fakes import (
    Calendar,
    Clock,
    FakeProvider,
    FixedPrices,
    InstantSleep,
    accounting_of,
    begun,
    call,
    guards,
    new_metrics,
    reply,
    request,
    unlimited,
)
from tests.recorded_spans import RecordedSpans, ids, recorded_spans, told

ESSAY = "the essay of a pupil"
CALLER = TraceContext(trace_id="0af7651916cd43dd8448eb211c80319c", span_id="b7ad6b7169203331", flags="01", state="v=1")
ANTHROPIC = ProviderName.ANTHROPIC


@pytest.fixture
def spans() -> Iterator[RecordedSpans]:
    with recorded_spans() as recorded:
        yield recorded


# --- The tree ---------------------------------------------------------------------------------------------------------


async def test_a_task_goes_on_in_the_trace_of_whoever_started_it(spans: RecordedSpans) -> None:
    tracer = spans.own

    async def work() -> None:
        with tracer.span("inside the task", attributes={}):
            pass

    with tracer.serve("request", caller=None, attributes={}):
        started = asyncio.create_task(work())
    await started
    assert spans.tree() == ["request", "  inside the task"]
    assert spans.one("inside the task").kind is SpanKind.INTERNAL


def test_a_request_is_no_child_of_what_else_goes_on_here(spans: RecordedSpans) -> None:
    tracer = spans.own
    with tracer.serve("one", caller=None, attributes={}), tracer.serve("another", caller=None, attributes={}):
        pass
    assert len({ids(span)[0] for span in spans.all()}) == 2
    assert spans.one("another").kind is SpanKind.SERVER


def test_a_place_in_the_trace_is_told_to_providers_and_events(spans: RecordedSpans) -> None:
    tracer = spans.own
    headers, event = outbound_headers(tracer), traceparent(tracer)
    assert (tracer.current(), headers(), event()) == (None, {}, None)
    with tracer.serve("request", caller=CALLER, attributes={}):
        here = tracer.current()
        assert here is not None
        assert (here.trace_id, here.flags, here.state) == (CALLER.trace_id, "01", "v=1")
        assert headers() == {"traceparent": here.traceparent, "tracestate": "v=1"}
        assert event() == here.traceparent != CALLER.traceparent


@pytest.mark.parametrize("state", ["=", "no member", "a=b,a=c", "vendor=\x00"])
def test_a_state_that_is_none_does_not_break_a_trace(state: str, spans: RecordedSpans) -> None:
    caller = TraceContext(trace_id=CALLER.trace_id, span_id=CALLER.span_id, flags="01", state=state)
    with spans.own.serve("request", caller=caller, attributes={}):
        here = spans.own.current()
    assert here is not None
    assert here.trace_id == CALLER.trace_id


@pytest.mark.parametrize(("ratio", "at_least", "at_most"), [(0.0, 0, 0), (0.5, 60, 140), (1.0, 200, 200)])
def test_a_share_of_the_traces_is_recorded(ratio: float, at_least: int, at_most: int) -> None:
    with recorded_spans(sample_ratio=ratio) as some:
        for _ in range(200):
            with some.own.serve("request", caller=None, attributes={}):
                assert some.own.current() is not None
        assert at_least <= len(some.all()) <= at_most


# --- Failing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ProviderUnavailableError(ESSAY), "unavailable"),
        (CircuitOpenError(ESSAY), "CIRCUIT_BREAKER_OPEN"),
        (asyncio.CancelledError(ESSAY), "cancelled"),
        (ValueError(ESSAY), "ValueError"),
    ],
)
def test_what_passes_makes_a_span_fail_by_its_kind_and_leaves_no_text(
    error: BaseException, word: str, spans: RecordedSpans
) -> None:
    with pytest.raises(type(error)), spans.own.span("step", attributes={}):
        raise error
    step = spans.one("step")
    assert told(step) == {"error.type": word}
    assert (step.status.status_code, step.status.description, step.events) == (StatusCode.ERROR, None, ())
    assert ESSAY not in spans.everything()


def test_the_first_word_of_a_failure_counts(spans: RecordedSpans) -> None:
    with spans.own.span("step", attributes={}) as step:
        step.fail("known")
        step.fail("another")
    assert told(spans.one("step"))["error.type"] == "known"


# --- Attempts ---------------------------------------------------------------------------------------------------------


async def attempt(spans: RecordedSpans, asked: ProviderRequest, outcome: object) -> None:
    provider = FakeProvider(outcome)  # type: ignore[arg-type]  # a reply or a failure
    await Traced(provider, tracer=spans.own).generate_comparison(asked)


async def test_an_attempt_tells_what_was_sent_and_only_that(spans: RecordedSpans) -> None:
    await attempt(spans, request(temperature=0.0, reasoning="low", base_url="https://models.example/v1"), reply())
    only = spans.one("chat model-of-anthropic")
    assert only.kind is SpanKind.CLIENT
    assert told(only) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "model-of-anthropic",
        "gen_ai.request.max_tokens": 512,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "gen_ai.response.model": "model-of-anthropic",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "server.address": "models.example",
        "server.port": 443,
    }


@pytest.mark.parametrize(
    ("base_url", "address"),
    [("http://gpu-1:8000/v1", ("gpu-1", 8000)), ("http://gpu-1/v1", ("gpu-1", 80)), (None, (None, None))],
)
async def test_an_attempt_tells_where_it_went(
    base_url: str | None, address: tuple[object, object], spans: RecordedSpans
) -> None:
    await attempt(spans, request(base_url=base_url), reply())
    attributes = told(spans.all()[0])
    assert (attributes.get("server.address"), attributes.get("server.port")) == address


async def test_counts_that_the_provider_did_not_tell_are_left_out(spans: RecordedSpans) -> None:
    await attempt(spans, request(), reply(usage=Usage(prompt=0, completion=0)))
    assert not [name for name in told(spans.all()[0]) if name.startswith("gen_ai.usage")]


@pytest.mark.parametrize("failure", [RateLimitedError(ESSAY), InvalidReplyError(ESSAY)], ids=lambda one: one.outcome)
async def test_a_failed_attempt_tells_its_kind_and_what_was_billed(
    failure: ProviderError, spans: RecordedSpans
) -> None:
    failure.purchase = Purchase(model="another", usage=Usage(prompt=7, completion=3), cost_usd=None)
    with pytest.raises(type(failure)):
        await attempt(spans, request(), failure)
    attributes = told(spans.all()[0])
    assert attributes["error.type"] == failure.outcome
    assert attributes["gen_ai.response.model"] == "another"
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (7, 3)
    assert "gen_ai.response.finish_reasons" not in attributes
    assert ESSAY not in spans.everything()


async def test_no_word_of_prompt_or_verdict_is_in_a_span(spans: RecordedSpans) -> None:
    asked, answered = request(), reply()
    await attempt(spans, asked, answered)
    everything = spans.everything()
    for text in (
        asked.prompt.system,
        *asked.prompt.user_text.split("\n\n"),
        answered.verdict.justification,
        answered.verdict.winner,
    ):
        assert text.strip() not in everything


async def test_each_repetition_has_a_span_and_an_open_circuit_has_none(spans: RecordedSpans) -> None:
    clock, metrics = Clock(), new_metrics()
    provider = FakeProvider(*[ProviderUnavailableError("")] * 6)
    judge = guarded(
        provider,
        guards(metrics, clock)[ANTHROPIC],
        accounting_of(FixedPrices(), metrics=metrics, now=Calendar()),
        unlimited(),
        sleep=InstantSleep(clock),
        tracer=spans.own,
    )
    with calling(call(clock)):
        for error in (ProviderUnavailableError, ProviderUnavailableError, CircuitOpenError):
            with pytest.raises(error):
                await judge.provider.generate_comparison(request())
    assert len(provider.requests) == 5
    assert [span.name for span in spans.all()] == ["chat model-of-anthropic"] * 5


# --- Cache and queues -------------------------------------------------------------------------------------------------


async def test_a_look_into_the_cache_tells_whether_it_was_there(spans: RecordedSpans) -> None:
    cached = {"there": CachedReply(reply=reply(), age_s=1.0)}

    async def look_up(key: str) -> CachedReply | None:
        return cached.get(key)

    look = traced_look_up(look_up, tracer=spans.own)
    assert [await look("missing"), await look("there")] == [None, cached["there"]]
    assert [told(span) for span in spans.all()] == [{"llm_provider.cache.hit": hit} for hit in (False, True)]


async def test_only_who_waits_for_a_place_has_a_span_for_it(spans: RecordedSpans) -> None:
    bulkhead = Bulkhead(limit=1, queue_limit=9, queueing=queueing(spans.own, ANTHROPIC))
    slot = await bulkhead.enter(within_s=1)
    assert spans.all() == []
    waiting = await begun(bulkhead.enter(within_s=60))
    slot.leave()
    (await waiting).leave()
    assert told(spans.one("queue provider")) == {"llm_provider.provider": "anthropic"}


def test_a_pause_that_the_provider_asked_for_is_a_queue_too(spans: RecordedSpans) -> None:
    gate = ThrottleGate(queue_limit=1, clock=Clock(), queueing=queueing(spans.own, ANTHROPIC))
    with gate.waiting():
        assert gate.is_full
    assert not gate.is_full
    assert spans.tree() == ["queue provider"]
