"""An alarm that an event loop hears within a tenth of a millisecond.

The timers of uvloop and of epoll count whole milliseconds, in which an open loop would send in bunches. Linux has
timers that are files; Python offers them from 3.13 on, until then libc is asked.
"""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable

CLOCK_MONOTONIC = 1
NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
ABSOLUTE = 1
NS = 1_000_000_000

_libc = ctypes.CDLL(None, use_errno=True)


class _Setting(ctypes.Structure):
    """struct itimerspec: the repetition, which is not used, and the moment."""

    _fields_ = (
        ("again_s", ctypes.c_long),
        ("again_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class Alarm:
    """Calls back once for each `set`, at that moment of time.monotonic or at once when it is past."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._file: int = _libc.timerfd_create(CLOCK_MONOTONIC, NONBLOCK_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "no timer")
        self._set_to_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._file, self._rang)

    def set(self, at_s: float) -> None:
        """Replaces an earlier setting."""
        if at_s == self._set_to_s:
            return
        self._set_to_s = at_s
        at_ns = max(1, round(at_s * NS))  # zero would switch it off
        setting = _Setting(0, 0, at_ns // NS, at_ns % NS)
        _libc.timerfd_settime(self._file, ABSOLUTE, ctypes.byref(setting), None)

    def close(self) -> None:
        """Never call back again."""
        self._loop.remove_reader(self._file)
        os.close(self._file)

    def _rang(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it was set anew just after it rang
            os.read(self._file, 8)
        self._ring()
