"""Records who changed what: as a log line, an event, and an in-memory list of this process's latest changes."""

import json
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog
from pydantic import JsonValue

from api_models import AdminAction, AdminChange, AdminChanged
from implementations.observability.logging_setup import without_secrets
from protocols import Administrator, LLMEventPublisherProtocol

MOST_KEPT = 50

log = structlog.get_logger("admin", audit=True)


class AuditImpl:
    """now: the UTC wall clock."""

    def __init__(self, *, events: LLMEventPublisherProtocol, now: Callable[[], datetime]) -> None:
        self._events = events
        self._now = now
        self._latest: deque[AdminChange] = deque(maxlen=MOST_KEPT)

    def record(
        self, by: Administrator, action: AdminAction, field: str | None, *, old: JsonValue, new: JsonValue
    ) -> None:
        """Write one log line, whatever the level, and one event; whatever looks like a secret is masked in both."""
        change = AdminChange(
            at=self._now(),
            actor=by.actor,
            action=action,
            field=field,
            old=without_secrets(old),
            new=without_secrets(new),
            request_id=by.request_id,
        )
        self._latest.appendleft(change)
        told = change.model_dump(mode="json", exclude={"at", "old", "new"})
        log.warning("admin_changed", **told, old=_as_text(change.old), new=_as_text(change.new))
        self._events.publish(
            AdminChanged(
                actor=change.actor,
                action=change.action,
                field=change.field,
                old_value=change.old,
                new_value=change.new,
                request_id=change.request_id,
            )
        )

    def latest(self) -> Sequence[AdminChange]:
        """The latest changes, newest first."""
        return tuple(self._latest)


def _as_text(value: JsonValue) -> str:
    """As text: a log index accepts one type per field, and would refuse the line of a list after that of a number."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
