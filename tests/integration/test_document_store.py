"""The text that replicas share, and the marks of alerts, on a real server: raced for, of another type, and away."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from implementations.shared_state.connections import Connections
from implementations.shared_state.document_store import ANOTHER_TYPE, LAST_BYTE, DocumentStore
from implementations.shared_state.shared_redis import RedisMode, SharedRedis
from implementations.shared_state.usage_store import UsageStore
from tests.fakes import new_metrics
from tests.integration.redis_server import RedisServer


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[SharedRedis]:
    """The way to it."""
    shared = SharedRedis(Connections(server.url), metrics=new_metrics(), clock=time.monotonic)
    yield shared
    await shared.close()


async def test_of_many_at_once_one_replaces_the_text(redis: SharedRedis) -> None:
    store = DocumentStore(redis, key="text")
    assert await store.read() == b""
    done = await asyncio.gather(*(store.replace(b"", b"%d" % number) for number in range(20)))
    assert sorted(done, key=bool) == [False] * 19 + [True]
    assert await store.read() == b"%d" % done.index(True)
    assert await store.replace(b"", b"late") is False


async def test_what_is_no_text_of_ours_gives_way(redis: SharedRedis, server: RedisServer) -> None:
    store = DocumentStore(redis, key="text")
    server.ask("LPUSH", "text", "of another type")
    there = await store.read()
    assert there == ANOTHER_TYPE
    assert await store.replace(there, b"ours") is True
    server.ask("SETRANGE", "text", str(10 * LAST_BYTE), "long")
    there = await store.read()
    assert there is not None
    assert len(there) == LAST_BYTE + 1
    assert await store.replace(there, b"ours") is True
    assert await store.read() == b"ours"
    assert redis.failures == 0


async def test_a_mark_that_is_taken_away_can_be_made_again(redis: SharedRedis) -> None:
    store = UsageStore(redis, prefix="test", replica="one")
    assert [await store.mark("a"), await store.mark("a")] == [True, False]
    assert [await store.unmark(names) for names in (["a", "b"], [])] == [True, True]
    assert await store.mark("a") is True


async def test_while_redis_is_away_nobody_can_say(redis: SharedRedis, server: RedisServer) -> None:
    text, marks = DocumentStore(redis, key="text"), UsageStore(redis, prefix="test", replica="one")
    server.kill()
    assert await text.read() is None
    assert await text.replace(b"", b"ours") is None
    while redis.mode is RedisMode.UP:
        assert await marks.unmark(["a"]) is False
    assert await marks.unmark([]) is False
