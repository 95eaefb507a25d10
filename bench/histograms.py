"""Latencies as HdrHistograms: three digits from a microsecond to two minutes."""

from collections.abc import Iterable, Mapping

from hdrh.histogram import HdrHistogram

PERCENTILES = {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999}  # of a thousand
LONGEST_US = 120_000_000
DIGITS = 3


def histogram(latencies_us: Iterable[float]) -> HdrHistogram:
    """Of latencies in microseconds; what is longer than two minutes counts as two minutes."""
    counted = HdrHistogram(1, LONGEST_US, DIGITS)
    for latency_us in latencies_us:
        counted.record_value(min(round(latency_us), LONGEST_US))
    return counted


def percentiles_ms(counted: HdrHistogram) -> Mapping[str, float]:
    """Milliseconds that at least such a share does not exceed; nothing when nothing was counted."""
    count = counted.get_total_count()
    ranks = {name: -(-share * count // 1000) for name, share in PERCENTILES.items()}  # rounded up
    # The library would round to the nearest rank, which may be one too low; this is exactly the one that is meant.
    return {name: counted.get_value_at_percentile(100 * rank / count) / 1000 for name, rank in ranks.items() if rank}
