"""State shared by all replicas: the Redis client with its circuits and prober, and the stores on top of it.

redis-py imports OpenTelemetry's metrics if installed, which costs 3 MiB and a sixth of a second. Those metrics are not
used here, so the import is made to fail.
"""

import sys

if "opentelemetry" not in sys.modules:
    sys.modules["opentelemetry"] = None  # type: ignore[assignment]  # makes the import fail
    import redis as _redis  # noqa: F401  only its first import looks for OpenTelemetry

    del sys.modules["opentelemetry"]
