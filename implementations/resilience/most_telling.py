"""Which of several candidates' failures the caller is told."""

from collections.abc import Sequence
from copy import copy
from math import inf

from exceptions import CircuitOpenError, CostLimitExceededError, ServiceError


def most_telling(failures: Sequence[ServiceError]) -> ServiceError:
    """The last failure of a provider that was asked; if none was, an open circuit, with the shortest wait of all.

    Failing that, a failure that a short wait may resolve takes precedence over our cost limit.
    """
    asked = [failure for failure in failures if failure.provider_was_asked]
    if asked:
        return asked[-1]
    passing = [failure for failure in failures if not isinstance(failure, CostLimitExceededError)] or failures
    nearest = min(reversed(passing), key=_known_wait_s)
    open_circuits = [failure for failure in passing if isinstance(failure, CircuitOpenError)]
    told = min(open_circuits, key=_known_wait_s, default=nearest)
    if told is not nearest:
        told = copy(told)  # others who share the flight get the original
        told.retry_after_s = nearest.retry_after_s
    return told


def _known_wait_s(failure: ServiceError) -> float:
    """Infinite if nobody knows."""
    return inf if failure.retry_after_s is None else failure.retry_after_s
