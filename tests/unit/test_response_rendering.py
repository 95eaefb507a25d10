"""What the Server-Timing header says of a request's time."""

from api.response_rendering import server_timing
from protocols import Timings


def test_each_stage_stands_in_milliseconds() -> None:
    timings = Timings(total_s=2.5, cache_s=0.0001234, queued_s=0.25, upstream_s=2.0)
    assert server_timing(timings) == "total;dur=2500.000, cache;dur=0.123, queue;dur=250.000, upstream;dur=2000.000"
