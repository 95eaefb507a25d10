"""Generates a key for one caller: prints it once, with its digest for CALLER_API_KEYS."""

import argparse
import secrets
import sys

import orjson

from caller_keys import caller_digests
from implementations.access.key_ring import digest_of

KEY_PREFIX = "llmp_"
KEY_BYTES = 32


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.caller_key", description=__doc__)
    parser.add_argument("name", help="the caller's name: lower-case letters, digits, dots, dashes, underscores")
    name = parser.parse_args(arguments).name
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    entry = orjson.dumps({name: [digest_of(key).hex()]}).decode()
    try:
        caller_digests(entry)
    except ValueError as complaint:
        print(f"{name}: {complaint}", file=sys.stderr)
        return 2
    print(f"The key for {name}; it is not stored and not shown again:\n\n    {key}\n")
    print(f"For CALLER_API_KEYS, or the file named by CALLER_API_KEYS_FILE:\n\n    {entry}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
