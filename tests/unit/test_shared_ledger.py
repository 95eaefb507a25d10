"""The ledger of all replicas: nothing is lost, whatever Redis loses, and nothing counts twice."""

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import timedelta
from itertools import repeat
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_models import ProviderName, UsageScope
from implementations.accounting.ledger import Ledger
from implementations.accounting.shared_ledger import SharedLedger, Texts
from protocols import UsageTotals
from tests.fakes import NOON, Calendar

OPENAI = ProviderName.OPENAI
TODAY = NOON.date()
ONE = UsageTotals(requests=1, cost_micro_usd=7_000_000)


class FakeUsage:
    """Texts that replicas share; `of` is one replica's store. turns: of the event loop that each writing takes."""

    def __init__(self) -> None:
        self.texts: dict[str, dict[tuple[str, str], bytes]] = {}
        self.away = False
        self.loses_answers = False
        self.tells_nothing = False
        self.turns: Iterator[int] = repeat(0)

    def of(self) -> "FakeUsageStore":
        return FakeUsageStore(self, str(uuid4()))


class FakeUsageStore:
    """The texts as one replica sees them; readers: the threads in which they were read."""

    def __init__(self, usage: FakeUsage, replica: str) -> None:
        self._usage = usage
        self._replica = replica
        self.rounds: list[int] = []
        self.readers: set[int] = set()

    async def put(self, days: Mapping[str, Texts]) -> int | None:
        for _ in range(next(self._usage.turns)):
            await asyncio.sleep(0)
        if self._usage.away:
            return None
        added = 0
        for day, texts in days.items():
            kept = self._usage.texts.setdefault(day, {})
            for name, text in texts.items():
                added += (self._replica, name) not in kept
                kept[self._replica, name] = text
        self.rounds.append(sum(map(len, days.values())))
        return None if self._usage.loses_answers else added

    async def days(self, days: Sequence[str]) -> Sequence[Iterator[tuple[str, bytes]]] | None:
        if self._usage.away or self._usage.tells_nothing:
            return None
        return [self._read(day) for day in days]

    def _read(self, day: str) -> Iterator[tuple[str, bytes]]:
        for (_, name), text in self._usage.texts.get(day, {}).items():
            self.readers.add(threading.get_ident())
            yield name, text


def replica(usage: FakeUsage | None, calendar: Calendar | None = None) -> tuple[Ledger, SharedLedger]:
    ledger = Ledger(now=calendar or Calendar())
    return ledger, SharedLedger(ledger, None if usage is None else usage.of())


async def test_a_fleet_reads_what_all_of_it_booked() -> None:
    usage = FakeUsage()
    (one, shared_of_one), (other, shared_of_other) = replica(usage), replica(usage)
    one.book(OPENAI, "a|b", ONE)
    other.book(OPENAI, "a|b", ONE)
    other.book(OPENAI, "c", ONE)
    await shared_of_other.send()
    read = await shared_of_one.read(TODAY, TODAY)
    assert (read.scope, read.rows) == (UsageScope.FLEET, {(OPENAI, "a|b"): ONE + ONE, (OPENAI, "c"): ONE})
    assert read.of(OPENAI) == ONE + ONE + ONE


async def test_a_redis_that_lost_its_data_is_told_everything_again() -> None:
    usage, calendar = FakeUsage(), Calendar()
    (one, shared_of_one), (other, shared_of_other) = replica(usage, calendar), replica(usage, calendar)
    for ledger, shared in ((one, shared_of_one), (other, shared_of_other)):
        ledger.book(OPENAI, "a", ONE)
        await shared.send()
    calendar.move(days=1)
    for ledger, shared in ((one, shared_of_one), (other, shared_of_other)):
        ledger.book(OPENAI, "b", ONE)
        await shared.send()
    usage.texts.clear()
    assert (await shared_of_one.read(TODAY, calendar.now.date())).of(OPENAI) == ONE + ONE
    await shared_of_other.send()
    assert (await shared_of_one.read(TODAY, calendar.now.date())).of(OPENAI) == ONE + ONE + ONE + ONE


