"""What every test starts from: an environment without any setting of ours; and how a run that is told to end ends."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from quart import Quart
from quart.testing import TestApp

from config import settings_table
from environment import PREFIX, known_variables

# A run fails for what was changed, not for what it drew; and how long an example takes says how busy the machine is.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")

KNOWN = known_variables(settings_table())
HANG_S = 30  # instead of Quart's six, in which a busy machine may not start a service


def pytest_configure() -> None:
    """A closed terminal or a cancelled run stops the servers of the tests as Ctrl-C does; Redis ignores the former."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one
            signal.signal(number, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own keys, settings, proxies and collector decide no test."""
    for name in list(os.environ):
        if name.startswith((PREFIX, "OTEL_")) or name in KNOWN or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def patient_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a service in this process takes to start or to stop fails no test."""
    patient = partial(TestApp, startup_timeout=HANG_S, shutdown_timeout=HANG_S)
    monkeypatch.setattr(Quart, "test_app_class", staticmethod(patient))


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """For a Unix socket, whose path may have at most 104 bytes; that of tmp_path has more on macOS."""
    with TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder, "socket")
