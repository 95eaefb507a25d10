"""Latencies as HdrHistograms: three digits from a microsecond to two minutes."""

import re
from collections.abc import Iterable, Mapping

from hdrh.histogram import HdrHistogram

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
LONGEST_US = 120_000_000
DIGITS = 3

_DURATION = re.compile(rb"(\w+);dur=([\d.]+)")


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


def overhead_us(server_timing: bytes) -> float:
    """Total less upstream, in microseconds: all but the call of the provider, to which our HTTP client belongs."""
    stages = {name: float(ms) for name, ms in _DURATION.findall(server_timing)}
    return 1000 * (stages[b"total"] - stages[b"upstream"])