async def test_a_loss_after_midnight_is_noticed_as_well() -> None:
    usage, calendar = FakeUsage(), Calendar()
    ledger, shared = replica(usage, calendar)
    ledger.book(OPENAI, "a", ONE)
    await shared.send()
    calendar.move(days=1)
    usage.texts.clear()
    ledger.book(OPENAI, "a", ONE)
    await shared.send()
    assert (await shared.read(TODAY, TODAY)).of(OPENAI) == ONE


async def test_a_loss_is_made_good_in_the_round_that_notices_it_for_all_days() -> None:
    usage, calendar = FakeUsage(), Calendar()
    ledger, shared = replica(usage, calendar)
    for _ in range(4):
        ledger.book(OPENAI, "a", ONE)
        await shared.send()
        calendar.move(days=1)
    usage.texts.clear()
    assert await shared.send()
    assert [len(usage.texts[(TODAY + timedelta(days=number)).isoformat()]) for number in range(4)] == [1] * 4


async def test_rows_of_a_whole_fleet_are_not_read_on_the_event_loop() -> None:
    ledger, usage = Ledger(now=Calendar()), FakeUsage().of()
    ledger.book(OPENAI, "a", ONE)
    assert (await SharedLedger(ledger, usage).read(TODAY, TODAY)).of(OPENAI) == ONE
    assert usage.readers
    assert threading.get_ident() not in usage.readers


async def test_what_was_booked_while_redis_was_away_for_days_is_told_when_it_returns() -> None:
    usage, calendar = FakeUsage(), Calendar()
    ledger, shared = replica(usage, calendar)
    usage.away = True
    for _ in range(4):
        ledger.book(OPENAI, "a", ONE)
        assert not await shared.send()
        calendar.move(days=1)
    usage.away = False
    read = await shared.read(TODAY, calendar.now.date())
    assert (read.scope, read.of(OPENAI)) == (UsageScope.FLEET, ONE + ONE + ONE + ONE)


async def test_a_redis_that_was_away_for_two_midnights_and_comes_back_empty_is_told_everything() -> None:
    usage, calendar = FakeUsage(), Calendar()
    ledger, shared = replica(usage, calendar)
    ledger.book(OPENAI, "a", ONE)
    assert await shared.send()
    usage.away = True
    for _ in range(2):
        calendar.move(days=1)
        ledger.book(OPENAI, "a", ONE)
        assert not await shared.send()
    usage.texts.clear()
    usage.away = False
    assert (await shared.read(TODAY, calendar.now.date())).of(OPENAI) == ONE + ONE + ONE


async def test_a_redis_that_went_back_to_older_figures_is_told_the_truth() -> None:
    usage = FakeUsage()
    ledger, shared = replica(usage)
    ledger.book(OPENAI, "a", ONE)
    await shared.send()
    older = deepcopy(usage.texts)
    ledger.book(OPENAI, "a", ONE)
    await shared.send()
    usage.texts = older
    assert (await shared.read(TODAY, TODAY)).of(OPENAI) == ONE + ONE


async def test_a_reader_s_round_is_not_overwritten_by_a_slower_one_that_began_before_it() -> None:
    usage = FakeUsage()
    usage.turns = iter([5, 0])
    ledger, shared = replica(usage)
    ledger.book(OPENAI, "a", ONE)
    slow = asyncio.create_task(shared.send())
    await asyncio.sleep(0)
    ledger.book(OPENAI, "a", ONE)
    assert (await shared.read(TODAY, TODAY)).of(OPENAI) == ONE + ONE
    assert await slow
    assert (await replica(usage)[1].read(TODAY, TODAY)).of(OPENAI) == ONE + ONE


