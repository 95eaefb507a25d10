"""Percentiles of the benchmark are those of the latencies, whatever their number; `make bench` installs the library."""

from fractions import Fraction
from math import ceil
from random import Random

import pytest

pytest.importorskip("hdrh")

from bench.histograms import histogram, percentiles_ms

SHARES = {"p50": Fraction(50, 100), "p90": Fraction(90, 100), "p99": Fraction(99, 100), "p99.9": Fraction(999, 1000)}


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 1000, 1449, 3297])
def test_a_percentile_is_the_least_latency_that_its_share_does_not_exceed(count: int) -> None:
    draw = Random(count)
    latencies_us = sorted(draw.lognormvariate(7.0, 1.5) for _ in range(count))
    exact = {name: latencies_us[ceil(share * count) - 1] / 1000 for name, share in SHARES.items()}
    assert percentiles_ms(histogram(latencies_us)) == pytest.approx(exact, rel=0.002, abs=0.001)


def test_nothing_has_no_percentiles() -> None:
    assert percentiles_ms(histogram([])) == {}
