"""How long a stop takes beside the drain's delay and grace, at most."""

from implementations.events.outbox import FLUSH_TIMEOUT_S
from implementations.observability.log_writer import LAST_LINES_S
from implementations.resilience.drain import ABORT_S
from startup_setup import CLOSE_TIMEOUT_S, SERVER_GRACE_S

AFTER_DRAIN_S = ABORT_S + SERVER_GRACE_S + FLUSH_TIMEOUT_S + CLOSE_TIMEOUT_S + LAST_LINES_S
