"""What the command lines have in common: which numbers they take, and how they end."""

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T", int, float)


def positive(kind: Callable[[str], T]) -> Callable[[str], T]:
    """The type of an argument."""

    def number(text: str) -> T:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError("must be more than 0")
        return value

    return number


@contextmanager
def ended_when_told() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does, so that nothing is left running: Redis ignores the latter.

    The loop then cancels its task; an exception raised while a connection reads would end no more than the connection.
    Raises SystemExit in the end.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background jobs ignore it
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit("Interrupted.") from None
