"""Authenticates callers by key; the administrator's key is accepted too, for reading only.

Callers' keys are as long as a digest and cannot be guessed, so a valid one always passes: wrong keys from the same
address lock nobody out. Only the administrator's key is not checked while an address is blocked.
"""

from collections.abc import Callable

import structlog

from api_models import ADMIN, ANONYMOUS, AccessRefusal, Door
from exceptions import CallerKeyRefusedError
from implementations.access.admin_key import AdminKey
from implementations.access.key_ring import KeyRing
from implementations.access.wrong_keys import WrongKeys
from metrics import Metrics

HOW = "send it as Authorization: Bearer, or as X-API-Key"

log = structlog.get_logger("access")


class CallerAccessImpl:
    """ring: the callers' keys, None if authentication is off. wrong_keys: those sent here, per address."""

    def __init__(self, ring: KeyRing | None, *, admin: AdminKey, wrong_keys: WrongKeys, metrics: Metrics) -> None:
        self._ring = ring
        self._admin = admin
        self._wrong_keys = wrong_keys
        self._metrics = metrics

    def identify(self, shown: Callable[[], str | None], *, peer: Callable[[], str], admin_may: bool) -> str:
        """The name under which this request is accounted. Raises CallerKeyRefusedError."""
        if self._ring is None:
            return ANONYMOUS
        key = shown()
        name = self._ring.owner_of(key or "")
        if name is not None:
            return name
        address = peer()
        is_watched = self._wrong_keys.wait_s(address) > 0
        if admin_may and not is_watched and self._is_admin(key, address):
            return ADMIN
        self._record_refusal(AccessRefusal.WRONG_KEY if key else AccessRefusal.NO_KEY, address, quietly=is_watched)
        raise CallerKeyRefusedError(HOW)

    def _is_admin(self, key: str | None, peer: str) -> bool:
        return self._admin.is_shown(key) and self._admin.is_taken_from(peer)

    def _record_refusal(self, reason: AccessRefusal, peer: str, *, quietly: bool) -> None:
        """Count every refusal; log wrong keys, at most five a minute per address. A missing key is not an attempt."""
        self._metrics.access_refusals.of(Door.CALLER, reason).inc()
        if reason is AccessRefusal.WRONG_KEY and not quietly:
            self._wrong_keys.remember(peer)
            log.warning("caller_refused", reason=reason, peer=peer)
