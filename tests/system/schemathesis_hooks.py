"""The two rules of the service that JSON Schema cannot say: how an integer is written, and what can be printed."""

from typing import Any

import schemathesis

WHOLE = frozenset({"replicate", "max_tokens_override", "llm_default_max_tokens"})
RULED = WHOLE | {"reason"}


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Write 3.0, which JSON Schema calls an integer, as 3, and give reasons that can be printed on one line."""
    if not isinstance(body, dict):
        return body
    return {name: _written(name, value) if name in RULED else map_body(context, value) for name, value in body.items()}


def _written(name: str, value: object) -> object:
    if name in WHOLE and isinstance(value, float) and value.is_integer():
        return int(value)
    if name == "reason" and isinstance(value, str) and value.strip():
        return "".join(letter if letter.isprintable() else "." for letter in value)
    return value
