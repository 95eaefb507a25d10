"""The trace of a comparison: which spans there are, what they say, and what they never hold."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from tests.integration.dialects import ANTHROPIC, CANARIES, DIALECTS, OPENAI, Dialect
from tests.integration.pointed_service import Service, Told, running
from tests.integration.stand_in import Act, StandIn, answer, hanging, held, standing_in
from tests.recorded_spans import RecordedSpans, ids, recorded_spans, told

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"
REQUEST = "POST /api/v1/comparison"
KEPT = {"Cache-Control": "max-age=60"}  # a directive that changes nothing
UNPINNED: dict[str, object] = {"provider_override": None}


@asynccontextmanager
async def traced(
    dialect: Dialect, *script: Act, sample_ratio: float = 1.0, **settings: str
) -> AsyncIterator[tuple[Service, StandIn, RecordedSpans]]:
    """The service with one provider, and its spans."""
    with recorded_spans(sample_ratio=sample_ratio) as spans:
        async with (
            standing_in(*script) as provider,
            running(spans, **dialect.variables(provider.url), **settings) as service,
        ):
            yield service, provider, spans


def traceparent_of(span: ReadableSpan) -> str:
    assert span.context is not None
    trace_id, span_id = ids(span)
    return f"00-{trace_id:032x}-{span_id:016x}-{span.context.trace_flags:02x}"


def assert_nothing_private(spans: RecordedSpans) -> None:
    everything = spans.everything().lower()
    assert [canary for canary in (*CANARIES, "better", "distract") if canary in everything] == []


async def test_a_miss_is_a_request_with_a_look_into_the_cache_and_one_attempt() -> None:
    async with traced(ANTHROPIC, answer(ANTHROPIC.good())) as (service, _, spans):
        body = (await service.judges(ANTHROPIC, headers=KEPT)).json()
        assert spans.tree() == [REQUEST, "  cache lookup", f"  chat {ANTHROPIC.model}"]
        assert {ids(span)[0] for span in spans.all()} == {int(body["trace_id"], 16)}
        assert told(spans.one("cache lookup")) == {"llm_provider.cache.hit": False}
        assert told(spans.one(REQUEST)) == {
            "http.request.method": "POST",
            "http.route": "/api/v1/comparison",
            "url.scheme": "http",
            "http.response.status_code": 200,
            "llm_provider.correlation_id": body["correlation_id"],
            "llm_provider.provider": "anthropic",
            "llm_provider.model": ANTHROPIC.answered,
            "llm_provider.cache": "MISS",
            "llm_provider.attempts": 1,
            "llm_provider.cost_usd": pytest.approx(ANTHROPIC.good_usd),
        }
        assert spans.one(REQUEST).kind is SpanKind.SERVER
        assert spans.one(REQUEST).status.status_code is StatusCode.UNSET
        assert_nothing_private(spans)


async def test_a_hit_asks_nobody() -> None:
    async with traced(ANTHROPIC, answer(ANTHROPIC.good())) as (service, _, spans):
        await service.judges(ANTHROPIC, headers=KEPT)
        before = len(spans.all())
        body = (await service.judges(ANTHROPIC, headers=KEPT)).json()
        request, look = spans.all()[before:]
        assert (request.name, look.name) == (REQUEST, "cache lookup")
        assert ids(request)[0] == int(body["trace_id"], 16) != ids(spans.all()[0])[0]
        assert told(look) == {"llm_provider.cache.hit": True}
        assert (told(request)["llm_provider.cache"], told(request)["llm_provider.attempts"]) == ("HIT", 0)
        assert_nothing_private(spans)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_an_attempt_tells_model_and_tokens_and_the_provider_learns_whose_it_is(dialect: Dialect) -> None:
    name, operation = dialect.conventions
    async with traced(dialect, answer(dialect.good())) as (service, provider, spans):
        await service.judges(dialect)
        attempt = spans.one(f"{operation} {dialect.model}")
        attributes = told(attempt)
        port = int(provider.url.rpartition(":")[2])
        assert attributes == {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": name,
            "gen_ai.request.model": dialect.model,
            "gen_ai.request.max_tokens": 4096,
            "gen_ai.output.type": "json",
            "gen_ai.response.model": dialect.answered,
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 3000,
            "gen_ai.usage.output_tokens": 400,
            "gen_ai.usage.cache_read.input_tokens": dialect.counted.cached,
            "gen_ai.usage.cache_creation.input_tokens": dialect.counted.written,
            "gen_ai.usage.reasoning.output_tokens": dialect.counted.thought,
            "server.address": "127.0.0.1",
            "server.port": port,
        }
        assert attempt.kind is SpanKind.CLIENT
        assert provider.requests[0].headers["traceparent"] == traceparent_of(attempt)
        assert "baggage" not in provider.requests[0].headers
        assert_nothing_private(spans)


async def test_a_fallback_shows_every_attempt_and_why_it_failed() -> None:
    with recorded_spans() as spans:
        async with (
            standing_in(ANTHROPIC.fails("failed")) as anthropic,
            standing_in(answer(OPENAI.good())) as openai,
            running(spans, **ANTHROPIC.variables(anthropic.url), **OPENAI.variables(openai.url)) as service,
        ):
            assert (await service.judges(ANTHROPIC, overrides=UNPINNED)).status == 200
        attempts = [f"  chat {ANTHROPIC.model}"] * 3 + [f"  chat {OPENAI.model}"]
        assert spans.tree() == [REQUEST, *attempts]
        request, *asked, good = spans.all()
        assert [told(one)["error.type"] for one in asked] == ["unavailable"] * 3
        assert {one.status.status_code for one in asked} == {StatusCode.ERROR}
        assert [sent.headers["traceparent"] for sent in anthropic.requests] == [traceparent_of(one) for one in asked]
        assert "error.type" not in told(good)
        assert (told(request)["llm_provider.provider"], told(request)["llm_provider.attempts"]) == ("openai", 4)
        assert request.status.status_code is StatusCode.UNSET
        assert_nothing_private(spans)


async def test_a_failure_names_its_trace_and_its_kind_and_no_word_of_the_provider() -> None:
    async with traced(ANTHROPIC, ANTHROPIC.fails("failed")) as (service, _, spans):
        body = (await service.judges(ANTHROPIC)).refusal(503, "EXTERNAL_SERVICE_ERROR")
        request = spans.one(REQUEST)
        assert ids(request)[0] == int(body["trace_id"], 16)
        assert told(request)["error.type"] == "EXTERNAL_SERVICE_ERROR"
        assert told(request)["llm_provider.failed_provider"] == "anthropic"
        assert told(request)["http.response.status_code"] == 503
        assert (request.status.status_code, request.status.description) == (StatusCode.ERROR, None)
        assert [span.events for span in spans.all()] == [()] * 4
        assert_nothing_private(spans)


@pytest.mark.parametrize(
    ("act", "status", "reasons"),
    [(answer(OPENAI.cut()), 502, ("length",)), (answer(OPENAI.filtered()), 422, ("content_filter",))],
    ids=["cut off", "filtered"],
)
async def test_what_was_billed_for_a_useless_answer_is_told_too(
    act: Act, status: int, reasons: tuple[str, ...]
) -> None:
    async with traced(OPENAI, act) as (service, _, spans):
        assert (await service.judges(OPENAI)).status == status
        last = told(spans.all()[-1])
        assert last["gen_ai.response.finish_reasons"] == reasons
        assert last["gen_ai.usage.input_tokens"] == 3000


async def test_a_caller_s_mistake_is_no_error_of_the_service() -> None:
    async with traced(ANTHROPIC, answer(ANTHROPIC.good())) as (service, _, spans):
        (await service.judges(ANTHROPIC, essay_a="")).refusal(400, "VALIDATION_ERROR")
        request = spans.one(REQUEST)
        assert told(request)["error.type"] == "VALIDATION_ERROR"
        assert request.status.status_code is StatusCode.UNSET


async def test_the_correlation_id_of_the_body_is_the_one_that_counts() -> None:
    mine = str(uuid4())
    async with traced(ANTHROPIC, answer(ANTHROPIC.good())) as (service, _, spans):
        await service.judges(ANTHROPIC, correlation_id=mine, headers={"X-Correlation-ID": str(uuid4())})
        assert told(spans.one(REQUEST))["llm_provider.correlation_id"] == mine


async def test_the_caller_s_trace_goes_on_to_the_provider() -> None:
    headers = {"traceparent": SAMPLED, "tracestate": "vendor=1", "baggage": "secret=1"}
    async with traced(ANTHROPIC, answer(ANTHROPIC.good())) as (service, provider, spans):
        body = (await service.judges(ANTHROPIC, headers=headers)).json()
        assert body["trace_id"] == TRACE
        request, attempt = spans.all()
        assert request.parent is not None
        assert (request.parent.span_id, request.parent.is_remote) == (int(CALLER, 16), True)
        sent = provider.requests[0].headers
        assert (sent["traceparent"], sent["tracestate"]) == (traceparent_of(attempt), "vendor=1")
        assert "baggage" not in sent


async def test_a_caller_that_does_not_sample_gets_its_trace_id_and_no_spans() -> None:
    async with traced(ANTHROPIC, answer(ANTHROPIC.good())) as (service, provider, spans):
        body = (await service.judges(ANTHROPIC, headers={"traceparent": UNSAMPLED})).json()
        assert body["trace_id"] == TRACE
        assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-0[02]", provider.requests[0].headers["traceparent"])
        assert spans.all() == []


async def test_of_traces_that_begin_here_the_share_is_sampled_that_the_operator_wants() -> None:
    async with traced(ANTHROPIC, answer(ANTHROPIC.good()), sample_ratio=0.0) as (service, _, spans):
        body = (await service.judges(ANTHROPIC)).json()
        assert re.fullmatch("[0-9a-f]{32}", body["trace_id"])
        assert spans.all() == []
        await service.judges(ANTHROPIC, headers={"traceparent": SAMPLED})
        assert len(spans.all()) == 2


@pytest.mark.parametrize("header", ["nonsense", f"ff-{TRACE}-{CALLER}-01", f"00-{'0' * 32}-{CALLER}-01"])
async def test_a_trace_that_is_not_valid_is_not_continued(header: str) -> None:
    async with traced(ANTHROPIC, answer(ANTHROPIC.good())) as (service, _, spans):
        body = (await service.judges(ANTHROPIC, headers={"traceparent": header})).json()
        assert body["trace_id"] not in {TRACE, None}
        assert spans.one(REQUEST).parent is None


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/metrics"])
async def test_probes_and_scrapes_are_not_traced(path: str) -> None:
    async with traced(ANTHROPIC, answer(ANTHROPIC.good())) as (service, _, spans):
        assert (await service.reads(path)).status == 200
        assert spans.all() == []


async def test_an_unknown_path_gives_no_name_to_a_span() -> None:
    async with traced(ANTHROPIC, answer(ANTHROPIC.good())) as (service, _, spans):
        (await service.reads("/kanarienvogel")).refusal(404, "RESOURCE_NOT_FOUND")
        assert spans.tree() == ["GET"]
        assert "http.route" not in told(spans.one("GET"))
        assert_nothing_private(spans)


async def test_who_waits_for_a_place_has_a_span_for_it() -> None:
    settings: Any = {"LLM_MAX_CONCURRENT_REQUESTS": "1", "MAX_IN_FLIGHT_REQUESTS": "2"}
    slow, release = held(answer(ANTHROPIC.good()))
    async with traced(ANTHROPIC, slow, **settings) as (service, provider, spans):
        asked = [asyncio.create_task(service.judges(ANTHROPIC, replicate=number)) for number in range(3)]
        await _until(lambda: bool(provider.requests))
        release.set()
        assert [(await one).status for one in asked] == [200] * 3
        names = [span.name for span in spans.all()]
        assert names.count("queue provider") >= 1
        assert names.count("queue admission") == 1
        assert told(spans.all()[names.index("queue provider")]) == {"llm_provider.provider": "anthropic"}
        assert told(spans.one("queue admission")) == {}


async def test_a_purchase_belongs_to_the_trace_of_whoever_started_it() -> None:
    slow, release = held(answer(ANTHROPIC.good()))
    async with traced(ANTHROPIC, slow) as (service, provider, spans):
        first = asyncio.create_task(service.judges(ANTHROPIC, headers={**KEPT, "traceparent": SAMPLED}))
        await _until(lambda: bool(provider.requests))
        second = asyncio.create_task(service.judges(ANTHROPIC, headers=KEPT))
        await _until(lambda: [span.name for span in spans.all()].count("cache lookup") == 2)
        release.set()
        assert [(await one).headers["x-cache"] for one in (first, second)] == ["MISS", "COALESCED"]
        assert ids(spans.one(f"chat {ANTHROPIC.model}"))[0] == int(TRACE, 16)
        caches = {told(span).get("llm_provider.cache") for span in spans.all() if span.name == REQUEST}
        assert caches == {"MISS", "COALESCED"}


async def test_an_attempt_that_hangs_is_a_timeout() -> None:
    settings: Any = {"LLM_REQUEST_TIMEOUT": "0.5", "LLM_ATTEMPT_TIMEOUT": "0.4"}
    async with traced(ANTHROPIC, hanging(), **settings) as (service, _, spans):
        assert (await service.judges(ANTHROPIC)).status == 504
        assert told(spans.all()[1])["error.type"] == "timeout"


async def test_without_a_collector_the_caller_s_trace_is_named_and_goes_no_further() -> None:
    async with (
        standing_in(answer(ANTHROPIC.good())) as provider,
        running(**ANTHROPIC.variables(provider.url)) as service,
    ):
        assert (await service.judges(ANTHROPIC)).json()["trace_id"] is None
        named: Told = await service.judges(ANTHROPIC, headers={"traceparent": SAMPLED})
        refused = await service.judges(ANTHROPIC, essay_a="", headers={"traceparent": SAMPLED})
        assert named.json()["trace_id"] == refused.refusal(400, "VALIDATION_ERROR")["trace_id"] == TRACE
        assert not {"traceparent", "tracestate"} & {name for sent in provider.requests for name in sent.headers}


async def _until(holds: Callable[[], bool]) -> None:
    """Let the others work until it holds; only a hang takes so long."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  neither stand-ins nor spans know an event for it
            await asyncio.sleep(0.01)
