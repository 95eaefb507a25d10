"""A row of the benchmark as the tests change it."""

from bench.rows import Row
from bench.setups import MISS

ROW = Row(
    setup=MISS.name,
    connections=32,
    share=None,
    intended_rps=None,
    achieved_rps=1000.0,
    latency_ms={"p50": 1.0, "p90": 2.0, "p99": 3.0, "p99.9": 4.0},
    overhead_ms={"p50": 0.5, "p99": 3.0},
    cpu_ms=0.5,
    rss_mib=80.0,
    seconds=5.0,
    requests=5000,
    statuses={"200": 5000},
    upstream_calls=5000,
    late=0,
    waited=0,
    lost=0,
    load_cpu=0.1,
    histogram="",
)
