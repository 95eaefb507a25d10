"""Answers kept in this process: how long, how many, in which form, and what the cache manager makes of them."""

import gc
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from api_models import CacheMode, DependencyStatus, ProviderName, Usage, Winner
from implementations.cache.entry_codec import decode, encode
from implementations.cache.local_cache import OVERHEAD_BYTES, LocalCache, LocalEntry
from implementations.cache_manager_impl import CacheManagerImpl
from implementations.shared_state.envelope import SCHEMA
from metrics import Metrics
from protocols import CachedReply, CacheHealth, Verdict
from tests.fakes import KNOWN_MODEL, PROMPT_SHA256, Clock, local_cache, middle, new_metrics, reply, sample

Damage = Callable[[dict[str, Any]], object]


def as_fields() -> dict[str, Any]:
    fields: dict[str, Any] = orjson.loads(encode(reply()))
    return fields


class Harness:
    """A cache manager with everything around it."""

    def __init__(self, *, local_ttl_s: float = 60.0) -> None:
        self.clock = Clock()
        self.metrics: Metrics = new_metrics()
        self.local = local_cache(self.clock)
        self.manager = CacheManagerImpl(
            local=self.local,
            shared=None,
            local_ttl_s=local_ttl_s,
            near_ttl_s=2.0,
            is_alone=True,
            metrics=self.metrics,
            jitter=middle,
        )

    def figure(self, name: str) -> float | None:
        return sample(self.metrics, f"llm_provider_cache_{name}")


# --- The local cache --------------------------------------------------------------------------------------------------


def test_a_payload_comes_back_with_its_age_which_began_before_its_stay() -> None:
    clock = Clock()
    kept = local_cache(clock)
    kept.put("new", b"payload", ttl_s=10)
    kept.put("older", b"payload", ttl_s=10, age_s=100)
    clock.advance(4)

    assert kept.get("new") == LocalEntry(payload=b"payload", age_s=4.0, here_s=4.0, left_s=6.0)
    assert kept.get("older") == LocalEntry(payload=b"payload", age_s=104.0, here_s=4.0, left_s=6.0)
    assert kept.get("another key") is None


def test_a_payload_is_gone_with_its_bytes_when_its_time_is_over() -> None:
    clock = Clock()
    kept = local_cache(clock)
    kept.put("long", b"2", ttl_s=11)
    bytes_of_one = kept.size_bytes
    kept.put("brief", b"1", ttl_s=10)
    clock.advance(9.9)
    assert kept.get("brief") is not None
    clock.advance(0.1)

    assert kept.get("brief") is None
    assert kept.size_bytes == bytes_of_one
    assert kept.get("long") is not None
    assert len(kept) == 1


def test_putting_again_replaces_the_payload_and_starts_its_time_anew() -> None:
    clock = Clock()
    kept = local_cache(clock)
    kept.put("key", b"old", ttl_s=10)
    clock.advance(8)
    kept.put("key", b"new", ttl_s=10)
    clock.advance(8)

    assert kept.get("key") == LocalEntry(payload=b"new", age_s=8.0, here_s=8.0, left_s=2.0)
    assert len(kept) == 1


def test_what_was_not_used_for_longest_goes_first() -> None:
    kept = local_cache(max_entries=3)
    for key in ("a", "b", "c"):
        kept.put(key, b"payload", ttl_s=10)
    assert kept.get("a") is not None
    kept.put("d", b"payload", ttl_s=10)

    assert [key for key in ("a", "b", "c", "d") if kept.get(key)] == ["a", "c", "d"]


@pytest.mark.parametrize(
    ("size_bytes", "max_entries", "payload_bytes"),
    [
        (10_000, 10, 1),
        (100_000, 10_000, 5_000),
        (50_000, 20, 2_000),
        (700 * 601 + 699, 700, 1),
        (5_000, 100_000, 1),
    ],
)
def test_bytes_and_entries_stay_bounded_over_many_puts(size_bytes: int, max_entries: int, payload_bytes: int) -> None:
    kept = local_cache(size_bytes=size_bytes, max_entries=max_entries)
    for number in range(2_000):
        kept.put(f"{number}", b"x" * payload_bytes, ttl_s=10)
        assert kept.size_bytes <= size_bytes
        assert len(kept) <= max_entries
    held = [str(number) for number in range(2_000) if kept.get(str(number))]

    assert len(held) == len(kept) > 0
    assert held == [str(number) for number in range(2_000 - len(held), 2_000)]
    assert len(held) * (payload_bytes + OVERHEAD_BYTES) <= size_bytes


