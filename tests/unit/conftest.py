"""Fixtures of the unit tests."""

import pytest


@pytest.fixture
def patience_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """So many seconds that no stall of a busy machine ends a wait for Redis."""
    patience_s = 3600.0
    monkeypatch.setattr("implementations.resilience.call.PATIENCE_S", patience_s)
    return patience_s
