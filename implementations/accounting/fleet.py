"""The money of all replicas, as far as Redis can be asked.

Redis keeps a sum for each period and what each replica holds of it. A replica *declares* what it holds, and from then
on sends differences and asks for reservations. Whatever leaves a doubt (no answer, Redis lost its data) ends that
*epoch*: it declares anew, and whatever of the old epoch still arrives changes nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from implementations.accounting.purse import Purse
from protocols import Account, Reservation


class Answer(IntEnum):
    """What the shared purse says."""

    UNKNOWN = -1
    DONE = 0
    DAY_REFUSES = 1
    MONTH_REFUSES = 2


class Entry(NamedTuple):
    """One period's line in a message, in micro-dollars: differences, or all of it when declared."""

    period: str
    held: int
    spent: int
    limit: int | None


class Share(NamedTuple):
    """What the other replicas hold of one period, and what they spent, in micro-dollars."""

    held: int = 0
    spent: int = 0


class SharedPurse(Protocol):
    """The sums that replicas share."""

    async def exchange(self, verb: str, epoch: int, entries: Sequence[Entry], *, ceiling: int) -> list[int] | None:
        """In one atomic step: note the entries, and put the ceiling aside in all periods or in none.

        The answer, then what the others hold and spent, period by period; None when there is none.
        """
        ...


class Fleet:
    """others: what the other replicas hold and spent, when last heard of, by period."""

    def __init__(self, shared: SharedPurse, *, purse: Purse) -> None:
        self._shared = shared
        self._purse = purse
        self._epoch = 0
        self._declared: tuple[Account, Account] | None = None
        self._declaring: asyncio.Task[None] | None = None
        self.others: Mapping[str, Share] = {}

    @property
    def is_heard(self) -> bool:
        """The last message was answered."""
        return self._declared is not None

    @property
    def has_news(self) -> bool:
        """Something was not sent yet."""
        return any(one.held != one.sent_held or one.spent != one.sent_spent for one in self._purse.accounts)

    async def take(self, reservation: Reservation, limits: Sequence[int | None]) -> Answer | None:
        """Ask for what the purse holds already. None: Redis cannot say; the reservation stays as it is.

        Not to be cancelled: what was asked may be granted after that.
        """
        if not await self._ready() or reservation.accounts != self._purse.accounts:
            return None
        epoch, entries = self._epoch, self._differences(limits, less=reservation.ceiling)
        answer = await self._send(epoch, entries, ceiling=reservation.ceiling)
        # A declaration that was made meanwhile told of the ceiling: then taking it back is news.
        if answer and epoch == self._epoch:
            for account in reservation.accounts:
                account.sent_held -= reservation.ceiling
        return answer

    async def sync(self) -> bool:
        """Send what the others do not know yet, and hear of them."""
        if not await self._ready():
            return False
        return await self._send(self._epoch, self._differences((None, None)), ceiling=0) is not None

    def _differences(self, limits: Sequence[int | None], *, less: int = 0) -> list[Entry]:
        """less: what is not told but asked for."""
        entries = []
        for account, limit in zip(self._purse.accounts, limits, strict=True):
            held, spent = account.held - less - account.sent_held, account.spent - account.sent_spent
            account.sent_held, account.sent_spent = account.held, account.spent
            entries.append(Entry(account.period, held, spent, limit))
        return entries

    async def _send(self, epoch: int, entries: Sequence[Entry], *, ceiling: int) -> Answer | None:
        reply = await self._shared.exchange("change", epoch, entries, ceiling=ceiling)
        answer = self._heard(reply, entries)
        if answer is None and epoch == self._epoch:
            self._declared = None
        return answer

    def _heard(self, reply: Sequence[int] | None, entries: Sequence[Entry]) -> Answer | None:
        if not reply or reply[0] == Answer.UNKNOWN:
            return None
        self.others = {
            entry.period: Share(held, spent)
            for entry, held, spent in zip(entries, reply[1::2], reply[2::2], strict=True)
        }
        return Answer(reply[0])

    async def _ready(self) -> bool:
        """What is held was declared in this epoch, or is declared now, once for all who wait."""
        if self._declared != self._purse.accounts:
            if self._declaring is None:
                self._declaring = asyncio.create_task(self._declare())
            await asyncio.shield(self._declaring)
        return self._declared is not None and self._declared == self._purse.accounts

    async def _declare(self) -> None:
        try:
            accounts, self._declared = self._purse.accounts, None
            self._epoch += 1
            for one in accounts:
                one.sent_held, one.sent_spent = one.held, one.spent
            entries = [Entry(one.period, one.held, one.spent, None) for one in accounts]
            if (
                self._heard(await self._shared.exchange("declare", self._epoch, entries, ceiling=0), entries)
                is not None
            ):
                self._declared = accounts
        finally:
            self._declaring = None