def test_bytes_are_given_back_when_entries_expire() -> None:
    clock = Clock()
    kept = local_cache(clock)
    for number in range(5):
        kept.put(f"{number}", b"payload", ttl_s=10)
    assert kept.size_bytes > 0
    clock.advance(10)

    assert len(kept) == 0
    assert kept.size_bytes == 0


def test_an_entry_larger_than_the_cache_is_left_out_and_evicts_nobody_else() -> None:
    kept = local_cache()
    kept.put("small", b"payload", ttl_s=10)
    kept.put("large", b"x" * 10_000, ttl_s=10)

    assert kept.get("large") is None
    assert kept.get("small") is not None


def test_an_entry_too_large_to_keep_still_removes_the_older_one_under_its_key() -> None:
    kept = local_cache()
    kept.put("key", b"old", ttl_s=10)
    kept.put("key", b"x" * 10_000, ttl_s=10)

    assert kept.get("key") is None
    assert len(kept) == 0
    assert kept.size_bytes == 0


def test_an_entry_that_fills_the_cache_exactly_is_kept() -> None:
    kept = local_cache()
    kept.put("key", b"x" * (10_000 - OVERHEAD_BYTES), ttl_s=10)

    assert kept.get("key") is not None
    assert kept.size_bytes == 10_000


def test_a_payload_without_any_time_left_is_not_kept_and_replaces_the_older_one() -> None:
    kept = local_cache()
    kept.put("key", b"old", ttl_s=10)
    kept.put("key", b"new", ttl_s=0)

    assert kept.get("key") is None
    assert len(kept) == 0


def test_clearing_forgets_everything_and_tells_of_no_eviction() -> None:
    evicted: list[int] = []
    kept = LocalCache(size_bytes=10_000, max_entries=10, clock=Clock(), on_evict=lambda: evicted.append(1))
    for number in range(10):
        kept.put(f"{number}", b"payload", ttl_s=10)
    kept.clear()

    assert (len(kept), kept.size_bytes, kept.payload_bytes, evicted) == (0, 0, 0, [])


def test_each_eviction_is_told() -> None:
    evicted: list[int] = []
    kept = LocalCache(size_bytes=10_000, max_entries=3, clock=Clock(), on_evict=lambda: evicted.append(1))
    for number in range(5):
        kept.put(f"{number}", b"payload", ttl_s=10)

    assert len(evicted) == 2


def test_an_expired_entry_that_makes_room_is_no_eviction() -> None:
    evicted: list[int] = []
    clock = Clock()
    kept = LocalCache(size_bytes=10_000, max_entries=2, clock=clock, on_evict=lambda: evicted.append(1))
    kept.put("brief", b"payload", ttl_s=10)
    kept.put("long", b"payload", ttl_s=20)
    clock.advance(10)
    kept.put("new", b"payload", ttl_s=10)

    assert (len(kept), evicted) == (2, [])


def test_removing_forgets_one_key_and_an_unknown_key_is_no_error() -> None:
    kept = local_cache()
    kept.put("a", b"1", ttl_s=10)
    kept.put("b", b"2", ttl_s=10)
    kept.remove("a")
    kept.remove("never there")

    assert kept.get("a") is None
    assert kept.get("b") is not None
    assert len(kept) == 1


def test_twenty_thousand_answers_take_no_more_memory_than_they_may() -> None:
    limit, draw, clock = 10 * 1024 * 1024, random.Random(2), Clock()
    tracemalloc.start()
    try:
        kept = local_cache(clock, size_bytes=limit, max_entries=1_000_000)
        for number in range(20_000):
            clock.advance(0.001)
            verdict = Verdict(winner=Winner.ESSAY_A, justification="x" * draw.randrange(3_000), confidence=4.0)
            kept.put(f"0:{number:064x}", encode(reply(verdict=verdict)), ttl_s=300)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept.payload_bytes > limit / 2
    assert used <= limit


