"""Guards changes to the running service: they need the administrator's key, sent from an allowed address.

After too many wrong keys from an address no key is checked, not even the right one: people choose this key, so it
could be guessed.
"""

from typing import NoReturn

import structlog

from api_models import AccessRefusal, Door
from exceptions import AdminAddressRefusedError, AdminKeyRefusedError, AdminTriedTooOftenError, ServiceError
from implementations.access.admin_key import AdminKey
from implementations.access.wrong_keys import WrongKeys
from metrics import Metrics

log = structlog.get_logger("admin")


class AdminAccessImpl:
    """wrong_keys: those sent to the admin routes, per address."""

    def __init__(self, key: AdminKey, *, wrong_keys: WrongKeys, metrics: Metrics) -> None:
        self._key = key
        self._wrong_keys = wrong_keys
        self._metrics = metrics

    def check(self, key: str | None, *, peer: str) -> None:
        """Return if the key is the administrator's.

        Raises AdminKeyRefusedError; before the key is checked, AdminTriedTooOftenError or AdminAddressRefusedError.
        """
        wait_s = self._wrong_keys.wait_s(peer)
        if wait_s > 0:
            self._metrics.access_refusals.of(Door.ADMIN, AccessRefusal.TOO_OFTEN).inc()
            raise AdminTriedTooOftenError("wait before the next try", retry_after_s=wait_s)
        if not self._key.is_taken_from(peer):
            self._refuse(AccessRefusal.ADDRESS, peer, AdminAddressRefusedError("ADMIN_ALLOWED_IPS says from where"))
        if not self._key.is_shown(key):
            refusal = AdminKeyRefusedError("send it as Authorization: Bearer, or as X-API-Key")
            self._refuse(AccessRefusal.WRONG_KEY if key else AccessRefusal.NO_KEY, peer, refusal)

    def _refuse(self, reason: AccessRefusal, peer: str, refusal: ServiceError) -> NoReturn:
        """Count every refusal; log attempts, at most five a minute per address. A missing key is not an attempt."""
        self._metrics.access_refusals.of(Door.ADMIN, reason).inc()
        if reason is not AccessRefusal.NO_KEY:
            self._wrong_keys.remember(peer)
            log.warning("admin_refused", reason=reason, peer=peer)
        raise refusal
