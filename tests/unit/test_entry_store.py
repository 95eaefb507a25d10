"""Entries in Redis: their form, their age, what becomes of flawed ones, and the generation that forgets them all."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions

from implementations.shared_state.entry_store import StoredEntry
from implementations.shared_state.envelope import MAX_ENTRY_BYTES, SCHEMA, Flaw, FlawedEntryError, seal, unseal
from implementations.shared_state.faults import RedisAwayError
from implementations.shared_state.lateness import SLOW_S
from implementations.shared_state.prober import GOOD_PROBES
from implementations.shared_state.shared_redis import FAILURE_THRESHOLD, RedisMode
from implementations.shared_state.write_behind import MAX_WRITES
from tests.fake_redis import FakeRedis, Replica
from tests.fakes import Clock, sample

NAME = "0" * 64
AHEAD = 2_000_000_000_000  # a generation of which the clock knows nothing yet
PAYLOAD = '{"winner": "Essay A", "justification": "Å \\"so\\" 中文 🙂"}'.encode()

Damage = Callable[[dict[str, Any]], object]


def sealed(**changes: Any) -> bytes:
    return seal(**{"name": NAME, "payload": PAYLOAD, "created_s": 1_000.5, "ttl_s": 60.0, **changes})


def flaw_of(raw: object, *, name: str = NAME) -> Flaw:
    with pytest.raises(FlawedEntryError) as flawed:
        unseal(name, raw)
    return flawed.value.flaw


async def stored(replica: Replica, *, ttl_s: float = 60.0, age_s: float = 0.0) -> None:
    replica.entries.put(NAME, PAYLOAD, ttl_s=ttl_s, age_s=age_s)
    await replica.written()


async def emptied(replica: Replica) -> bool:
    return await replica.entries.get(NAME) is None


def stores(replica: Replica, result: str) -> float | None:
    return sample(replica.metrics, "llm_provider_cache_tier_stores_total", tier="redis", result=result)


# --- The envelope -----------------------------------------------------------------------------------------------------


@given(payload=st.text(), created_s=st.floats(0, 1e12), ttl_s=st.floats(0.001, 1e9))
def test_any_text_and_any_moment_come_out_as_they_were(payload: str, created_s: float, ttl_s: float) -> None:
    try:
        raw = payload.encode()
    except UnicodeEncodeError:
        return
    assert unseal(NAME, seal(NAME, raw, created_s=created_s, ttl_s=ttl_s)) == (raw, ttl_s)


def test_an_entry_under_another_name_is_none() -> None:
    assert flaw_of(sealed(), name="1" * 64) is Flaw.CORRUPT


@pytest.mark.parametrize("raw", [b"garbage", b"\xff\xfe", b"null", b"[]", b'"text"', b"{" * 5_000, sealed()[:-1]])
def test_garbage_is_corrupt(raw: bytes) -> None:
    assert flaw_of(raw) is Flaw.CORRUPT


@pytest.mark.parametrize("raw", [None, 7, ["list"], exceptions.ResponseError("WRONGTYPE")], ids=repr)
def test_what_is_not_text_has_the_wrong_type(raw: object) -> None:
    assert flaw_of(raw) is Flaw.WRONG_TYPE


@pytest.mark.parametrize("schema", [SCHEMA - 1, SCHEMA + 1, "1", None])
def test_another_schema_is_not_read(schema: object) -> None:
    assert flaw_of(orjson.dumps({**orjson.loads(sealed()), "schema": schema})) is Flaw.OTHER_SCHEMA


@pytest.mark.parametrize("field", ["created", "ttl", "sha256", "payload"])
def test_every_field_is_needed_and_covered_by_the_checksum(field: str) -> None:
    fields = orjson.loads(sealed())
    changed = {**fields, field: fields[field] + 1 if isinstance(fields[field], float) else fields[field][::-1]}
    absent = {name: value for name, value in fields.items() if name != field}

    assert flaw_of(orjson.dumps(changed)) is Flaw.CORRUPT
    assert flaw_of(orjson.dumps(absent)) is Flaw.CORRUPT
    assert flaw_of(orjson.dumps({**fields, field: None})) is Flaw.CORRUPT


@pytest.mark.parametrize("field", ["created", "ttl"])
def test_a_number_that_was_written_as_text_is_none(field: str) -> None:
    fields = orjson.loads(sealed())

    assert flaw_of(orjson.dumps({**fields, field: str(fields[field])})) is Flaw.CORRUPT


@pytest.mark.parametrize("ttl", [b"0", b"-60.0", b"1e10", b"1e999", b"NaN"])
def test_a_time_that_no_entry_is_stored_for_is_corrupt(ttl: bytes) -> None:
    told = float(ttl)
    checksum = orjson.loads(sealed(ttl_s=told))["sha256"].encode()
    fields = b'{"schema":%d,"created":1000.5,"ttl":%b,"sha256":"%b","payload":%b}'

    assert flaw_of(fields % (SCHEMA, ttl, checksum, orjson.dumps(PAYLOAD.decode()))) is Flaw.CORRUPT


def test_every_single_bit_counts() -> None:
    raw = sealed()
    for position in range(len(raw) * 8):
        turned = bytearray(raw)
        turned[position // 8] ^= 1 << position % 8
        with pytest.raises(FlawedEntryError):
            unseal(NAME, bytes(turned))


def test_more_than_we_read_is_oversized() -> None:
    assert flaw_of(b"x" * (MAX_ENTRY_BYTES + 1)) is Flaw.OVERSIZED
    assert flaw_of(b"x" * MAX_ENTRY_BYTES) is Flaw.CORRUPT


# --- Storing and reading ----------------------------------------------------------------------------------------------


async def test_an_entry_comes_back_with_its_age_and_the_time_it_has_left() -> None:
    replica = Replica()
    await stored(replica, ttl_s=60.0, age_s=5.0)
    replica.clock.advance(20)

    assert await replica.entries.get(NAME) == StoredEntry(payload=PAYLOAD, age_s=25.0, left_s=40.0)
    assert replica.server.ttl_ms[replica.server.key_of(NAME)] == 60_000


@pytest.mark.parametrize("days", [-365, -1, 1, 365])
async def test_a_clock_that_jumps_makes_nothing_older_or_younger(days: int) -> None:
    replica = Replica()
    await stored(replica)
    replica.clock.advance(20)
    replica.calendar.move(days=days)

    assert await replica.entries.get(NAME) == StoredEntry(payload=PAYLOAD, age_s=20.0, left_s=40.0)


async def test_an_entry_is_never_younger_than_new_and_never_stored_for_no_time() -> None:
    replica = Replica()
    await stored(replica, ttl_s=60.0006)
    assert await replica.entries.get(NAME) == StoredEntry(payload=PAYLOAD, age_s=0.0, left_s=60.001)
    await stored(replica, ttl_s=0.0001)
    assert replica.server.ttl_ms[replica.server.key_of(NAME)] == 1


async def test_an_entry_that_would_never_go_is_not_given() -> None:
    replica = Replica()
    await stored(replica)
    replica.server.ttl_ms.clear()

    assert await emptied(replica)


@pytest.mark.parametrize(("back_s", "is_given"), [(0.5, True), (2.0, False), (12 * 365 * 86_400.0, False)])
async def test_an_entry_with_more_time_left_than_it_was_given_is_of_unknown_age(
    back_s: float, *, is_given: bool
) -> None:
    replica = Replica()
    await stored(replica)
    replica.server.ttl_ms[replica.server.key_of(NAME)] += round(1000 * back_s)  # what a set-back clock does

    assert await emptied(replica) is not is_given


async def test_an_entry_that_outlived_its_time_in_redis_is_not_given() -> None:
    replica = Replica()
    await stored(replica)
    replica.clock.advance(60)

    assert await emptied(replica)


async def test_a_flawed_entry_is_no_entry_and_is_removed_and_counted() -> None:
    flaws: dict[Flaw, object] = {
        Flaw.WRONG_TYPE: ["a list"],
        Flaw.CORRUPT: b"\xff\xfe",
        Flaw.OTHER_SCHEMA: b'{"schema": 0}',
        Flaw.OVERSIZED: b"x" * 1_000_000,
    }
    for flaw, value in flaws.items():
        replica = Replica()
        await stored(replica)
        key = replica.server.key_of(NAME)
        replica.server.values[key] = value
        assert await emptied(replica)
        await replica.written()

        assert key not in replica.server.values
        assert sample(replica.metrics, "llm_provider_cache_corrupt_total", flaw=flaw) == 1.0
        assert replica.redis.mode is RedisMode.UP


async def test_an_entry_that_is_not_there_is_no_flawed_one() -> None:
    replica = Replica()
    assert await emptied(replica)
    await replica.written()

    assert replica.server.count("UNLINK") == replica.server.count("SET") == 0
    assert {sample(replica.metrics, "llm_provider_cache_corrupt_total", flaw=flaw) for flaw in Flaw} == {0.0}


async def test_never_more_than_an_entry_s_size_is_read() -> None:
    replica = Replica()
    await emptied(replica)

    entry = [command for command in replica.server.sent if command[1] != "test:generation"]
    assert [(verb, *bounds) for verb, _, *bounds in entry] == [("GETRANGE", 0, MAX_ENTRY_BYTES), ("PTTL",)]


async def test_an_entry_that_is_too_large_is_not_stored() -> None:
    replica = Replica()
    replica.entries.put(NAME, b"x" * MAX_ENTRY_BYTES, ttl_s=60)
    await replica.written()

    assert (replica.server.count("SET"), stores(replica, "oversized")) == (0, 1.0)


async def test_storing_is_counted_by_what_became_of_it() -> None:
    replica = Replica()
    await stored(replica)
    replica.server.refused = exceptions.OutOfMemoryError("")
    await stored(replica)
    await stored(replica)

    assert (stores(replica, "stored"), stores(replica, "failed"), stores(replica, "skipped")) == (1.0, 1.0, 1.0)


async def test_no_more_writes_wait_than_the_limit_allows() -> None:
    replica = Replica()
    for _ in range(MAX_WRITES + 2):
        replica.entries.put(NAME, PAYLOAD, ttl_s=60)
    assert sample(replica.metrics, "llm_provider_cache_writes_behind") == MAX_WRITES
    await replica.written()

    assert (stores(replica, "stored"), stores(replica, "dropped")) == (MAX_WRITES, 2.0)
    assert sample(replica.metrics, "llm_provider_cache_writes_behind") == 0.0


async def test_a_redis_that_is_away_is_told_to_whoever_reads() -> None:
    replica = Replica()
    replica.server.broken = ConnectionRefusedError()
    with pytest.raises(RedisAwayError):
        await replica.entries.get(NAME)


# --- The generation ---------------------------------------------------------------------------------------------------


def pair() -> tuple[Replica, Replica]:
    clock = Clock()
    server = FakeRedis(clock)
    return Replica(server, clock=clock), Replica(server, clock=clock)


async def test_clearing_forgets_for_all_replicas_at_their_next_reading() -> None:
    here, there = pair()
    await stored(here)
    assert not await emptied(there)
    assert await here.entries.clear()

    assert await emptied(here)
    assert await emptied(there)
    assert here.generation.number == there.generation.number > 0
    await stored(there)
    assert not await emptied(here)


async def test_a_probe_is_enough_to_follow() -> None:
    here, there = pair()
    raised: list[int] = []
    there.generation.on_advance = lambda: raised.append(there.generation.number)
    await here.entries.clear()
    await there.probed(2)

    assert raised == [here.generation.number]


async def test_reading_again_after_a_clearing_elsewhere_takes_no_more_time_than_there_was() -> None:
    here, there = pair()
    await there.entries.clear()
    here.server.takes_s = 0.1
    with pytest.raises(RedisAwayError):
        await here.entries.get(NAME, timeout_s=0.1)
    assert here.redis.failures == 0


async def test_a_replica_that_starts_late_finds_what_is_there() -> None:
    here, there = pair()
    here.server.values["test:generation"] = b"%d" % AHEAD
    await here.entries.clear()
    await stored(here)

    assert not await emptied(there)
    assert there.generation.number == AHEAD + 1


@pytest.mark.parametrize("ahead_s", [-60.0, 60.0])
async def test_two_clearings_at_once_are_two_whatever_the_clocks_say(ahead_s: float) -> None:
    here, there = pair()
    there.calendar.move(seconds=ahead_s)
    await here.entries.clear()
    await stored(here)
    await there.entries.clear()

    assert await emptied(here)


async def test_what_redis_missed_is_not_read_and_is_told_when_it_is_back() -> None:
    here, there = pair()
    await stored(here)
    here.server.broken = ConnectionRefusedError()
    assert not await here.entries.clear()
    here.server.broken = None
    with pytest.raises(RedisAwayError):
        await here.entries.get(NAME)
    assert not await emptied(there)
    await stored(here)
    assert stores(here, "skipped") == 1.0
    await here.probed(1)
    await here.written()

    assert await emptied(here)
    assert await emptied(there)


async def test_a_redis_that_is_slow_to_write_is_cleared_once() -> None:
    here, there = pair()
    cleared: list[int] = []
    there.generation.on_advance = lambda: cleared.append(there.generation.number)
    here.server.writes_take_s = SLOW_S
    assert not await here.entries.clear()
    for _ in range(GOOD_PROBES):
        await here.probed(1)
        await there.probed(1)
    here.server.writes_take_s = 0.0
    await here.probed(GOOD_PROBES)
    await stored(here)

    assert cleared == [here.generation.number]
    assert not await emptied(there)


async def test_a_clearing_that_redis_answers_late_is_told_all_the_same() -> None:
    here, there = pair()
    await stored(there)
    here.server.takes_s = SLOW_S
    assert not await here.entries.clear()
    here.server.takes_s = 0.0

    assert await emptied(there)


async def test_a_redis_that_can_only_be_read_is_not_read_after_a_clearing_that_it_missed() -> None:
    here, _ = pair()
    await stored(here)
    here.server.refused = exceptions.ReadOnlyError("")
    assert not await here.entries.clear()
    with pytest.raises(RedisAwayError):
        await here.entries.get(NAME)
    here.server.refused = None
    await here.probed(GOOD_PROBES)

    assert here.redis.mode is RedisMode.UP
    assert await emptied(here)


async def test_a_clearing_that_redis_missed_covers_what_was_stored_since_by_a_clock_that_is_ahead() -> None:
    here, there = pair()
    there.calendar.move(minutes=1)
    await there.entries.clear()
    here.server.broken = ConnectionRefusedError()
    assert not await here.entries.clear()
    here.server.broken = None
    await stored(there)
    await here.probed(1)

    assert await emptied(there)
    assert here.generation.number == there.generation.number


@pytest.mark.parametrize("lost", [None, b"garbage", b"9" * 40, ["a list"]], ids=repr)
async def test_a_redis_that_lost_the_number_gets_it_back(lost: object) -> None:
    here, there = pair()
    await stored(here)
    await here.entries.clear()
    if lost is None:
        del here.server.values["test:generation"]
    else:
        here.server.values["test:generation"] = lost
    assert await emptied(here)
    await here.written()

    assert here.server.values["test:generation"] == b"%d" % here.generation.number
    assert await emptied(there)


async def test_a_redis_that_comes_back_with_older_data_is_told_by_the_first_probe() -> None:
    here, late = pair()
    await stored(here)
    await here.entries.clear()
    here.server.broken = ConnectionRefusedError()
    await here.probed(FAILURE_THRESHOLD)
    here.server.broken = None
    del here.server.values["test:generation"]
    assert here.redis.mode is RedisMode.DOWN
    assert not await emptied(late)
    await here.probed(1)

    assert await emptied(late)


@pytest.mark.parametrize("there", [b"0", b"garbage", b"%d" % ((1 << 63) - 1), ["a list"]], ids=repr)
async def test_clearing_beside_what_is_no_number_of_ours_sets_it_anew(there: object) -> None:
    here, _ = pair()
    here.server.values["test:generation"] = there
    here.generation.advance_to(AHEAD)
    assert await here.entries.clear()
    await here.written()

    assert here.server.values["test:generation"] == b"%d" % (AHEAD + 1)
    assert here.server.count("SET") == 1
    assert here.redis.failures == 0


async def test_the_prober_leaves_a_trace_that_goes_by_itself() -> None:
    replica = Replica()
    await replica.probed(FAILURE_THRESHOLD)

    assert replica.server.ttl_ms == {"test:probe": 10_000}
    assert replica.server.values.keys() == {"test:probe"}, "another replica may have cleared meanwhile"