def test_a_cache_that_is_counted_holds_no_entry_for_longer_than_twice_the_longest_time() -> None:
    """One that was used late stands behind others that were stored later, and stays until they have expired."""
    draw, clock, longest_s = random.Random(3), Clock(), 60.0
    kept = local_cache(clock, size_bytes=10_000_000, max_entries=10_000)
    stored_at: list[float] = []
    for _ in range(2_000):
        clock.advance(draw.uniform(0.0, 2.0))
        if draw.random() < 0.3:
            kept.put(f"{len(stored_at)}", b"payload", ttl_s=draw.uniform(1.0, longest_s))
            stored_at.append(clock())
        kept.get(f"{len(stored_at) - draw.randrange(1, 40)}")

        assert len(kept) <= sum(clock() - at <= 2 * longest_s for at in stored_at)


# --- The form of an entry ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "original",
    [
        reply(),
        reply(cost_usd=None, provider=ProviderName.OPENAI),
        reply(cost_usd=0.0, provider=ProviderName.MOCK),
        reply(verdict=Verdict(winner=Winner.ESSAY_B, justification='Å "quoted" \n line, 中文 🙂', confidence=1.5)),
        reply(usage=Usage(prompt=1, completion=2, cached=3, written=4, reasoning=5)),
    ],
)
def test_a_reply_comes_back_as_it_was_encoded(original: Any) -> None:
    assert decode(encode(original)) == original


def test_another_form_is_another_schema() -> None:
    """Who changes the form raises the number: replicas of both versions share one Redis while they are replaced."""
    form = (
        b'{"verdict":{"winner":"Essay A","justification":"It gives a reason.","confidence":4.0},"provider":"anthropic",'
        b'"purchase":{"model":"%s","usage":{"prompt":100,"completion":20,"cached":10,"written":0,"written_for_long":0,"reasoning":0,'
        b'"price_factor":1.0},"cost_usd":0.25},"prompt_sha256":"%s"}' % (KNOWN_MODEL.encode(), PROMPT_SHA256.encode())
    )

    assert (SCHEMA, encode(reply())) == (3, form), "raise SCHEMA of envelope.py, and put number and form here"


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"\xff\xfe\x00", b"null", b"[]", b"{}", b'"text"', b"{" * 5_000])
def test_garbage_is_no_reply(garbage: bytes) -> None:
    assert decode(garbage) is None


def test_a_reply_that_was_cut_off_anywhere_is_no_reply() -> None:
    whole = encode(reply())

    assert all(decode(whole[:length]) is None for length in range(len(whole)))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda fields: fields["verdict"].update(confidence="4"), id="confidence as text"),
        pytest.param(lambda fields: fields["verdict"].update(confidence=True), id="confidence as truth value"),
        pytest.param(lambda fields: fields["verdict"].update(confidence=None), id="confidence null"),
        pytest.param(lambda fields: fields["verdict"].update(winner="Essay C"), id="unknown winner"),
        pytest.param(lambda fields: fields["verdict"].update(justification=7), id="justification as number"),
        pytest.param(lambda fields: fields["verdict"].pop("winner"), id="no winner"),
        pytest.param(lambda fields: fields["purchase"]["usage"].update(prompt="100"), id="tokens as text"),
        pytest.param(lambda fields: fields["purchase"]["usage"].update(prompt=1.5), id="tokens as fraction"),
        pytest.param(lambda fields: fields["purchase"].update(usage=[1, 2]), id="usage as list"),
        pytest.param(lambda fields: fields.update(provider="nobody"), id="unknown provider"),
        pytest.param(lambda fields: fields["purchase"].update(cost_usd="0.25"), id="cost as text"),
        pytest.param(lambda fields: fields["purchase"].pop("model"), id="no model"),
    ],
)
def test_a_field_of_the_wrong_type_makes_it_no_reply(damage: Damage) -> None:
    fields = as_fields()
    damage(fields)

    assert decode(orjson.dumps(fields)) is None


@pytest.mark.parametrize(
    ("number", "wrong"),
    [
        *((b'"confidence":4.0', b'"confidence":' + wrong) for wrong in (b"0.9", b"5.1", b"NaN", b"1e999")),
        *((b'"cost_usd":0.25', b'"cost_usd":' + wrong) for wrong in (b"-0.25", b"1e10", b"NaN", b"Infinity")),
        *((b'"prompt":100', b'"prompt":' + wrong) for wrong in (b"-1", b"9223372036854775808", b"1" * 40)),
    ],
)
def test_a_number_that_no_reply_has_makes_it_none(number: bytes, wrong: bytes) -> None:
    """Whoever may write to Redis can forge an answer, but none that fails requests or breaks the contract."""
    whole = encode(reply())
    forged = whole.replace(number, wrong)

    assert forged != whole
    assert decode(forged) is None


