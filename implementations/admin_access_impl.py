"""Guards changes to the running service: they need the administrator's key, sent from an allowed address.

After too many wrong keys from an address no key is checked, not even the right one: people choose this key, so it
could be guessed.
"""

from api_models import AccessRefusal
from exceptions import AdminAddressRefusedError, AdminKeyRefusedError, AdminTriedTooOftenError
from implementations.access.admin_key import AdminKey
from implementations.access.wrong_keys import WrongKeys


class AdminAccessImpl:
    """wrong_keys: those sent to the admin routes, per address."""

    def __init__(self, key: AdminKey, *, wrong_keys: WrongKeys) -> None:
        self._key = key
        self._wrong_keys = wrong_keys

    def check(self, key: str | None, *, peer: str) -> None:
        """Return if the key is the administrator's.

        Raises AdminKeyRefusedError; before the key is checked, AdminTriedTooOftenError or AdminAddressRefusedError.
        """
        wait_s = self._wrong_keys.wait_s(peer)
        if wait_s > 0:
            self._wrong_keys.refused(AccessRefusal.TOO_OFTEN, peer)
            raise AdminTriedTooOftenError("wait before the next try", retry_after_s=wait_s)
        if not self._key.is_taken_from(peer):
            self._wrong_keys.refused(AccessRefusal.ADDRESS if key else AccessRefusal.NO_KEY, peer)
            raise AdminAddressRefusedError("ADMIN_ALLOWED_IPS says from where")
        if not self._key.is_shown(key):
            self._wrong_keys.refused(AccessRefusal.WRONG_KEY if key else AccessRefusal.NO_KEY, peer)
            raise AdminKeyRefusedError("send it as Authorization: Bearer, or as X-API-Key")
