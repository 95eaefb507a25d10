"""Keeps the service's own keys and passwords out of what an operator writes, which everybody may read."""

import re

import orjson
from pydantic import SecretStr

from config import Settings, settings_table

SHORTEST_SECRET = 8  # a shorter one stands in other text by chance
PASSWORD_IN_URL = re.compile(r"://[^/@]*:([^/@]+)@")


def secrets_of(settings: Settings) -> frozenset[str]:
    """Every secret that is long enough to be told from other text, and what stands in a URL as its password."""
    values = (getattr(getattr(settings, row.group), row.field) for row in settings_table() if row.is_secret)
    texts = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
    passwords = {match[1] for text in texts if (match := PASSWORD_IN_URL.search(text))}
    return frozenset(text for text in texts | passwords if len(text) >= SHORTEST_SECRET)


def holds_secret(value: object, secrets: frozenset[str]) -> bool:
    """Whether one of them stands somewhere in the value: it would be shown to whoever reads settings and events."""
    text = orjson.dumps(value)
    return any(orjson.dumps(secret)[1:-1] in text for secret in secrets)
