"""The digest that represents a key wherever it is stored or compared."""

import hashlib


def digest_of(key: str) -> bytes:
    """SHA-256 over the key as sent: digests have equal lengths, so comparing them does not leak the key's length."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
