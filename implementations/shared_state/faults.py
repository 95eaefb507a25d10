"""The faults of Redis, and the one table that maps redis-py's exceptions to them.

No exception text leaves this file: it may hold the address, or anything that the server wrote.
"""

from enum import StrEnum

from redis import exceptions

MAX_CLIENTS = "max number of clients reached"
BUSY = "BUSY "  # with the script or function of another client
NO_WRITES = "MISCONF ", "NOREPLICAS "  # its disk is full, or too few replicas follow it
ABOUT_THE_VALUE = "WRONGTYPE"


class Fault(StrEnum):
    """Why a command to Redis failed."""

    TIMEOUT = "timeout"
    SLOW = "slow"
    CONNECTION = "connection"
    POOL = "pool"
    MAX_CLIENTS = "max_clients"
    AUTHENTICATION = "authentication"
    DENIED = "denied"
    READ_ONLY = "read_only"
    OUT_OF_MEMORY = "out_of_memory"
    LOADING = "loading"
    MOVED = "moved"
    REFUSED = "refused"
    WRONG_TYPE = "wrong_type"
    AWAY = "away"


OF_ONE_COMMAND = frozenset({Fault.DENIED, Fault.REFUSED})  # and not of Redis as a whole, as far as one can tell

# Our own event loop stood still; or a node refuses all that waited while it handed our keys over.
OF_ONE_MOMENT = frozenset({Fault.TIMEOUT, Fault.SLOW, Fault.MOVED})


class RedisAwayError(Exception):
    """Redis is down or did not answer; callers continue without it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


# The first match wins, so narrower classes come first.
TABLE: tuple[tuple[type[Exception], Fault], ...] = (
    (exceptions.AuthenticationError, Fault.AUTHENTICATION),
    (exceptions.AuthenticationWrongNumberOfArgsError, Fault.AUTHENTICATION),
    (exceptions.AuthorizationError, Fault.AUTHENTICATION),
    (exceptions.BusyLoadingError, Fault.LOADING),
    (exceptions.MasterDownError, Fault.LOADING),
    (exceptions.ClusterDownError, Fault.LOADING),
    (exceptions.AskError, Fault.MOVED),
    (exceptions.TryAgainError, Fault.MOVED),
    (exceptions.NoPermissionError, Fault.DENIED),
    (exceptions.ReadOnlyError, Fault.READ_ONLY),
    (exceptions.OutOfMemoryError, Fault.OUT_OF_MEMORY),
    (exceptions.TimeoutError, Fault.TIMEOUT),
    (TimeoutError, Fault.TIMEOUT),
    (exceptions.ConnectionError, Fault.CONNECTION),
    (OSError, Fault.CONNECTION),
)


def fault_of(error: Exception) -> Fault:
    """The exception's fault; anything not listed is a refusal of this kind of command."""
    if str(error).endswith(MAX_CLIENTS):
        return Fault.MAX_CLIENTS
    if str(error).startswith(BUSY):
        return Fault.SLOW
    if str(error).startswith(NO_WRITES):
        return Fault.READ_ONLY
    return next((fault for kind, fault in TABLE if isinstance(error, kind)), Fault.REFUSED)


def is_about_the_value(reply: object) -> bool:
    """Whether the key holds what is not ours, for which Redis as a whole is not to blame."""
    return isinstance(reply, exceptions.ResponseError) and str(reply).startswith(ABOUT_THE_VALUE)
