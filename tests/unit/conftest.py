"""Fixtures of the unit tests."""

import pytest

from config import Settings
from environment import PREFIX, ConfigurationError
from tests.unit.refusals import CANARY, Refused


@pytest.fixture
def redis_timeout_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """So many seconds that no stall of a busy machine ends a wait for Redis."""
    redis_timeout_s = 3600.0
    monkeypatch.setattr("implementations.resilience.call.REDIS_TIMEOUT_S", redis_timeout_s)
    return redis_timeout_s


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Refused:
    """The message by which these variables stop the start; it shows nothing private."""

    def refusal(prefix: str = PREFIX, **variables: str) -> str:
        for name, value in variables.items():
            monkeypatch.setenv(prefix + name, value)
        with pytest.raises(ConfigurationError) as raised:
            Settings.from_environment()
        assert CANARY not in str(raised.value)
        return str(raised.value)

    return refusal
