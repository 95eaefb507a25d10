"""What a test puts into the service in the place of what `di.py` makes."""

from typing import Any

from dishka import Provider, Scope

from exceptions import ServiceError
from protocols import ComparisonQuery, ComparisonResult


def in_place_of(replaced: Any, stand_in: object) -> Provider:
    """To be given to `create_app`. replaced: the protocol or class by which `di.py` provides it."""
    provider = Provider(scope=Scope.APP)
    provider.provide(lambda: stand_in, provides=replaced, override=True)
    return provider


class NoVerdict:
    """An orchestrator that ends every question with the same failure."""

    def __init__(self, failure: ServiceError | RuntimeError) -> None:
        self._failure = failure

    async def compare(self, query: ComparisonQuery) -> ComparisonResult:
        """Raise it."""
        raise self._failure
