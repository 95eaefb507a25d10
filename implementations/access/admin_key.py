"""The administrator's key, and from where it is taken."""

import hmac
import ipaddress
import secrets
from collections.abc import Sequence

from config import IPNetwork
from implementations.access.digests import digest_of


class AdminKey:
    """key: None when there is none in force, and nothing opens. allowed: where administrators are, none: everywhere."""

    def __init__(self, key: str | None, *, allowed: Sequence[IPNetwork] = ()) -> None:
        self._digest = secrets.token_bytes(32) if key is None else digest_of(key)
        self._allowed = allowed

    def is_taken_from(self, address: str) -> bool:
        """An address that is not known is in no list."""
        if not self._allowed:
            return True
        try:
            known = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(known in network for network in self._allowed)

    def is_shown(self, key: str | None) -> bool:
        """In constant time, whatever was shown."""
        return hmac.compare_digest(digest_of(key or ""), self._digest)
