"""What replicas share: the one Redis client with its circuits and its prober, and the stores on it.

redis-py imports OpenTelemetry's metrics where they are installed, which costs 3 MiB and a sixth of a second. Nobody
reads what it would measure, so it does not find them.
"""

import sys

if "opentelemetry" not in sys.modules:
    sys.modules["opentelemetry"] = None  # type: ignore[assignment]  # makes the import fail
    import redis as _redis  # noqa: F401  the first import is the one that looks

    del sys.modules["opentelemetry"]
