"""What is counted of every HTTP request: those under way, those turned away and why, and who left at which moment."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest
from quart import Response

from api import error_rendering, request_report, request_scope
from api.application import Application
from api_models import CallerOutcome, ProviderName, RejectReason, RequestPhase, ShedReason
from exceptions import (
    BodyTooLargeError,
    CircuitOpenError,
    DefectError,
    InvalidQueryError,
    ServiceError,
    ServiceOverloadedError,
    ServiceStoppingError,
    failures,
)
from implementations.history_impl import HistoryImpl
from implementations.resilience.admission import Admission
from metrics import Metrics, count_of, total_of
from tests.fakes import Calendar, Clock, new_metrics, sample

PROVIDER = ProviderName.OPENAI
CROWDED = ServiceOverloadedError("crowded", shed=ShedReason.QUEUE_FULL)


def crowded_provider() -> ServiceOverloadedError:
    failure = ServiceOverloadedError("crowded", shed=ShedReason.QUEUE_TIMEOUT)
    failure.provider = PROVIDER
    return failure


def app_that(metrics: Metrics, failure: ServiceError | None = None) -> Application:
    """Ends its only route with the failure, or says how many requests are under way."""
    app = Application("test")

    @app.get("/")
    async def route() -> Response:
        if failure is not None:
            raise failure
        return Response(str(sample(metrics, "llm_provider_http_requests_in_flight")))

    error_rendering.install(app, history=HistoryImpl(clock=Clock(), now=Calendar()))
    request_report.install(app, metrics=metrics, admission=Admission())
    return app


async def no_answer() -> Response:
    """Nothing of which Quart could make one."""
    return None  # type: ignore[return-value]  # which is the point


def counted(metrics: Metrics) -> Iterator[tuple[str, ...]]:
    for family in metrics.registry.collect():
        if family.name in {"llm_provider_rejects", "llm_provider_shed"}:
            yield from (tuple(one.labels.values()) for one in family.samples if one.value)


async def test_a_request_under_way_is_seen_and_one_that_ended_is_not() -> None:
    metrics = new_metrics()
    client = app_that(metrics).test_client()
    answer = await client.get("/")
    await asyncio.gather(client.get("/"), client.get("/"))

    assert await answer.get_data() == b"1.0"
    assert sample(metrics, "llm_provider_http_requests_in_flight") == 0.0


async def test_a_request_without_a_key_that_is_answered_is_no_caller_s_and_nobody_left() -> None:
    metrics = new_metrics()
    await app_that(metrics).test_client().get("/")

    assert (total_of(metrics.caller_requests), total_of(metrics.client_disconnects)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("failure", "labels"),
    [
        (InvalidQueryError("essay_a: is required"), (RejectReason.INVALID,)),
        (BodyTooLargeError("send a smaller body"), (RejectReason.TOO_LARGE,)),
        (CROWDED, ("none", ShedReason.QUEUE_FULL)),
        (crowded_provider(), (PROVIDER, ShedReason.QUEUE_TIMEOUT)),
        (ServiceStoppingError(), ("none", ShedReason.STOPPING)),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_whoever_is_turned_away_is_counted_once_under_the_reason(
    failure: ServiceError, labels: tuple[str, ...]
) -> None:
    metrics = new_metrics()
    await app_that(metrics, failure).test_client().get("/")

    assert list(counted(metrics)) == [labels]


async def test_a_path_that_is_unknown_is_a_reason_too() -> None:
    metrics = new_metrics()
    await app_that(metrics).test_client().get("/nowhere")

    assert list(counted(metrics)) == [(RejectReason.UNKNOWN_PATH,)]


async def test_a_request_takes_from_its_beginning_to_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, clock = new_metrics(), Clock()
    app = Application("test")

    async def slowly_sent() -> AsyncIterator[bytes]:
        clock.advance(60.0)
        yield b""

    @app.get("/")
    async def route() -> Response:
        clock.advance(1.5)
        return Response(slowly_sent())

    request_report.install(app, metrics=metrics, admission=Admission())
    monkeypatch.setattr(time, "perf_counter", clock)
    await app.test_client().get("/")

    assert sample(metrics, "llm_provider_http_request_duration_seconds_sum", endpoint="/") == 1.5


async def test_methods_that_callers_invent_are_counted_as_one() -> None:
    metrics = new_metrics()
    client = app_that(metrics).test_client()
    for invented in ("BREW", "WHEN"):
        await client.open("/", method=invented, json=None)

    labels = {"method": "other", "endpoint": "unmatched", "status_code": "405"}
    assert sample(metrics, "llm_provider_http_requests_total", **labels) == 2.0


async def test_a_failure_of_a_provider_turns_nobody_away() -> None:
    metrics = new_metrics()
    failure = CircuitOpenError("it has failed too often recently", provider=PROVIDER, retry_after_s=9.0)
    assert (await app_that(metrics, failure).test_client().get("/")).status_code == 503

    assert list(counted(metrics)) == []


@pytest.mark.parametrize("phase", RequestPhase)
async def test_a_caller_who_leaves_is_counted_by_what_the_service_was_at(phase: RequestPhase) -> None:
    metrics = new_metrics()
    app = Application("test")

    @app.get("/")
    async def route() -> Response:
        request_scope.current_scope().phase = phase
        raise asyncio.CancelledError

    request_report.install(app, metrics=metrics, admission=Admission())
    with pytest.raises(asyncio.CancelledError):
        await app.test_client().get("/")

    left = {name: sample(metrics, "llm_provider_client_disconnects_total", phase=name) for name in RequestPhase}
    assert left == {name: float(name is phase) for name in RequestPhase}
    assert sample(metrics, "llm_provider_http_requests_in_flight") == 0.0


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        (None, CallerOutcome.SUCCESS),
        (InvalidQueryError("essay_a: is required"), CallerOutcome.REFUSED),
        (DefectError("search the log"), CallerOutcome.FAILED),
        (CROWDED, CallerOutcome.FAILED),
        (asyncio.CancelledError(), CallerOutcome.LEFT),
    ],
    ids=repr,
)
async def test_a_caller_s_request_is_counted_by_how_it_ended(
    ends: BaseException | None, outcome: CallerOutcome
) -> None:
    metrics = new_metrics()
    app = Application("test")

    @app.get("/")
    async def route() -> Response:
        request_scope.attribute_to("a-caller")
        if ends is not None:
            raise ends
        return Response("")

    error_rendering.install(app, history=HistoryImpl(clock=Clock(), now=Calendar()))
    request_report.install(app, metrics=metrics, admission=Admission())
    with contextlib.suppress(asyncio.CancelledError):
        await app.test_client().get("/")

    counts = metrics.caller_requests
    assert {one: count_of(counts.of("a-caller", one)) for one in CallerOutcome} == {
        one: float(one is outcome) for one in CallerOutcome
    }


async def test_an_answer_that_quart_itself_must_give_is_counted_as_what_it_is() -> None:
    metrics = new_metrics()
    app = Application("test")
    app.add_url_rule("/", view_func=no_answer)
    request_report.install(app, metrics=metrics, admission=Admission())

    answer = await app.test_client().get("/")
    assert answer.status_code == 500
    assert UUID(answer.headers["X-Correlation-ID"])
    labels = {"method": "GET", "endpoint": "/", "status_code": "500"}
    assert sample(metrics, "llm_provider_http_requests_total", **labels) == 1.0


def test_every_status_that_a_comparison_may_end_with_starts_at_zero() -> None:
    labels = {"method": "POST", "endpoint": "/api/v1/comparison"}
    statuses = {200, 499, *(kind.status for kind in failures())}
    metrics = new_metrics()

    found = {sample(metrics, "llm_provider_http_requests_total", status_code=str(one), **labels) for one in statuses}
    assert found == {0.0}
