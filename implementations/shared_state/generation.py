"""A number in the key of every entry in Redis: raising it invalidates all of them at once, without scanning."""

from collections.abc import Callable


class Generation:
    """It never decreases. on_advance: called after each advance; set later by the cache."""

    def __init__(self) -> None:
        self.number = 0
        self.on_advance: Callable[[], None] = lambda: None

    def advance_to(self, number: int) -> None:
        """Advance to the number; a smaller or equal one changes nothing."""
        if number > self.number:
            self.number = number
            self.on_advance()
