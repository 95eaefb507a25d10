"""The shared budget in memory, as the script in Redis keeps it; it can be away, lose answers and lose everything."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple

from implementations.accounting.shared_budget import Entry

Field = tuple[int, int, int, int]


class Snapshot(NamedTuple):
    """Sums, and fields of replicas, at one moment."""

    held: dict[str, int]
    spent: dict[str, int]
    fields: dict[tuple[str, str], Field]


NOTHING = Snapshot({}, {}, {})


class FakeSharedBudget:
    """What all replicas share; `of` gives one of them its door.

    turns: of the event loop that each message takes on its way, and each reply on its way back. messages: sent to it.
    """

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.spent: dict[str, int] = {}
        self.fields: dict[tuple[str, str], Field] = {}
        self.messages = 0
        self.away = False
        self.loses_answers = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.turns: Iterator[int] = repeat(1)

    def of(self, replica: str) -> "FakeBudgetStore":
        return FakeBudgetStore(self, replica)

    def delay_next_reply(self) -> None:
        """What is sent later, and answered, overtakes it."""
        self.turns = chain([1, 200], repeat(1))

    def forget(self) -> None:
        """Like a Redis that was started anew."""
        self.restore(NOTHING)

    def snapshot(self) -> "Snapshot":
        """What it holds now, for `restore`."""
        return Snapshot(dict(self.held), dict(self.spent), dict(self.fields))

    def restore(self, snapshot: "Snapshot") -> None:
        """Like a Redis that was started from an old file, or replaced by a replica that lagged behind."""
        self.held, self.spent, self.fields = dict(snapshot.held), dict(snapshot.spent), dict(snapshot.fields)

    def carry_out(self, replica: str, verb: str, epoch: int, entries: Sequence[Entry], ceiling: int) -> list[int]:
        known = [self.fields.get((period, replica), (-1, 0, 0, 0)) for period, *_ in entries]
        stale = any(one[0] >= epoch if verb == "declare" else one[0] != epoch for one in known)
        if stale:
            return [-1]
        answer = 0
        for number, ((period, held, spent, limit), (_, old_held, old_spent, messages)) in enumerate(
            zip(entries, known, strict=True), start=1
        ):
            base = (0, 0) if verb == "declare" else (old_held, old_spent)
            self._note(period, replica, (epoch, base[0] + held, base[1] + spent, messages + 1))
            if answer == 0 and limit is not None and self.held[period] + ceiling > limit:
                answer = number
        reply = [answer]
        for period, *_ in entries:
            _, held, spent, messages = self.fields[period, replica]
            if answer == 0:
                self._note(period, replica, (epoch, held := held + ceiling, spent, messages))
            reply += [self.held[period] - held, self.spent[period] - spent, held, messages]
        return reply

    def _note(self, period: str, replica: str, field: Field) -> None:
        _, old_held, old_spent, _ = self.fields.get((period, replica), (-1, 0, 0, 0))
        self.held[period] = self.held.get(period, 0) + field[1] - old_held
        self.spent[period] = self.spent.get(period, 0) + field[2] - old_spent
        self.fields[period, replica] = field


class FakeBudgetStore:
    """The shared budget as one replica sees it."""

    def __init__(self, store: FakeSharedBudget, replica: str) -> None:
        self._store = store
        self._replica = replica

    async def exchange(self, verb: str, epoch: int, entries: Sequence[Entry], *, ceiling: int) -> list[int] | None:
        self._store.messages += 1
        await self._on_its_way()
        await self._store.goes_on.wait()
        if self._store.away:
            return None
        reply = self._store.carry_out(self._replica, verb, epoch, entries, ceiling)
        await self._on_its_way()
        return None if self._store.loses_answers else reply

    async def _on_its_way(self) -> None:
        for _ in range(next(self._store.turns)):
            await asyncio.sleep(0)
