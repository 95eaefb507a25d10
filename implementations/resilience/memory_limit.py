"""Bounds the memory for what callers send: a request that does not fit is shed, before the process is OOM-killed."""

from api_models import ShedReason
from exceptions import ServiceOverloadedError


class MemoryLimit:
    """limit_bytes: of all reservations together."""

    def __init__(self, limit_bytes: float) -> None:
        self.limit_bytes = limit_bytes
        self._taken_bytes = 0

    @property
    def taken_bytes(self) -> int:
        """The sum of all reservations."""
        return self._taken_bytes

    def take(self, size_bytes: int) -> None:
        """Reserve size_bytes. Raises ServiceOverloadedError, and reserves nothing, if less is left."""
        if self._taken_bytes + size_bytes > self.limit_bytes:
            raise ServiceOverloadedError("the requests in flight take too much memory", shed=ShedReason.MEMORY)
        self._taken_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Release a reservation."""
        self._taken_bytes -= size_bytes
