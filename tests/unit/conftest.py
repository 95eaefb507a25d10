"""Fixtures of the unit tests."""

import pytest


@pytest.fixture
def redis_timeout_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """So many seconds that no stall of a busy machine ends a wait for Redis."""
    redis_timeout_s = 3600.0
    monkeypatch.setattr("implementations.resilience.call.REDIS_TIMEOUT_S", redis_timeout_s)
    return redis_timeout_s
