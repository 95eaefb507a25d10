"""Makes a key for one caller: shows it once, and the digest that belongs into CALLER_API_KEYS."""

import argparse
import hashlib
import secrets
import sys

import orjson

from config import caller_digests

KEY_PREFIX = "llmp_"
KEY_BYTES = 32


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.caller_key", description=__doc__)
    parser.add_argument("name", help="who will show the key: lower-case letters, digits, dots, dashes")
    name = parser.parse_args(arguments).name
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    entry = orjson.dumps({name: [hashlib.sha256(key.encode()).hexdigest()]}).decode()
    try:
        caller_digests(entry)
    except ValueError as complaint:
        print(f"{name}: {complaint}", file=sys.stderr)
        return 2
    print(f"The key, for {name} only; it is kept nowhere and shown only now:\n\n    {key}\n")
    print(f"CALLER_API_KEYS, or the file that CALLER_API_KEYS_FILE names:\n\n    {entry}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
