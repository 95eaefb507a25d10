"""The local tier is bounded in bytes, entries and age, and reads nothing but replies out of its entries."""

import pytest

from implementations.cache.entry_codec import decode, encode
from implementations.cache.local_cache import OVERHEAD_BYTES, LocalCache
from implementations.cache_manager_impl import CacheManagerImpl
from tests.fakes import Clock, new_metrics, reply


def cache(clock: Clock, *, size_bytes: int = 10_000_000, max_entries: int = 3) -> LocalCache:
    return LocalCache(size_bytes=size_bytes, max_entries=max_entries, clock=clock)


def test_an_entry_ends_with_its_time_to_live_and_tells_its_age() -> None:
    clock = Clock()
    local = cache(clock)
    local.put("a", b"1", ttl_s=10)
    clock.advance(4)
    known = local.get("a")
    assert known is not None
    assert known[1] == pytest.approx(4)
    clock.advance(6)
    assert local.get("a") is None
    assert len(local) == 0


def test_the_least_recently_used_entry_leaves_first() -> None:
    local = cache(Clock())
    for key in "abc":
        local.put(key, key.encode(), ttl_s=10)
    assert local.get("a") is not None
    local.put("d", b"d", ttl_s=10)
    assert [key for key in "abcd" if local.get(key)] == ["a", "c", "d"]


def test_many_entries_stay_within_bytes_and_count() -> None:
    local = cache(Clock(), size_bytes=100_000, max_entries=50)
    for number in range(5_000):
        local.put(str(number), b"x" * (number % 7_000), ttl_s=10)
        assert local.size_bytes <= 100_000
        assert len(local) <= 50


def test_an_oversized_entry_is_not_kept_and_takes_the_older_one_with_it() -> None:
    local = cache(Clock(), size_bytes=10_000, max_entries=1)
    local.put("a", b"old", ttl_s=10)
    local.put("a", b"x" * (10_001 - OVERHEAD_BYTES), ttl_s=10)
    assert local.get("a") is None


def test_a_reply_comes_back_as_it_was() -> None:
    assert decode(encode(reply())) == reply()


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: b"",
        lambda entry: entry[:-1],
        lambda entry: b"\xff" + entry,
        lambda entry: b"[1]",
        lambda entry: b"null",
        lambda entry: entry.replace(b"Essay A", b"Essay C"),
        lambda entry: entry.replace(b'"confidence":4.0', b'"confidence":"4"'),
    ],
)
def test_what_is_not_exactly_a_reply_is_none(damage: object) -> None:
    assert callable(damage)
    broken = damage(encode(reply()))
    assert broken != encode(reply())
    assert decode(broken) is None


async def test_the_shorter_time_to_live_decides_and_every_look_up_is_counted() -> None:
    clock, metrics = Clock(), new_metrics()
    manager = CacheManagerImpl(local=cache(clock), local_ttl_s=5, metrics=metrics)
    manager.put("a", reply(), ttl_s=100)
    clock.advance(4)
    known = await manager.get("a")
    assert known is not None
    assert known.reply == reply()
    clock.advance(1)
    assert await manager.get("a") is None
    assert metrics.registry.get_sample_value("llm_provider_cache_hits_total") == 1
    assert metrics.registry.get_sample_value("llm_provider_cache_misses_total") == 1


async def test_a_damaged_entry_is_a_miss() -> None:
    local = cache(Clock())
    local.put("a", b"{}", ttl_s=10)
    assert await CacheManagerImpl(local=local, local_ttl_s=5, metrics=new_metrics()).get("a") is None
