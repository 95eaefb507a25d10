"""The one rule of the service that JSON Schema cannot say: how an integer is written."""

from typing import Any

import schemathesis

WHOLE = frozenset({"replicate", "max_tokens_override", "llm_default_max_tokens"})


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Write 3.0, which JSON Schema calls an integer, as 3."""
    if not isinstance(body, dict):
        return body
    return {name: _written(value) if name in WHOLE else map_body(context, value) for name, value in body.items()}


def _written(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value
