"""No file is left for another connection: the service neither spins nor shouts, serves who is there, and recovers."""

import resource
import socket
import time
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path

import orjson
import pytest

from tests.integration.linux import needs_linux
from tests.integration.service_process import (
    COMPARISON,
    QUESTION,
    Answer,
    ServiceProcess,
    mocked,
    received,
    service,
    wait_until,
)

FILES = 64
CONNECTIONS = 150
WATCHED_S = 1.0
MOST_OF_IT = 0.5  # a loop that spins always wants the processor, whatever it is given of it
FEW_LINES = 10


@needs_linux
def test_who_is_there_is_served_while_no_file_is_left_and_afterwards_everybody(tmp_path: Path) -> None:
    with service(tmp_path, mocked()) as running:
        number = running.process.pid
        resource.prlimit(number, resource.RLIMIT_NOFILE, (FILES, FILES))
        with running.connected() as first, ExitStack() as others:
            for _ in range(CONNECTIONS):
                others.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=30))
            wait_until(lambda: len(list(Path(f"/proc/{number}/fd").iterdir())) == FILES)
            began_s, before_s, lines = time.monotonic(), wanted_s(number), written(running)
            time.sleep(WATCHED_S)
            assert wanted_s(number) - before_s < MOST_OF_IT * (time.monotonic() - began_s)
            assert written(running) - lines < FEW_LINES
            with pytest.raises(ConnectionError):
                running.ask("/livez")
            assert asked_on(first).status == HTTPStatus.OK
        wait_until(lambda: answers(running))
        assert running.compare(replicate=1).status == HTTPStatus.OK
        assert "Traceback" not in running.written()


def wanted_s(process: int) -> float:
    """How long it has run or waited for its turn to run."""
    ran_ns, waited_ns, _ = Path(f"/proc/{process}/schedstat").read_text().split()
    return (int(ran_ns) + int(waited_ns)) / 1e9


def written(running: ServiceProcess) -> int:
    return running.written().count("\n")


def answers(running: ServiceProcess) -> bool:
    try:
        return running.ask("/livez").status == HTTPStatus.OK
    except ConnectionError:
        return False


def asked_on(plain: socket.socket) -> Answer:
    body = orjson.dumps(QUESTION)
    plain.sendall(f"POST {COMPARISON} HTTP/1.1\r\nHost: judge\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return received(plain)
