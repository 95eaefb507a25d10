"""The two headers of W3C Trace Context, and the tracer of a service that has no collector."""

import asyncio

import pytest

from implementations.observability.no_tracing import NoTracing
from implementations.observability.propagation import outbound_headers, queueing, traceparent
from protocols import TraceContext

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "passed_on"),
    [
        (VALID, VALID),
        (f"  {VALID} ", VALID),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-ff", f"00-{TRACE}-{SPAN}-03"),
        (f"cc-{TRACE}-{SPAN}-01", VALID),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", VALID),
    ],
)
def test_a_valid_header_is_passed_on_with_the_flags_that_we_know(header: str, passed_on: str) -> None:
    context = TraceContext.read(header, "")
    assert context is not None
    assert (context.trace_id, context.span_id, context.traceparent) == (TRACE, SPAN, passed_on)
    assert context.headers() == {"traceparent": passed_on}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0\N{ARABIC-INDIC DIGIT ONE}",
        f"{VALID}\r\nX-Evil: 1",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 1000}",
    ],
)
def test_anything_else_is_no_trace(header: str) -> None:
    assert TraceContext.read(header, "vendor=1") is None


@pytest.mark.parametrize(("state", "kept"), [("vendor=1", "vendor=1"), ("", None), (" ", None), ("x" * 513, None)])
def test_a_state_goes_along_unless_it_is_too_long(state: str, kept: str | None) -> None:
    context = TraceContext.read(VALID, state)
    assert context is not None
    assert context.state == kept
    assert context.headers().get("tracestate") == kept


async def test_without_a_collector_events_carry_the_caller_s_trace_and_providers_learn_nothing() -> None:
    tracer, caller = NoTracing(), TraceContext.read(VALID, "")
    event, headers = traceparent(tracer), outbound_headers(tracer)
    with tracer.serve("POST /", caller=caller, attributes={}) as span:
        span.set_attributes({"any": "thing"})
        span.fail("whatever")
        assert (tracer.current(), event(), headers()) == (caller, VALID, {})
        with tracer.span("a step", attributes={}):
            assert event() == VALID
        assert await asyncio.create_task(_ask(event)) == VALID
    assert (tracer.current(), event()) == (None, None)


def test_without_a_collector_nothing_is_wrapped_around_a_wait() -> None:
    with queueing(NoTracing())() as nothing:
        assert nothing is None


async def _ask(event: object) -> object:
    assert callable(event)
    return event()
