"""The ledger of all replicas: nothing is lost while Redis is away, and nothing counts twice."""

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from api_models import ProviderName, UsageScope
from implementations.accounting.ledger import KEPT_DAYS, Ledger
from implementations.accounting.shared_ledger import SharedLedger
from protocols import UsageTotals
from tests.fakes import NOON, Calendar

OPENAI = ProviderName.OPENAI
TODAY = NOON.date()
ONE = UsageTotals(requests=1, cost_micro_usd=7)


class FakeUsage:
    """Counters that replicas share; `of` is one replica's door."""

    def __init__(self) -> None:
        self.counters: dict[str, dict[str, int]] = {}
        self.away = False
        self.loses_answers = False

    def of(self) -> "Door":
        return Door(self)


class Door:
    """The counters as one replica meets them."""

    def __init__(self, usage: FakeUsage) -> None:
        self._usage = usage
        self._last = 0

    async def add(self, number: int, days: Mapping[str, Mapping[str, int]]) -> bool:
        if self._usage.away:
            return False
        if number > self._last:
            self._last = number
            for day, fields in days.items():
                kept = self._usage.counters.setdefault(day, {})
                for name, difference in fields.items():
                    kept[name] = kept.get(name, 0) + difference
        return not self._usage.loses_answers

    async def days(self, days: Sequence[str]) -> list[dict[str, int]] | None:
        return None if self._usage.away else [self._usage.counters.get(day, {}) for day in days]


def replica(usage: FakeUsage | None, calendar: Calendar | None = None) -> tuple[Ledger, SharedLedger]:
    ledger = Ledger(now=calendar or Calendar())
    return ledger, SharedLedger(ledger, None if usage is None else usage.of())


async def test_a_fleet_reads_what_all_of_it_booked() -> None:
    usage = FakeUsage()
    (one, books_of_one), (other, books_of_other) = replica(usage), replica(usage)
    one.book(OPENAI, "a|b", ONE)
    other.book(OPENAI, "a|b", ONE)
    other.book(OPENAI, "c", ONE)
    await books_of_other.send()
    read = await books_of_one.read(TODAY, TODAY)
    assert (read.scope, read.rows) == (UsageScope.FLEET, {(OPENAI, "a|b"): ONE + ONE, (OPENAI, "c"): ONE})
    assert read.of(OPENAI) == ONE + ONE + ONE


async def test_after_redis_lost_its_data_a_replica_still_reads_what_it_booked_itself() -> None:
    usage = FakeUsage()
    (one, books_of_one), (other, books_of_other) = replica(usage), replica(usage)
    one.book(OPENAI, "a", ONE + ONE)
    await books_of_one.send()
    usage.counters.clear()
    assert (await books_of_one.read(TODAY, TODAY)).rows == {(OPENAI, "a"): ONE + ONE}
    assert (await books_of_other.read(TODAY, TODAY)).rows == {}
    for _ in range(3):
        other.book(OPENAI, "a", ONE)
    other.book(OPENAI, "b", ONE)
    await books_of_other.send()
    assert (await books_of_one.read(TODAY, TODAY)).rows == {(OPENAI, "a"): ONE + ONE + ONE, (OPENAI, "b"): ONE}


async def test_while_redis_is_away_a_replica_reads_its_own_and_loses_nothing() -> None:
    usage = FakeUsage()
    usage.away = True
    ledger, books = replica(usage)
    for _ in range(2):
        ledger.book(OPENAI, "a", ONE)
        read = await books.read(TODAY, TODAY)
    assert (read.scope, read.rows) == (UsageScope.REPLICA, {(OPENAI, "a"): ONE + ONE})
    usage.away = False
    assert (await books.read(TODAY, TODAY)).scope is UsageScope.FLEET
    assert usage.counters[TODAY.isoformat()]["cost_micro_usd|openai|a"] == 14


async def test_without_redis_the_scope_is_the_replica() -> None:
    ledger, books = replica(None)
    ledger.book(OPENAI, "a", ONE)
    assert (await books.read(TODAY, TODAY)).scope is UsageScope.REPLICA
    assert books.today == TODAY


async def test_a_counter_that_we_do_not_know_is_left_out() -> None:
    usage = FakeUsage()
    usage.counters[TODAY.isoformat()] = {"wishes|openai|a": 1, "requests|nobody|a": 1, "requests|openai|a": 2}
    _, books = replica(usage)
    assert (await books.read(TODAY, TODAY)).rows == {(OPENAI, "a"): UsageTotals(requests=2)}


async def test_what_nobody_ever_took_is_forgotten_with_its_day() -> None:
    calendar = Calendar()
    ledger, _ = replica(None, calendar)
    ledger.book(OPENAI, "a", ONE)
    calendar.move(days=KEPT_DAYS + 1)
    ledger.book(OPENAI, "a", ONE)
    assert len(ledger.take_news()) == 1


@given(st.lists(st.sampled_from(["book", "send", "away", "back", "lose", "keep"]), max_size=40))
async def test_booked_is_counted_plus_pending_whatever_redis_does(steps: list[str]) -> None:
    usage, booked = FakeUsage(), 0
    ledger, books = replica(usage)
    for step in steps:
        match step:
            case "book":
                ledger.book(OPENAI, "a", ONE)
                booked += 1
            case "send":
                await books.send()
            case "away" | "back":
                usage.away = step == "away"
            case _:
                usage.loses_answers = step == "lose"
    usage.away = usage.loses_answers = False
    assert (await books.read(TODAY, TODAY)).of(OPENAI).requests == booked
    assert await books.send()
    assert (await books.read(TODAY, TODAY)).of(OPENAI).requests == booked
