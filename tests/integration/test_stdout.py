"""Whoever reads the log may be slow, gone or out of space: callers are answered, and lost lines are counted."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.service_process import ServiceProcess, mocked, service, wait_until

LINES = 600  # of some 400 bytes: more than a pipe takes
QUESTIONS = 40


@contextlib.contextmanager
def unread_pipe() -> Iterator[int]:
    """Its writing end."""
    reading, writing = os.pipe()
    try:
        yield writing
    finally:
        os.close(writing)
        os.close(reading)


@contextlib.contextmanager
def pipe_without_a_reader() -> Iterator[int]:
    """Likewise."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    """Takes nothing."""
    with Path("/dev/full").open("wb") as device:
        yield device.fileno()


def lost(running: ServiceProcess) -> float:
    return float(running.ask("/metrics").text.partition("\nllm_provider_log_dropped_total ")[2].split()[0])


@pytest.mark.parametrize("stdout", [pipe_without_a_reader, full_disk])
def test_a_log_that_cannot_be_written_costs_no_answer(
    tmp_path: Path, stdout: Callable[[], contextlib.AbstractContextManager[int]]
) -> None:
    with stdout() as out, service(tmp_path, mocked(ENVIRONMENT="production"), stdout=out) as running:
        for number in range(3):
            assert running.compare(replicate=number).status == 200
        wait_until(lambda: lost(running) >= 3)
        running.terminate()
        assert running.exit_code() == 0


def test_a_log_that_nobody_reads_holds_nobody_up(tmp_path: Path) -> None:
    with unread_pipe() as out, service(tmp_path, mocked(ENVIRONMENT="production"), stdout=out) as running:
        for _ in range(LINES):
            assert running.ask("/nowhere").status == 404
        for number in range(QUESTIONS):
            assert running.compare(replicate=number).status == 200
        assert running.ask("/livez").status == 200
        running.terminate()
        assert running.exit_code() == 0
