"""Detects the service's own keys and passwords in operator input, which others can read later."""

import re
from urllib.parse import unquote

import orjson
from pydantic import SecretStr

from config import Settings, settings_table

SHORTEST_SECRET = 8  # characters; a shorter one may occur in other text by chance
PASSWORD_IN_URL = re.compile(r"://[^/@]*:([^/@]+)@")


def secrets_of(settings: Settings) -> frozenset[str]:
    """Every secret, and every password in a URL, as written there and as sent, that is too long to occur by chance."""
    values = (row.value_in(settings) for row in settings_table() if row.is_secret)
    texts = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
    passwords = {match[1] for text in texts if (match := PASSWORD_IN_URL.search(text))}
    known = texts | passwords | set(map(unquote, passwords))
    return frozenset(text for text in known if len(text) >= SHORTEST_SECRET)


def holds_secret(value: object, secrets: frozenset[str]) -> bool:
    """Whether the value contains one of them: anyone who reads settings or events would see it."""
    text = orjson.dumps(value)
    return any(orjson.dumps(secret)[1:-1] in text for secret in secrets)
