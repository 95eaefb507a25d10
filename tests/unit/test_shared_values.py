"""Replicas hold the same values: no change is lost while Redis answers, and none that is known is lost with Redis."""

import asyncio
from dataclasses import dataclass, field

import orjson
import pytest
from pydantic import JsonValue
from structlog.testing import capture_logs

from api_models import UsageScope
from exceptions import InvalidQueryError, ServiceOverloadedError
from implementations.steering.shared_values import MAX_BYTES, TRIES, Edition, SharedValues, Values
from tests.steering_fakes import FakeDocument


@dataclass
class Replica:
    """What one process holds, what it put into force and what it told."""

    document: FakeDocument | None
    taken: list[Values] = field(default_factory=list)
    told: list[tuple[Values, Values]] = field(default_factory=list)
    flaws: int = 0

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.values = SharedValues("values", self.document, take=self.taken.append, on_flaw=self._count_flaw)

    def _count_flaw(self) -> None:
        self.flaws += 1

    async def puts(self, **changes: JsonValue) -> None:
        await self.values.change(
            lambda latest: {**latest.values, **changes}, then=lambda old, new: self.told.append((old, new))
        )

    @property
    def in_force(self) -> Values:
        return self.taken[-1] if self.taken else {}


def stored(document: FakeDocument) -> Edition:
    return Edition(**orjson.loads(document.text))


async def test_without_redis_a_change_holds_here() -> None:
    alone = Replica(None)
    await alone.puts(a=1)
    await alone.values.poll()
    assert (alone.in_force, alone.values.version, alone.values.scope) == ({"a": 1}, 1, UsageScope.REPLICA)


async def test_what_one_replica_was_told_the_other_follows_and_does_not_tell() -> None:
    document = FakeDocument()
    here, there = Replica(document), Replica(document)
    await here.puts(a=1)
    await there.values.poll()
    assert there.in_force == here.in_force == {"a": 1}
    assert there.values.version == here.values.version == 1
    assert here.values.scope is there.values.scope is UsageScope.FLEET
    assert here.told == [({}, {"a": 1})]
    assert there.told == []


async def test_what_is_adopted_from_redis_is_one_line_that_names_what_changed_and_shows_no_value() -> None:
    document = FakeDocument()
    here, there = Replica(document), Replica(document)
    await here.puts(kept=1, changed=1)
    await there.values.poll()
    with capture_logs() as lines:
        await here.puts(changed="kanarienvogel", none=None, **{"no name\n": 1})
        assert lines == []
        await there.values.poll()
        await there.values.poll()
    told = {"what": "values", "edition": 2, "changed": ["changed", "none"]}
    assert lines == [{"event": "operator_values_adopted", "log_level": "info", "audit": True, **told}]


async def test_what_redis_no_longer_holds_is_named_as_well() -> None:
    document = FakeDocument()
    here = Replica(document)
    await here.puts(a=1, b=2)
    document.text = orjson.dumps(Edition(2, {"b": 2}))
    with capture_logs() as lines:
        await here.values.poll()
    assert [line["changed"] for line in lines] == [["a"]]


async def test_a_replica_that_is_started_again_finds_what_holds() -> None:
    document = FakeDocument()
    await Replica(document).puts(a=1)
    again = Replica(document)
    await again.values.poll()
    assert (again.in_force, again.values.version) == ({"a": 1}, 1)


async def test_two_administrators_at_once_lose_no_change() -> None:
    document = FakeDocument()
    replicas = [Replica(document) for _ in range(3)]
    await asyncio.gather(*(one.puts(**{f"name_{number}": number}) for number, one in enumerate(replicas)))
    for one in replicas:
        await one.values.poll()
        assert one.in_force == {"name_0": 0, "name_1": 1, "name_2": 2}
        assert one.values.version == 3


async def test_changes_of_one_replica_wait_for_each_other() -> None:
    here = Replica(FakeDocument())
    changes = {f"name_{number}": number for number in range(3 * TRIES)}
    await asyncio.gather(*(here.puts(**{name: value}) for name, value in changes.items()))
    assert here.in_force == changes


async def test_who_is_always_overtaken_is_told_so_and_changes_nothing() -> None:
    document = FakeDocument()
    here = Replica(document)
    document.meanwhile = [orjson.dumps(Edition(number, {"b": number})) for number in range(1, TRIES + 1)]
    with pytest.raises(ServiceOverloadedError) as overtaken:
        await here.puts(a=1)
    assert overtaken.value.shed is None  # no request was shed for lack of capacity
    assert "a" not in here.in_force
    assert here.told == []


async def test_a_change_that_changes_nothing_makes_no_edition() -> None:
    here = Replica(FakeDocument())
    await here.puts(a=1)
    await here.puts(a=1)
    assert here.values.version == 1
    assert len(here.told) == 1


async def test_a_refusal_leaves_everything_as_it_was() -> None:
    document = FakeDocument()
    here = Replica(document)
    await here.puts(a=1)
    before = document.text

    def refuse(latest: Edition) -> Values:
        raise InvalidQueryError("no")

    with pytest.raises(InvalidQueryError):
        await here.values.change(refuse, then=lambda old, new: here.told.append((old, new)))
    assert (document.text, here.values.version, len(here.taken), len(here.told)) == (before, 1, 1, 1)


