"""The endless loop of the background tasks that have a fixed rhythm; `di.py` shows what each does, and how often."""

from collections.abc import Awaitable, Callable

from protocols import Work

Step = Callable[[], Awaitable[object]]


def repeated(*steps: Step) -> Work:
    """These in turn, forever. One of them is the pause."""

    async def run() -> None:
        while True:
            for step in steps:
                await step()

    return run
