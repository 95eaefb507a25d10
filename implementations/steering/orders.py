"""An administrator's order for one circuit, and its form in Redis."""

from dataclasses import dataclass
from uuid import UUID

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from api_models import ForcedState, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """state, reason: None for a reset. at_s: Unix seconds. for_s: None for ever. request_id: makes orders distinct."""

    state: ForcedState | None
    reason: Reason | None
    actor: str
    at_s: float
    for_s: float | None
    request_id: UUID

    def left_s(self, now_s: float) -> float | None:
        """Seconds until it expires, not positive if it has; None for never. At most for_s, if the clock is behind."""
        return None if self.for_s is None else self.for_s - max(0.0, now_s - self.at_s)


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
