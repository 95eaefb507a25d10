"""This replica's view of the budget shared through Redis.

Redis keeps a sum per period and each replica's part of it. A replica *declares* what it holds, then sends differences
and asks for reservations. Any doubt (no answer, Redis lost its data or went back to older ones) ends that *epoch*: the
replica declares anew, and late messages of the old epoch have no effect.
"""

import asyncio
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from implementations.accounting.local_budget import LocalBudget
from protocols import Account, Reservation

AT_ONCE = 8  # requests for reservations: a burst of purchases must not take every connection
EPOCHS = 2  # in which a reservation is requested


class BudgetAnswer(IntEnum):
    """The shared budget's answer."""

    UNKNOWN = -1
    DONE = 0
    DAY_REFUSES = 1
    MONTH_REFUSES = 2


class Entry(NamedTuple):
    """One period's entry in a message, in micro-dollars: differences, or totals in a declaration."""

    period: str
    held: int
    spent: int
    limit: int | None


class Share(NamedTuple):
    """What the other replicas hold of one period (spent and reserved), and what they spent, in micro-dollars."""

    held: int
    spent: int


class Heard(NamedTuple):
    """An answer, and what this replica holds by period, as Redis sees it."""

    answer: BudgetAnswer
    held: Sequence[int]


NOTHING = Share(held=0, spent=0)
REFUSALS = BudgetAnswer.DAY_REFUSES, BudgetAnswer.MONTH_REFUSES


class SharedBudgetStore(Protocol):
    """The sums shared by all replicas."""

    async def exchange(self, verb: str, epoch: int, entries: Sequence[Entry], *, ceiling: int) -> list[int] | None:
        """Atomically apply the entries and reserve the ceiling, in all periods or in none.

        Returns the answer, then for each period what the others hold and spent, what this replica holds, and the number
        of its messages so far; None without a reply.
        """
        ...


class SharedBudget:
    """others: what the other replicas held and had spent at the last reply, by period; what is spent stays spent."""

    def __init__(self, store: SharedBudgetStore, *, local: LocalBudget) -> None:
        self._store = store
        self._local = local
        self._epoch = 0
        self._declared: tuple[Account, Account] | None = None
        self._declaring: asyncio.Task[None] | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._counted = 0  # messages of this replica, by Redis's highest count in this epoch
        self._answered = 0  # likewise, by the answers heard: each has a count of its own, unless Redis went back
        self.others: Mapping[str, Share] = {}

    @property
    def is_heard(self) -> bool:
        """The last message was answered."""
        return self._declared is not None

    @property
    def has_news(self) -> bool:
        """There are differences not sent yet."""
        return any(one.decided != one.sent_held or one.spent != one.sent_spent for one in self._local.accounts)

    async def take(self, reservation: Reservation, limits: Sequence[int | None]) -> BudgetAnswer | None:
        """Request a reservation that the local budget already holds, and decide upon it if it is granted.

        None: Redis is down, or the reservation was decided upon meanwhile. Must not be cancelled: the request may still
        be granted. No message tells of a ceiling before its own request is answered, because messages overtake each
        other. A request that ends the epoch is repeated in the next one: a Redis that lost its data can answer then.
        """
        async with self._turns:
            for _ in range(EPOCHS):
                # Asked again after the wait, in which its call may have gone on without an answer, or the day ended.
                is_wanted = reservation.is_undecided and await self._ready() and reservation.is_undecided
                if not is_wanted or reservation.accounts != self._local.accounts:
                    return None
                epoch, entries = self._epoch, self._differences(limits)
                heard = await self._send(epoch, entries, ceiling=reservation.ceiling)
                if heard is not None:
                    break
        if heard is None:
            return None
        if heard.answer is not BudgetAnswer.DONE:
            return heard.answer
        self._local.decide(reservation)
        if epoch == self._epoch:  # a declaration made meanwhile lacks the ceiling: it is then a difference to send
            for account in reservation.accounts:
                account.sent_held += reservation.ceiling
        return self._checked(entries, heard.held)

    async def sync(self) -> None:
        """Send pending differences and learn the others' shares."""
        if await self._ready():
            await self._send(self._epoch, self._differences((None, None)), ceiling=0)

    def _differences(self, limits: Sequence[int | None]) -> list[Entry]:
        """Pending differences, marked as sent."""
        entries = []
        for account, limit in zip(self._local.accounts, limits, strict=True):
            held, spent = account.decided - account.sent_held, account.spent - account.sent_spent
            account.sent_held, account.sent_spent = account.decided, account.spent
            entries.append(Entry(account.period, held, spent, limit))
        return entries

    async def _send(self, epoch: int, entries: Sequence[Entry], *, ceiling: int) -> Heard | None:
        reply = await self._store.exchange("change", epoch, entries, ceiling=ceiling)
        heard = self._heard(epoch, reply, entries)
        if heard is None and epoch == self._epoch:
            self._declared = None
        return heard

    def _heard(self, epoch: int, reply: Sequence[int] | None, entries: Sequence[Entry]) -> Heard | None:
        """The reply; None if there is none, or if Redis went back: there are then more answers than it counts."""
        if not reply or reply[0] == BudgetAnswer.UNKNOWN:
            return None
        if epoch == self._epoch:
            self._counted = max(self._counted, sum(reply[4::4]))
            self._answered += len(entries)
            shares = zip(entries, reply[1::4], reply[2::4], strict=True)
            self.others = {one.period: self._at_least(one.period, Share(held, spent)) for one, held, spent in shares}
        return Heard(BudgetAnswer(reply[0]), reply[3::4]) if self._answered <= self._counted else None

    def _checked(self, entries: Sequence[Entry], held: Sequence[int]) -> BudgetAnswer:
        """DONE, or a refusal if Redis granted what the others are known to have spent, and forgot that.

        The ceiling is then released like any other. held: by this replica.
        """
        for refusal, entry, mine in zip(REFUSALS, entries, held, strict=True):
            others = self.others.get(entry.period, NOTHING)  # the day may be over
            if entry.limit is not None and mine + others.held > entry.limit:
                return refusal
        return BudgetAnswer.DONE

    def _at_least(self, period: str, share: Share) -> Share:
        """What is spent stays spent, also when Redis has forgotten it."""
        spent = max(share.spent, self.others.get(period, NOTHING).spent)
        return Share(max(share.held, spent), spent)

    async def _ready(self) -> bool:
        """Whether the accounts are declared in this epoch; declares them if not, once for all waiters."""
        if self._declared != self._local.accounts:
            if self._declaring is None:
                self._declaring = asyncio.create_task(self._declare())
            await asyncio.shield(self._declaring)
        return self._declared == self._local.accounts

    async def _declare(self) -> None:
        try:
            accounts, self._declared = self._local.accounts, None
            self._epoch += 1
            self._counted = self._answered = 0
            for one in accounts:
                one.sent_held, one.sent_spent = one.decided, one.spent
            entries = [Entry(one.period, one.decided, one.spent, None) for one in accounts]
            reply = await self._store.exchange("declare", self._epoch, entries, ceiling=0)
            if self._heard(self._epoch, reply, entries) is not None:
                self._declared, self._answered = accounts, self._counted
        finally:
            self._declaring = None
