"""Publishes a cost event for each billed attempt and charges it to its caller, for comparisons and paid tests."""

from collections.abc import Callable
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

    def issuer(self, query: ComparisonQuery, request: ProviderRequest) -> Callable[[Attempt], None]:
        """For what is bought from now on: called with each attempt, it publishes once for each that was billed."""
        requested_at = self._now()

        def issue(attempt: Attempt) -> None:
            if attempt.purchase is None:
                return
            event = request_events.purchased(
                query, request, attempt, attempt.purchase, service_name=self._service_name, requested_at=requested_at
            )
            self._events.publish(event)
            self._metrics.caller_purchased(event)

        return issue
