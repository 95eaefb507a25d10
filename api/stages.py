"""A request takes its steps side by side with those that are as far as it is, and not all of them at once.

An answer from the cache touches most of a megabyte of code and data, more than a core's cache holds beside the server:
of requests that come together each would find it cold from its first step to its last. In stages the first one warms
it for all (cohort scheduling: Larus and Parkes, USENIX 2002).
"""

from collections.abc import Generator
from types import coroutine


@coroutine
def next_stage() -> Generator[None, None, None]:
    """Let everybody go first who is ready by now. Nothing may be half done here: the caller may leave meanwhile."""
    yield
