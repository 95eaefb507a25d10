"""Authenticates callers by key; the administrator's key is accepted too, for reading only.

Callers' keys are as long as a digest and cannot be guessed, so a valid one always passes: wrong keys from the same
address lock nobody out. Only the administrator's key is not checked while an address is blocked.
"""

from collections.abc import Callable

from api_models import ADMIN, ANONYMOUS, AccessRefusal
from exceptions import CallerKeyRefusedError
from implementations.access.admin_key import AdminKey
from implementations.access.key_ring import KeyRing
from implementations.access.wrong_keys import WrongKeys


class CallerAccessImpl:
    """ring: the callers' keys, None if authentication is off. wrong_keys: those sent here, per address."""

    def __init__(self, ring: KeyRing | None, *, admin: AdminKey, wrong_keys: WrongKeys) -> None:
        self._ring = ring
        self._admin = admin
        self._wrong_keys = wrong_keys

    def identify(self, shown: Callable[[], str | None], *, peer: Callable[[], str], admin_may: bool) -> str:
        """The name under which this request is accounted. Raises CallerKeyRefusedError."""
        if self._ring is None:
            return ANONYMOUS
        key = shown()
        name = self._ring.owner_of(key or "")
        if name is not None:
            return name
        address = peer()
        if admin_may and self._wrong_keys.wait_s(address) == 0 and self._is_admin(key, address):
            return ADMIN
        self._wrong_keys.refused(AccessRefusal.WRONG_KEY if key else AccessRefusal.NO_KEY, address)
        raise CallerKeyRefusedError("send it as Authorization: Bearer, or as X-API-Key")

    def _is_admin(self, key: str | None, peer: str) -> bool:
        return self._admin.is_shown(key) and self._admin.is_taken_from(peer)
