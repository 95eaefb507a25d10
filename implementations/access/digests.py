"""What stands for a key wherever one is kept or compared."""

import hashlib


def digest_of(key: str) -> bytes:
    """SHA-256 over the key as it was sent: digests are bytes of one length, which hmac.compare_digest needs."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
