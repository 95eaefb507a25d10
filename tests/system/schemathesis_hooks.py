"""The one rule of the service that JSON Schema cannot say: an integer is written without a fraction."""

from typing import Any

import schemathesis

WHOLE = frozenset({"replicate", "max_tokens_override"})


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Write 3.0, which JSON Schema calls an integer, as 3."""
    if not isinstance(body, dict):
        return body
    return {
        name: int(value)
        if name in WHOLE and isinstance(value, float) and value.is_integer()
        else map_body(context, value)
        for name, value in body.items()
    }
