"""Idle connections: so many are taken that files are left for the work, and those beyond are turned away."""

import http.client
import resource
import socket
from contextlib import ExitStack
from pathlib import Path

from tests.integration.service_process import mocked, service, wait_until

FILES = 360  # of which the service keeps 300 for itself
IDLE = 80


def test_idle_connections_beyond_the_limit_are_turned_away_and_the_service_goes_on(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, before[1]))
    try:
        running = service(tmp_path, mocked())
        with running as judge:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            with ExitStack() as idle:
                for _ in range(IDLE):
                    idle.enter_context(socket.create_connection(("127.0.0.1", judge.port), timeout=30))
                wait_until(lambda: _status(judge.port) == http.HTTPStatus.SERVICE_UNAVAILABLE)
            wait_until(lambda: _status(judge.port) == http.HTTPStatus.OK)
            assert judge.compare().status == http.HTTPStatus.OK
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status
    finally:
        connection.close()
