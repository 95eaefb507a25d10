"""Whose key it is. Keys themselves are not known here, only their digests."""

import hmac
from collections.abc import Mapping

from implementations.access.digests import digest_of


class KeyRing:
    """digests: of each caller's keys. A caller may hold several, so that one can take the place of another."""

    def __init__(self, digests: Mapping[str, frozenset[bytes]]) -> None:
        self._digests = dict(digests)

    @property
    def names(self) -> frozenset[str]:
        """Everybody who holds a key."""
        return frozenset(self._digests)

    def replace(self, digests: Mapping[str, frozenset[bytes]]) -> bool:
        """Take these instead, from the next request on. Returns whether anything changed."""
        changed = self._digests != digests
        self._digests = dict(digests)
        return changed

    def owner_of(self, key: str) -> str | None:
        """The name, or None. Every digest is compared, so that the time does not tell which was nearly right."""
        shown, owner = digest_of(key), None
        for name, known in self._digests.items():
            for digest in known:
                if hmac.compare_digest(shown, digest):
                    owner = name
        return owner
