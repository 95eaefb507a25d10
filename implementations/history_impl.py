"""Keeps recent answers and failures for the operator's view: bounded, in memory only."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from math import ceil
from uuid import UUID

from api_models import ErrorCode, LatencyReport, RecentError
from exceptions import ServiceError
from protocols import ClockProtocol

MOST_FAILURES = 50
MOST_ANSWERS = 1000
WINDOW_S = 60.0


class HistoryImpl:
    """clock: monotonic seconds; now: the UTC wall clock, for the times of failures."""

    def __init__(self, *, clock: ClockProtocol, now: Callable[[], datetime]) -> None:
        self._clock = clock
        self._now = now
        self._began_s = clock()
        self.began_at = now()
        self._answers: deque[tuple[float, float]] = deque(maxlen=MOST_ANSWERS)
        self._failures: deque[RecentError] = deque(maxlen=MOST_FAILURES)
        self._by_code: Counter[ErrorCode] = Counter()

    @property
    def uptime_s(self) -> float:
        """Seconds since the service was built."""
        return self._clock() - self._began_s

    def answered(self, elapsed_s: float) -> None:
        """Record a comparison answered in elapsed_s seconds."""
        self._answers.append((self._clock(), elapsed_s))

    def failed(self, failure: ServiceError, *, correlation_id: UUID) -> None:
        """Record the failure's class and provider, without its details, which may refer to the caller's input."""
        self._by_code[failure.code] += 1
        self._failures.append(
            RecentError(
                at=self._now(),
                error_type=failure.code,
                status=failure.status,
                error=failure.sentence,
                provider=failure.provider,
                correlation_id=correlation_id,
            )
        )

    def latency(self) -> LatencyReport:
        """Latencies of the last minute, at most of its latest thousand answers."""
        since_s = self._clock() - WINDOW_S
        times = sorted(elapsed_s for at_s, elapsed_s in self._answers if at_s >= since_s)
        return LatencyReport(
            window_s=WINDOW_S,
            answers=len(times),
            median_ms=_quantile_ms(times, 0.5),
            p95_ms=_quantile_ms(times, 0.95),
            slowest_ms=_quantile_ms(times, 1.0),
        )

    def failures(self) -> Sequence[RecentError]:
        """Recent failures, newest first."""
        return tuple(reversed(self._failures))

    def failures_by_code(self) -> Mapping[ErrorCode, int]:
        """Counts since the start, most frequent first."""
        return dict(self._by_code.most_common())


def _quantile_ms(ordered_s: Sequence[float], share: float) -> float | None:
    """By nearest rank, so the result is a measured time; None without any."""
    return round(1000 * ordered_s[ceil(share * len(ordered_s)) - 1], 1) if ordered_s else None
