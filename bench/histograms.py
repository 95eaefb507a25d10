"""Latencies as HdrHistograms: three digits from a microsecond to two minutes."""

from collections.abc import Iterable, Mapping

from hdrh.histogram import HdrHistogram

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
LONGEST_US = 120_000_000
DIGITS = 3


def histogram(latencies_us: Iterable[float]) -> HdrHistogram:
    """Of latencies in microseconds; what is longer than two minutes counts as two minutes."""
    counted = HdrHistogram(1, LONGEST_US, DIGITS)
    for latency_us in latencies_us:
        counted.record_value(min(round(latency_us), LONGEST_US))
    return counted


def percentiles_ms(counted: HdrHistogram) -> Mapping[str, float]:
    """Milliseconds; nothing when nothing was counted."""
    if counted.get_total_count() == 0:
        return {}
    return {name: counted.get_value_at_percentile(share) / 1000 for name, share in PERCENTILES.items()}
