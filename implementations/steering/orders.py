"""What an administrator ordered for one circuit, as it stands beside the others in Redis."""

from dataclasses import dataclass
from uuid import UUID

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from api_models import ForcedState, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """state and reason: None for a reset. until_s: unix seconds, None for ever. request_id: makes it another one."""

    state: ForcedState | None
    reason: Reason | None
    actor: str
    until_s: float | None
    request_id: UUID


ORDER = TypeAdapter(Order)


def order_of(stored: JsonValue) -> Order | None:
    """None for what is no order."""
    try:
        return ORDER.validate_python(stored)
    except ValidationError:
        return None


def stored_form(order: Order) -> JsonValue:
    """As it stands in Redis."""
    form: JsonValue = to_jsonable_python(order)
    return form