# --- The cache manager ------------------------------------------------------------------------------------------------


async def test_the_manager_returns_what_it_was_given_with_its_age() -> None:
    harness = Harness()
    harness.manager.put("key", reply(), ttl_s=30)
    harness.clock.advance(5)

    assert await harness.manager.get("key") == CachedReply(reply=reply(), age_s=5.0)


@pytest.mark.parametrize(("local_ttl_s", "ttl_s"), [(60.0, 20.0), (20.0, 60.0)])
async def test_the_smaller_of_the_two_times_to_live_counts(local_ttl_s: float, ttl_s: float) -> None:
    harness = Harness(local_ttl_s=local_ttl_s)
    harness.manager.put("key", reply(), ttl_s=ttl_s)
    harness.clock.advance(19.9)
    assert await harness.manager.get("key") is not None
    harness.clock.advance(0.1)

    assert await harness.manager.get("key") is None


async def test_hits_misses_entries_and_bytes_are_measured() -> None:
    harness = Harness()
    await harness.manager.get("key")
    harness.manager.put("key", reply(), ttl_s=30)
    await harness.manager.get("key")
    await harness.manager.get("key")

    assert (harness.figure("hits_total"), harness.figure("misses_total")) == (2.0, 1.0)
    assert harness.figure("entries") == 1.0
    assert harness.figure("size_bytes") == len(encode(reply()))


async def test_the_measured_size_shrinks_when_entries_expire_and_nobody_asks() -> None:
    harness = Harness()
    for key, ttl_s in {"a": 10, "b": 10, "c": 11}.items():
        harness.manager.put(key, reply(), ttl_s=ttl_s)
    assert (harness.figure("entries"), harness.figure("size_bytes")) == (3.0, 3 * len(encode(reply())))
    harness.clock.advance(10)
    assert (harness.figure("entries"), harness.figure("size_bytes")) == (1.0, len(encode(reply())))
    harness.clock.advance(1)

    assert (harness.figure("entries"), harness.figure("size_bytes")) == (0.0, 0.0)


def test_the_bytes_of_the_payloads_are_counted_however_entries_come_and_go() -> None:
    clock, draw = Clock(), random.Random(7)
    kept = local_cache(clock, size_bytes=20_000, max_entries=12)
    keys = [f"{number}" for number in range(20)]
    for _ in range(3_000):
        key = draw.choice(keys)
        match draw.randrange(4):
            case 0:
                clock.advance(draw.random())
            case 1:
                kept.remove(key)
            case _:
                kept.put(key, b"x" * draw.randrange(25_000 if draw.random() < 0.05 else 3_000), ttl_s=draw.randrange(4))
        found_bytes = sum(len(found.payload) for key in keys if (found := kept.get(key)))
        assert kept.payload_bytes == found_bytes


async def test_a_corrupt_entry_is_a_miss_and_can_be_replaced() -> None:
    harness = Harness()
    harness.local.put("key", encode(reply())[:-1], ttl_s=30)
    assert await harness.manager.get("key") is None
    assert (harness.figure("hits_total"), harness.figure("misses_total")) == (0.0, 1.0)
    harness.manager.put("key", reply(), ttl_s=30)

    assert await harness.manager.get("key") is not None


async def test_no_object_holds_a_justification_any_longer_when_it_was_cleared() -> None:
    quoted = "She writes that phones sing."
    harness = Harness()
    harness.manager.put(
        "key", reply(verdict=Verdict(winner=Winner.ESSAY_A, justification=quoted, confidence=4)), ttl_s=30
    )
    assert await harness.manager.get("key") is not None
    await harness.manager.clear()

    assert not [one for one in gc.get_objects() if type(one) is Verdict and one.justification == quoted]


def test_the_local_cache_is_healthy_and_knows_no_redis() -> None:
    healthy = CacheHealth(mode=CacheMode.HEALTHY, redis=DependencyStatus.DISABLED, redis_failure_count=0)

    assert Harness().manager.health() == healthy
