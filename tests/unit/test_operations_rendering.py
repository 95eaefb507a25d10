"""The parts of the operations report: every figure stands where it belongs."""

from unittest.mock import Mock

from api import operations_rendering
from api_models import DependencyStatus, ErrorCode, EventDropReason, ProcessingEvent, ProviderName, RequestPhase
from config import JudgingSettings
from protocols import EventHealth
from tests.fakes import new_metrics

OPENAI = ProviderName.OPENAI


def test_the_report_counts_answers_errors_and_who_left() -> None:
    metrics, history = new_metrics(), Mock()
    history.failures_by_code.return_value = {ErrorCode.TIMEOUT: 4, ErrorCode.RATE_LIMIT: 3}
    metrics.requests.of(OPENAI, "other", "comparison", "success").inc(20)
    metrics.requests.of(OPENAI, "other", "comparison", "timeout").inc(7)
    metrics.coalesced.inc(2)
    for phase in (RequestPhase.READING, RequestPhase.ANSWERING):
        metrics.client_disconnects.of(phase).inc()
    told = operations_rendering.traffic(metrics, history)
    assert (told.answers, told.errors, told.coalesced, told.callers_left) == (20, 7, 2, 2)
    assert told.errors_by_type == {ErrorCode.TIMEOUT: 4, ErrorCode.RATE_LIMIT: 3}


def test_the_report_says_how_full_the_service_and_each_provider_are() -> None:
    metrics = new_metrics()
    metrics.in_flight.set(5)
    metrics.admission_queue.set(6)
    metrics.concurrent.of(OPENAI).set(3)
    metrics.queued.of(OPENAI).set(4)
    metrics.throttle_paused.of(OPENAI).set(1.25)
    told = operations_rendering.saturation(metrics, JudgingSettings(max_in_flight=90, max_concurrent=10), [OPENAI])
    assert (told.service.in_flight, told.service.limit, told.service.waiting) == (5, 90, 6)
    judge = told.providers[OPENAI]
    assert (judge.in_flight, judge.limit, judge.waiting, judge.paused_s) == (3, 10, 4, 1.2)


def test_the_report_says_what_became_of_the_events() -> None:
    metrics = new_metrics()
    topic = ProcessingEvent.LLM_REQUEST_STARTED.topic
    metrics.events.of(ProcessingEvent.LLM_REQUEST_STARTED).inc(30)
    metrics.events_queue_depth.set(7)
    metrics.events_oldest.set(1.26)
    metrics.events_delivered.of(topic).inc(19)
    metrics.events_dropped.of(topic, EventDropReason.TOO_LARGE).inc(1)
    metrics.events_dropped.of(topic, EventDropReason.AUTH).inc(3)
    told = operations_rendering.events(metrics, EventHealth(kafka=DependencyStatus.UNHEALTHY, buffering="auth"))
    assert (told.kafka, told.buffering) == (DependencyStatus.UNHEALTHY, "auth")
    assert (told.published, told.waiting, told.oldest_s, told.delivered, told.dropped) == (30, 7, 1.3, 19, 4)
    assert told.dropped_by_reason == {EventDropReason.TOO_LARGE: 1, EventDropReason.AUTH: 3}
