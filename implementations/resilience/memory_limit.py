"""Bounds the memory that questions take together: who would not fit is turned away before the process is killed."""

from api_models import ShedReason
from exceptions import ServiceOverloadedError

RETRY_AFTER_S = 1.0


class MemoryLimit:
    """limit_bytes: of all that is taken and not given back yet."""

    def __init__(self, limit_bytes: float) -> None:
        self._limit_bytes = limit_bytes
        self._taken_bytes = 0

    @property
    def taken_bytes(self) -> int:
        """By all together."""
        return self._taken_bytes

    def take(self, size_bytes: int) -> None:
        """Raises ServiceOverloadedError, and takes nothing, when so much is not left."""
        if self._taken_bytes + size_bytes > self._limit_bytes:
            raise ServiceOverloadedError(
                "the questions under way take too much memory", shed=ShedReason.MEMORY, retry_after_s=RETRY_AFTER_S
            )
        self._taken_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """What was taken before."""
        self._taken_bytes -= size_bytes
