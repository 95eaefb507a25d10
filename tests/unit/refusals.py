"""What tests of wrong settings have in common."""

from collections.abc import Callable

CANARY = "kanarienvogel"  # which no message may show

Refused = Callable[..., str]
