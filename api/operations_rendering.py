"""Turns known figures into the parts of the operations report."""

from collections.abc import Sequence

from api_models import (
    EventDropReason,
    EventsReport,
    ProviderName,
    ProviderSlotsReport,
    SaturationReport,
    SlotsReport,
    TrafficReport,
)
from config import JudgingSettings
from metrics import SUCCESS, Metrics, count_of, total_of
from protocols import EventHealth, HistoryProtocol


def traffic(metrics: Metrics, history: HistoryProtocol) -> TrafficReport:
    """Answers and errors since the start."""
    by_type = history.failures_by_code()
    return TrafficReport(
        answers=round(total_of(metrics.requests, SUCCESS)),
        errors=sum(by_type.values()),
        errors_by_type=dict(by_type),
        coalesced=round(count_of(metrics.coalesced)),
        callers_left=round(total_of(metrics.client_disconnects)),
    )


def saturation(metrics: Metrics, judging: JudgingSettings, names: Sequence[ProviderName]) -> SaturationReport:
    """Load of the service and of these providers."""
    return SaturationReport(
        service=SlotsReport(
            in_flight=round(count_of(metrics.in_flight)),
            limit=judging.max_in_flight,
            waiting=round(count_of(metrics.admission_queue)),
        ),
        providers={
            name: ProviderSlotsReport(
                in_flight=round(count_of(metrics.concurrent.of(name))),
                limit=judging.max_concurrent,
                waiting=round(count_of(metrics.queued.of(name))),
                paused_s=round(count_of(metrics.throttle_paused.of(name)), 1),
            )
            for name in names
        },
    )


def events(metrics: Metrics, known: EventHealth) -> EventsReport:
    """Event delivery."""
    dropped = {reason: round(total_of(metrics.events_dropped, reason)) for reason in EventDropReason}
    return EventsReport(
        kafka=known.kafka,
        buffering=known.buffering,
        published=round(total_of(metrics.events)),
        waiting=round(count_of(metrics.events_queue_depth)),
        oldest_s=round(count_of(metrics.events_oldest), 1),
        delivered=round(total_of(metrics.events_delivered)),
        dropped=sum(dropped.values()),
        dropped_by_reason={reason: count for reason, count in dropped.items() if count},
    )
