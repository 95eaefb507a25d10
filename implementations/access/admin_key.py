"""The administrator's key, and the addresses from which it is accepted."""

import hmac
import ipaddress
import secrets
from collections.abc import Sequence

from addresses import IPNetwork
from implementations.access.key_ring import digest_of


class AdminKey:
    """key: None if there is none, then no key matches. allowed: networks of administrators; empty: any address."""

    def __init__(self, key: str | None, *, allowed: Sequence[IPNetwork]) -> None:
        self._digest = secrets.token_bytes(32) if key is None else digest_of(key)
        self._allowed = allowed

    def is_taken_from(self, address: str) -> bool:
        """Whether the address is allowed; one that cannot be parsed is in no network."""
        if not self._allowed:
            return True
        try:
            known = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(known in network for network in self._allowed)

    def is_shown(self, key: str | None) -> bool:
        """Whether the key matches, compared in constant time."""
        return hmac.compare_digest(digest_of(key or ""), self._digest)
