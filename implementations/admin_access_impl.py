"""The administrator's key: compared in constant time, and not looked at while an address tries wrong ones."""

import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Callable

import structlog

from exceptions import AdminKeyRefusedError, AdminTriedTooOftenError

MOST_FAILURES = 5
WINDOW_S = 60.0
MOST_PEERS = 1000

log = structlog.get_logger("admin")


class AdminAccessImpl:
    """key: the one that opens. clock: monotonic seconds."""

    def __init__(self, key: str, *, clock: Callable[[], float]) -> None:
        self._digest = _digest(key)
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, key: str | None, *, peer: str) -> None:
        """Pass whoever shows the key. Raises AdminKeyRefusedError, or AdminTriedTooOftenError before it looks."""
        wait_s = self._wait_s(peer)
        if wait_s > 0:
            raise AdminTriedTooOftenError("wait before the next try", retry_after_s=wait_s)
        # Digests have one length and are bytes: compare_digest takes neither other text nor tells a length.
        if key is None or not hmac.compare_digest(_digest(key), self._digest):
            self._remember(peer)
            log.warning("admin_key_refused", peer=peer, given=key is not None)
            raise AdminKeyRefusedError("send it as Authorization: Bearer, or as X-API-Key")

    def _wait_s(self, peer: str) -> float:
        failures = self._failures.get(peer)
        if failures is None or len(failures) < MOST_FAILURES:
            return 0.0
        return failures[0] + WINDOW_S - self._clock()

    def _remember(self, peer: str) -> None:
        self._failures.setdefault(peer, deque(maxlen=MOST_FAILURES)).append(self._clock())
        self._failures.move_to_end(peer)
        if len(self._failures) > MOST_PEERS:
            self._failures.popitem(last=False)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
