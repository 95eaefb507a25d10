"""Stand-ins for what steering leans on: a document that replicas share, an audit that keeps what it is told."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from pydantic import JsonValue

from api_models import AdminAction, AdminChange
from protocols import Administrator

REQUEST_ID = UUID("99999999-2222-4333-8444-555555555555")
ADMIN = Administrator(actor="admin@10.0.0.7", request_id=REQUEST_ID)


@dataclass(kw_only=True)
class FakeDocument:
    """One text in memory. away: nothing is answered; reads_only: no write is; forgets_answers: writes are done unheard.

    meanwhile: what somebody else puts there after the next reading.
    """

    text: bytes = b""
    away: bool = False
    reads_only: bool = False
    forgets_answers: bool = False
    meanwhile: list[bytes] = field(default_factory=list)

    async def read(self) -> bytes | None:
        await asyncio.sleep(0)
        there = None if self.away else self.text
        if self.meanwhile:
            self.text = self.meanwhile.pop(0)
        return there

    async def replace(self, there: bytes, fresh: bytes) -> bool | None:
        await asyncio.sleep(0)
        if self.away or self.reads_only:
            return None
        if there != self.text:
            return False
        self.text = fresh
        return None if self.forgets_answers else True


class FakeAudit:
    """Keeps what it was told, as (actor, action, field, old, new)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, AdminAction, str | None, JsonValue, JsonValue]] = []

    def record(
        self, by: Administrator, action: AdminAction, field: str | None, *, old: JsonValue, new: JsonValue
    ) -> None:
        self.told.append((by.actor, action, field, old, new))

    def latest(self) -> Sequence[AdminChange]:
        return ()
