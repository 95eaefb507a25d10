"""How callers' keys are written: the digests of each caller's keys, as JSON."""

import hashlib
import json
import re
from collections.abc import Mapping

from api_models import ADMIN, ANONYMOUS

CALLER_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
SHA256_HEX = re.compile(r"[0-9a-fA-F]{64}")
DIGEST_OF_NOTHING = hashlib.sha256().digest()  # what a script makes of a variable that it forgot to set
CALLER_KEYS_FORM = 'must be JSON: {"name": ["SHA-256 of a key in hex", ...], ...}'

CallerDigests = Mapping[str, frozenset[bytes]]


def caller_digests(text: str) -> CallerDigests:
    """The SHA-256 digests of each caller's keys, from `{"name": ["hex", ...], ...}`.

    Raises ValueError, whose text contains nothing of the input.
    """
    try:
        found = json.loads(text, object_pairs_hook=_distinct_names)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(CALLER_KEYS_FORM) from None
    if not isinstance(found, dict) or not found:
        raise ValueError(CALLER_KEYS_FORM)
    digests = {name: _digests_of(name, listed) for name, listed in found.items()}
    if len(frozenset().union(*digests.values())) != sum(map(len, digests.values())):
        raise ValueError("assigns one key to two callers")
    return digests


def _distinct_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON parser keeps the last of two equal names, which would lock out the holder of the first one's key."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("names a caller twice")
    return dict(pairs)


def _digests_of(name: str, listed: object) -> frozenset[bytes]:
    if not CALLER_NAME.fullmatch(name) or name in {ADMIN, ANONYMOUS}:
        raise ValueError(f"a caller's name is {CALLER_NAME.pattern}, and neither {ADMIN} nor {ANONYMOUS}")
    if not isinstance(listed, list) or not listed:
        raise ValueError(CALLER_KEYS_FORM)
    if not all(isinstance(digest, str) and SHA256_HEX.fullmatch(digest) for digest in listed):
        raise ValueError(CALLER_KEYS_FORM)
    digests = frozenset(map(bytes.fromhex, listed))
    if DIGEST_OF_NOTHING in digests:
        raise ValueError("holds the digest of an empty key, which everybody has")
    return digests
