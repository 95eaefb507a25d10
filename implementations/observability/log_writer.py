"""Writes log lines without blocking: a slow reader of stdout delays nothing, a failed write raises nothing."""

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread

MOST_LINES = 10_000
GATHER_S = 0.05
LAST_LINES_S = 1.0
# No reader, no space; stdout was closed; there was none; no memory for the text.
UNWRITTEN = OSError, ValueError, AttributeError, MemoryError


class LineWriter(io.TextIOBase):
    """Takes whole lines for stdout: writes them directly, or after `start` in a thread.

    on_drop: called with the number of lines that may be lost, because MOST_LINES are waiting or the write of their
    batch failed.
    """

    def __init__(self) -> None:
        self.on_drop: Callable[[int], object] = lambda _: None
        self._waiting: SimpleQueue[str | None] | None = None
        self._thread: Thread | None = None
        self._is_torn = False

    def write(self, line: str) -> int:
        """Write or queue a line. Never raises; never waits after `start`."""
        if self._waiting is None:
            self._try(_print, [line])
        elif self._waiting.qsize() >= MOST_LINES:
            self.on_drop(1)
        else:
            self._waiting.put(line)
        return len(line)

    def isatty(self) -> bool:
        """Whether stdout is a terminal."""
        return sys.stdout is not None and sys.stdout.isatty()

    def start(self) -> None:
        """Write in a daemon thread from now on."""
        with contextlib.suppress(*UNWRITTEN):
            sys.stdout.flush()
        self._waiting = waiting = SimpleQueue[str | None]()
        self._thread = Thread(target=self._work, args=(waiting,), name="log-writer", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for queued lines to be written, a second at most; later lines are not written."""
        if self._waiting is not None and self._thread is not None:
            self._waiting.put(None)
            self._thread.join(LAST_LINES_S)

    def _work(self, waiting: SimpleQueue[str | None]) -> None:
        goes_on = True
        while goes_on:
            found = [waiting.get()]
            while len(found) < MOST_LINES:
                try:
                    found.append(waiting.get_nowait())
                except Empty:
                    break
            lines = [line for line in found if line is not None]
            goes_on = len(lines) == len(found)
            self._try(self._write_out, lines)
            time.sleep(GATHER_S)  # batches lines: waking up for each costs more than writing it

    def _try(self, write: Callable[[list[str]], None], lines: list[str]) -> None:
        try:
            write(lines)
        except UNWRITTEN:
            self.on_drop(len(lines))

    def _write_out(self, lines: list[str]) -> None:
        """Bypass Python's buffer, which would keep what could not be written and fail again at exit.

        After a partially written line the next text starts on a new line.
        """
        rest = (b"\n" if self._is_torn else b"") + "".join(lines).encode(errors="backslashreplace")
        while rest:
            count = os.write(sys.stdout.fileno(), rest)
            self._is_torn = rest[count - 1 : count] != b"\n"
            rest = rest[count:]


def _print(lines: list[str]) -> None:
    sys.stdout.write("".join(lines))
    sys.stdout.flush()


LINES = LineWriter()  # one per process, like stdout