async def test_only_the_last_two_days_and_what_changed_is_written() -> None:
    usage, calendar = FakeUsage(), Calendar()
    ledger, store = Ledger(now=calendar), usage.of()
    shared = SharedLedger(ledger, store)
    await shared.send()
    ledger.book(OPENAI, "a", ONE)
    ledger.book(OPENAI, "b", ONE)
    await shared.send()
    for _ in range(2):
        calendar.move(days=1)
        ledger.book(OPENAI, "c", ONE)
        await shared.send()
    await shared.send()
    assert store.rounds == [2, 2 + 1, 1 + 1, 1 + 1]


async def test_while_redis_is_away_a_replica_reads_its_own_and_loses_nothing() -> None:
    usage = FakeUsage()
    usage.away = True
    ledger, shared = replica(usage)
    for _ in range(2):
        ledger.book(OPENAI, "a", ONE)
        read = await shared.read(TODAY, TODAY)
    assert (read.scope, read.rows) == (UsageScope.REPLICA, {(OPENAI, "a"): ONE + ONE})
    usage.away = False
    assert (await shared.read(TODAY, TODAY)).scope is UsageScope.FLEET
    assert [*usage.texts[TODAY.isoformat()].values()] == [b'{"requests":2,"cost_micro_usd":14000000}']


@pytest.mark.parametrize("silence", ["loses_answers", "tells_nothing"])
async def test_what_redis_took_without_an_answer_to_it_or_to_the_question_is_read_here(silence: str) -> None:
    usage = FakeUsage()
    setattr(usage, silence, True)
    ledger, shared = replica(usage)
    ledger.book(OPENAI, "a", ONE)
    read = await shared.read(TODAY, TODAY)
    assert (read.scope, read.rows) == (UsageScope.REPLICA, {(OPENAI, "a"): ONE})


async def test_without_redis_the_scope_is_the_replica() -> None:
    ledger, shared = replica(None)
    ledger.book(OPENAI, "a", ONE)
    assert not await shared.send()
    assert (await shared.read(TODAY, TODAY)).scope is UsageScope.REPLICA
    assert shared.today == TODAY


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nobody|a", b'{"requests":1}'),
        ("openai|a", b'{"wishes":1}'),
        ("openai|a", b'{"requests":"1"}'),
        ("openai|a", b'{"requests":true}'),
        ("openai|a", b'{"requests":-1}'),
        ("openai|a", b'{"requests":1.5}'),
        ("openai|a", b'{"requests":9223372036854775808}'),
        ("openai|a", b"[1]"),
        ("openai|a", b"7"),
        ("openai|a", b"\xff"),
        ("", b""),
    ],
)
async def test_what_we_do_not_know_is_left_out(name: str, text: bytes) -> None:
    usage = FakeUsage()
    usage.texts[TODAY.isoformat()] = {("another", name): text, ("a third", "openai|a"): b'{"requests":2}'}
    _, shared = replica(usage)
    assert (await shared.read(TODAY, TODAY)).rows == {(OPENAI, "a"): UsageTotals(requests=2)}


@given(
    st.lists(
        st.sampled_from(["book", "send", "midnight", "away", "back", "lose", "keep", "forget", "save", "go back"]),
        max_size=40,
    )
)
async def test_booked_is_counted_plus_pending_whatever_redis_does(steps: list[str]) -> None:
    usage, calendar, booked = FakeUsage(), Calendar(), 0
    saved = usage.texts
    ledger, shared = replica(usage, calendar)
    for step in steps:
        match step:
            case "book":
                ledger.book(OPENAI, "a", ONE)
                booked += 1
            case "send" | "midnight":
                await shared.send()
                calendar.move(days=step == "midnight")
            case "away" | "back":
                usage.away = step == "away"
            case "forget":
                usage.texts = {}
            case "save":
                saved = deepcopy(usage.texts)
            case "go back":
                usage.texts = deepcopy(saved)
            case _:
                usage.loses_answers = step == "lose"
    usage.away = usage.loses_answers = False
    assert (await shared.read(TODAY, calendar.now.date())).of(OPENAI).requests == booked
    assert await shared.send()
    assert (await shared.read(TODAY, calendar.now.date())).of(OPENAI).requests == booked