async def test_while_redis_is_away_what_is_known_stays_in_force() -> None:
    document = FakeDocument()
    here = Replica(document)
    await here.puts(a=1)
    document.away = True
    await here.values.poll()
    assert (here.in_force, here.values.scope) == ({"a": 1}, UsageScope.REPLICA)
    document.away = False
    await here.values.poll()
    assert here.values.scope is UsageScope.FLEET
    assert len(here.taken) == 1


async def test_a_change_made_while_redis_was_away_is_told_when_it_is_back() -> None:
    document = FakeDocument()
    here, there = Replica(document), Replica(document)
    await here.puts(a=1)
    document.away = True
    await here.puts(a=2)
    assert (here.in_force, here.values.scope) == ({"a": 2}, UsageScope.REPLICA)
    document.away = False
    await here.values.poll()
    await there.values.poll()
    assert there.in_force == {"a": 2}
    assert here.values.scope is UsageScope.FLEET


async def test_a_redis_that_takes_no_writes_is_told_when_it_does() -> None:
    document = FakeDocument(reads_only=True)
    here = Replica(document)
    await here.puts(a=1)
    await here.values.poll()
    assert (here.in_force, here.values.scope) == ({"a": 1}, UsageScope.REPLICA)
    document.reads_only = False
    await here.values.poll()
    assert stored(document) == Edition(1, {"a": 1})
    assert here.values.scope is UsageScope.FLEET


async def test_a_write_whose_answer_was_lost_is_recognised() -> None:
    document = FakeDocument(forgets_answers=True)
    here = Replica(document)
    await here.puts(a=1)
    scopes = [here.values.scope]
    await here.values.poll()
    assert [*scopes, here.values.scope] == [UsageScope.REPLICA, UsageScope.FLEET]
    assert stored(document) == Edition(1, {"a": 1})


@pytest.mark.parametrize("often", [1, 2])
async def test_of_two_changes_made_apart_the_one_that_redis_learns_first_goes_before_and_the_other_is_told(
    often: int,
) -> None:
    document = FakeDocument(away=True)
    here, there = Replica(document), Replica(document)
    await here.puts(a=1)
    for number in range(often):
        await there.puts(a=2 + number)
    document.away = False
    with capture_logs() as lines:
        await there.values.poll()
        await here.values.poll()
    assert here.in_force == there.in_force == {"a": 1 + often}
    assert [line["edition"] for line in lines if line["event"] == "operator_change_overruled"] == [often]


async def test_a_change_that_was_lost_with_the_data_of_redis_is_told_as_overruled_by_another_one() -> None:
    document = FakeDocument()
    here, there = Replica(document), Replica(document)
    await here.puts(a=1)
    assert here.values.scope is UsageScope.FLEET
    document.text = b""
    await there.puts(b=2)
    with capture_logs() as lines:
        await here.values.poll()
        await there.values.poll()
    assert here.in_force == there.in_force == {"b": 2}
    assert [line["event"] for line in lines] == ["operator_change_overruled", "operator_values_adopted"]


async def test_a_redis_that_lost_everything_gets_it_back() -> None:
    document = FakeDocument()
    here, there = Replica(document), Replica(document)
    await here.puts(a=1)
    await there.values.poll()
    document.text = b""
    await asyncio.gather(here.values.poll(), there.values.poll())
    assert stored(document) == Edition(1, {"a": 1})
    assert here.in_force == there.in_force == {"a": 1}


async def test_a_change_made_when_redis_has_lost_everything_is_the_fleets_at_once() -> None:
    document = FakeDocument()
    here = Replica(document)
    await here.puts(a=1)
    document.text = b""
    await here.puts(b=2)
    assert stored(document) == Edition(2, {"a": 1, "b": 2})
    assert here.values.scope is UsageScope.FLEET


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\x00",
        b"[]",
        b"{}x",
        b"{}",
        b'{"version": 1}',
        b'{"values": {"a": 1}}',
        b'{"version": 1, "values_of_tomorrow": {"a": 1}}',
        b'{"version": -1, "values": {}}',
        b'{"version": "1", "values": {}}',
        b'{"version": 1, "values": []}',
        b'{"version": 9007199254740992, "values": {}}',
        b'{"version": 1, "values": ' + b'{"a":' * 300 + b"1" + b"}" * 301,
        b'{"version": 1, "values": {"a": "' + b"x" * MAX_BYTES + b'"}}',
    ],
)
async def test_what_is_no_edition_is_told_once_left_alone_and_gives_way(text: bytes) -> None:
    document = FakeDocument(text=text)
    here = Replica(document)
    for _ in range(3):
        await here.values.poll()
    assert (here.flaws, here.taken, document.text) == (1, [], text)
    await here.puts(a=1)
    assert stored(document) == Edition(1, {"a": 1})


async def test_a_text_that_is_no_edition_withdraws_nothing() -> None:
    document = FakeDocument()
    here = Replica(document)
    await here.puts(a=1)
    document.text = b'{"version": 2, "values_of_tomorrow": {"a": 2}}'
    await here.values.poll()
    assert (here.in_force, here.flaws) == ({"a": 1}, 1)


async def test_too_much_is_refused() -> None:
    document = FakeDocument()
    here = Replica(document)
    with pytest.raises(InvalidQueryError, match=f"{MAX_BYTES}"):
        await here.puts(a="x" * MAX_BYTES)
    assert (document.text, here.taken) == (b"", [])
