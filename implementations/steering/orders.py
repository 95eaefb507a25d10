"""An administrator's order for one circuit, and its form in Redis."""

from dataclasses import dataclass
from uuid import UUID

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from api_models import ForcedState, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """state, reason: None for a reset. until_s: Unix seconds, None for no expiry. request_id: makes orders distinct."""

    state: ForcedState | None
    reason: Reason | None
    actor: str
    until_s: float | None
    request_id: UUID


ORDER = TypeAdapter(Order)


def order_of(stored: JsonValue) -> Order | None:
    """The stored order, or None if it is invalid."""
    try:
        return ORDER.validate_python(stored)
    except ValidationError:
        return None


def stored_form(order: Order) -> JsonValue:
    """The order as stored in Redis."""
    form: JsonValue = to_jsonable_python(order)
    return form
