"""The shared budget asks Redis as often as it must and never takes an error for an answer."""

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from implementations.shared_state.budget_store import BudgetStore
from implementations.shared_state.connections import Command
from implementations.shared_state.shared_redis import SharedRedis
from implementations.shared_state.usage_store import UsageStore
from tests.fakes import Clock, new_metrics

ENTRIES = [("2026-11-23", 5, 5, None), ("2026-11", 5, 5, 100)]


class Connection:
    """Plays its script: what is an exception is raised, everything else is the only reply.

    A timeout ends the wait for a connection.
    """

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.sent: list[Command] = []

    async def send(self, *commands: Command, on_turn: Callable[[], object] = lambda: None) -> list[Any]:
        step = self.script.pop(0)
        if isinstance(step, TimeoutError):
            raise step
        on_turn()
        self.sent.extend(commands)
        if isinstance(step, list) and step and isinstance(step[0], Exception):
            return step
        if isinstance(step, Exception):
            raise step
        return [step]

    def renew(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""


def redis(connection: Connection) -> SharedRedis:
    return SharedRedis(connection, metrics=new_metrics(), clock=Clock())


async def asked(connection: Connection) -> list[int] | None:
    store = BudgetStore(redis(connection), prefix="test", replica="one")
    return await store.exchange("change", 3, ENTRIES, ceiling=7)


async def test_one_exchange_carries_both_periods_and_the_ceiling() -> None:
    connection = Connection([0, 1, 2, 3, 4])
    assert await asked(connection) == [0, 1, 2, 3, 4]
    (command,) = connection.sent
    assert command[2:] == (
        2,
        "test:budget:2026-11-23",
        "test:budget:2026-11",
        "one",
        3,
        "change",
        70 * 86_400,
        7,
        *(5, 5, -1),
        *(5, 5, 100),
    )


async def test_a_full_pool_is_waited_for() -> None:
    assert await asked(Connection(TimeoutError(), [0])) == [0]


async def test_a_pool_that_stays_full_and_a_redis_that_does_not_answer_are_no_answer() -> None:
    full = Connection(TimeoutError(), TimeoutError())
    assert await asked(full) is None
    assert full.script == []
    gone = Connection(ConnectionRefusedError())
    assert await asked(gone) is None
    assert len(gone.sent) == 1


@pytest.mark.parametrize("reply", [None, b"OK", [b"0"], [ResponseError("WRONGTYPE of a key")]])
async def test_anything_else_is_no_answer(reply: Any) -> None:
    assert await asked(Connection(reply)) is None


async def test_usage_of_another_kind_is_none() -> None:
    told = [b"one|openai|a", b"{}", b"odd", b"x"]
    store = UsageStore(redis(Connection(told)), prefix="test", replica="one")
    assert [list(day) for day in await store.days(["2026-11-23"]) or ()] == [[("openai|a", b"{}"), ("", b"x")]]
    refused = [ResponseError("WRONGTYPE of a key")]
    store = UsageStore(redis(Connection(refused, refused)), prefix="test", replica="one")
    assert [list(day) for day in await store.days(["2026-11-23"]) or ()] == [[]]
    assert await store.put({"2026-11-23": {"openai|a": b"{}"}}) is None


async def test_without_an_answer_nothing_is_known() -> None:
    store = UsageStore(redis(Connection(*[ConnectionRefusedError()] * 3)), prefix="test", replica="one")
    assert await store.put({"2026-11-23": {"openai|a": b"{}"}}) is None
    assert await store.days(["2026-11-23"]) is None
    assert await store.mark("once") is None
