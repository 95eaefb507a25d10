"""Fixtures of the unit tests."""

import asyncio

import pytest

from tests.fakes import Clock


@pytest.fixture
def redis_timeout_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """So many seconds that no stall of a busy machine ends a wait for Redis."""
    redis_timeout_s = 3600.0
    monkeypatch.setattr("implementations.resilience.call.REDIS_TIMEOUT_S", redis_timeout_s)
    return redis_timeout_s


@pytest.fixture
async def loop_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """By which the event loop's time passes, and only when the test says so."""
    clock = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    return clock
