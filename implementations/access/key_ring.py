"""Maps keys to callers. Only digests are stored, not the keys."""

import hashlib
import hmac
from collections.abc import Mapping


def digest_of(key: str) -> bytes:
    """SHA-256 over the key as sent: digests have equal lengths, so comparing them does not leak the key's length."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class KeyRing:
    """digests: of each caller's keys. A caller may hold several, for key rotation."""

    def __init__(self, digests: Mapping[str, frozenset[bytes]]) -> None:
        self._digests = dict(digests)

    @property
    def names(self) -> frozenset[str]:
        """All callers with a key."""
        return frozenset(self._digests)

    def replace(self, digests: Mapping[str, frozenset[bytes]]) -> bool:
        """Replace all digests, effective from the next request. Returns whether anything changed."""
        changed = self._digests != digests
        self._digests = dict(digests)
        return changed

    def owner_of(self, key: str) -> str | None:
        """The caller's name, or None. Every digest is compared, so that timing does not reveal which one matched."""
        shown, owner = digest_of(key), None
        for name, known in self._digests.items():
            for digest in known:
                if hmac.compare_digest(shown, digest):
                    owner = name
        return owner
