"""Publishes a cost event for each billed attempt and charges it to its caller, for comparisons and paid tests."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from implementations.events import request_events
from metrics import Metrics
from protocols import Attempt, ComparisonQuery, LLMEventPublisherProtocol, ProviderRequest


class Receipts:
    """now: the UTC wall clock, for the request's timestamp."""

    def __init__(
        self,
        *,
        service_name: str,
        events: LLMEventPublisherProtocol,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._service_name = service_name
        self._events = events
        self._metrics = metrics
        self._now = now

    @contextmanager
    def issued(self, query: ComparisonQuery, request: ProviderRequest, attempts: Sequence[Attempt]) -> Iterator[None]:
        """On exit, however it comes about, publish once for each billed attempt."""
        requested_at = self._now()
        try:
            yield
        finally:
            for event in request_events.purchases(
                query, request, attempts, service_name=self._service_name, requested_at=requested_at
            ):
                self._events.publish(event)
                self._metrics.caller_purchased(event)
