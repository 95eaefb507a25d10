"""A number in every entry's key: raising it forgets all entries at once, without looking for them."""

from collections.abc import Callable


class Generation:
    """It only ever grows. on_advance: told after each raise, once it is known who wants to know."""

    def __init__(self) -> None:
        self.number = 0
        self.on_advance: Callable[[], None] = lambda: None

    def advance_to(self, number: int) -> None:
        """A smaller or equal number changes nothing."""
        if number > self.number:
            self.number = number
            self.on_advance()
