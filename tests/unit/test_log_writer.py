"""Lines of the log: in order, complete at the end, never waited for, and counted when they are lost."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from implementations.observability import log_writer
from implementations.observability.log_writer import LineWriter


class Stdout:
    """A pipe in the place of stdout."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self._ends = {self._reading, self._writing}

    def fileno(self) -> int:
        return self._writing

    def write(self, text: str) -> int:
        return os.write(self._writing, text.encode())

    def flush(self) -> None:
        """Nothing waits here."""

    def fill(self) -> None:
        """Until nobody could write any more without waiting."""
        os.set_blocking(self._writing, False)
        for size in (4096, 1):
            try:
                while True:
                    os.write(self._writing, b"x" * size)
            except BlockingIOError:
                continue
        os.set_blocking(self._writing, True)

    def read(self) -> str:
        """What was written so far."""
        return os.read(self._reading, 1_000_000).decode()

    def close(self, *ends: int) -> None:
        """All ends, or some."""
        for end in ends or tuple(self._ends):
            os.close(end)
            self._ends.discard(end)

    def lose_its_reader(self) -> None:
        self.close(self._reading)


@pytest.fixture
def stdout(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stdout]:
    """One that a test may stop up."""
    pipe = Stdout()
    monkeypatch.setattr(log_writer, "sys", SimpleNamespace(stdout=pipe))  # pytest puts its own into sys
    yield pipe
    pipe.close()


@pytest.fixture
def dropped() -> list[int]:
    """How many at each time."""
    return []


@pytest.fixture
def lines(dropped: list[int]) -> LineWriter:
    """Tells of what it loses."""
    writer = LineWriter()
    writer.on_drop = dropped.append
    return writer


def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    pytest.fail("what was waited for did not happen")


def test_lines_are_written_at_once_and_by_a_thread_until_the_end(stdout: Stdout, lines: LineWriter) -> None:
    lines.write("first\n")
    assert stdout.read() == "first\n"
    lines.start()
    for number in range(1000):
        lines.write(f"{number}\n")
    lines.finish()
    assert stdout.read() == "".join(f"{number}\n" for number in range(1000))


def test_what_no_encoding_knows_is_written_all_the_same(stdout: Stdout, lines: LineWriter) -> None:
    lines.start()
    lines.write("\ud800 é\n")
    lines.finish()
    assert stdout.read() == "\\ud800 é\n"


def test_nobody_waits_for_a_reader_who_does_not_read(
    stdout: Stdout, lines: LineWriter, dropped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST_LINES", 10)
    monkeypatch.setattr(log_writer, "LAST_LINES_S", 0.05)
    stdout.fill()
    lines.start()
    for _ in range(100):
        lines.write("line\n")
    lines.finish()

    assert 80 <= sum(dropped) <= 90  # ten wait, and as many may be with the writer
    stdout.lose_its_reader()
    until(lambda: sum(dropped) == 100)


@pytest.mark.parametrize("by_a_thread", [True, False])
def test_lines_without_a_reader_are_counted_and_nobody_fails(
    stdout: Stdout, lines: LineWriter, dropped: list[int], *, by_a_thread: bool
) -> None:
    stdout.lose_its_reader()
    if by_a_thread:
        lines.start()
    lines.write("one\n")
    lines.write("two\n")
    lines.finish()

    assert sum(dropped) == 2


@pytest.mark.parametrize("refusal", [OSError(errno.ENOSPC, "no space"), MemoryError()], ids=repr)
def test_a_full_disk_or_memory_is_no_end_of_the_log(
    refusal: Exception, stdout: Stdout, lines: LineWriter, dropped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, full = os.write, [False, True]

    def written(descriptor: int, data: bytes) -> int:
        if full and full.pop(0):
            raise refusal
        return write(descriptor, data[:3])  # and a little at a time

    monkeypatch.setattr(os, "write", written)
    lines.start()
    lines.write("lost\n")
    until(lambda: dropped == [1])
    lines.write("written\n")
    lines.finish()

    assert (dropped, stdout.read()) == ([1], "los\nwritten\n")


@pytest.mark.parametrize("by_a_thread", [True, False])
def test_where_there_is_no_stdout_lines_are_counted(
    lines: LineWriter, dropped: list[int], monkeypatch: pytest.MonkeyPatch, *, by_a_thread: bool
) -> None:
    monkeypatch.setattr(log_writer, "sys", SimpleNamespace(stdout=None))  # as where the process began with it closed
    assert not lines.isatty()
    if by_a_thread:
        lines.start()
    lines.write("one\n")
    lines.finish()

    assert sum(dropped) == 1
