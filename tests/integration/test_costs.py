"""Limits that replicas share on a real Redis: raced for, with Redis killed in the middle, and over HTTP."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from api_models import AttemptOutcome, ProviderName, Purchase, UsageScope
from exceptions import CostLimitExceededError
from implementations.accounting.budget import Budget
from implementations.accounting.ledger import Ledger
from implementations.accounting.money import micro_usd
from implementations.accounting.shared_budget import Entry
from implementations.accounting.shared_ledger import SharedLedger
from implementations.shared_state.budget_store import BudgetStore
from implementations.shared_state.connections import Connections
from implementations.shared_state.shared_redis import Access, RedisMode, SharedRedis
from implementations.shared_state.usage_store import UsageStore
from protocols import UsageTotals
from tests.fake_shared_budget import FakeSharedBudget
from tests.fakes import NOON, Calendar, budget, cost_rules, new_metrics, reply, request
from tests.integration.dialects import ESSAY, OPENAI
from tests.integration.pointed_service import running, serving
from tests.integration.redis_server import RedisServer
from tests.integration.service_process import ServiceProcess, prefixed, service, wait_until
from tests.integration.stand_in import answer, standing_in

KEPT = {"Cache-Control": "max-age=60"}
DAY = NOON.date()


class Replica:
    """What one process holds of the shared money. A call is put aside at 0.1 dollars."""

    def __init__(self, redis: SharedRedis, name: str, limit_usd: float) -> None:
        self.redis = redis
        self.spent = 0
        self.usage = UsageStore(redis, prefix="test", replica=name)
        self.ledger = Ledger(now=Calendar())
        self.shared_ledger = SharedLedger(self.ledger, self.usage)
        self.budget: Budget = budget(
            lambda: cost_rules(limit_usd_per_day=limit_usd, unknown_ceiling_usd=0.1),
            metrics=new_metrics(),
            shared=BudgetStore(redis, prefix="test", replica=name),
            replicas=2,
        )

    async def buys(self, cost_usd: float) -> bool:
        try:
            reservation = await self.budget.reserve(request())
        except CostLimitExceededError:
            return False
        self.spent += micro_usd(cost_usd)
        bill = Purchase(model="m", usage=reply().purchase.usage, cost_usd=cost_usd)
        self.budget.settle(reservation, AttemptOutcome.SUCCESS, bill)
        return True


@asynccontextmanager
async def fleet(url: str, limit_usd: float) -> AsyncIterator[tuple[Replica, Replica]]:
    redises = [SharedRedis(Connections(url), metrics=new_metrics(), clock=time.monotonic) for _ in range(2)]
    one, other = (Replica(redis, name, limit_usd) for redis, name in zip(redises, ("one", "other"), strict=True))
    try:
        yield one, other
    finally:
        for replica in (one, other):
            await replica.budget.finish()
            await replica.redis.close()


def held(server: RedisServer) -> bytes:
    return server.ask("HGET", f"test:budget:{DAY}", "held").split(b"\r\n")[1]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "damage", [("held", "12.5"), ("spent", "none"), ("held", "9223372036854775807"), ("one", "1 2")], ids=" is ".join
)
async def test_a_month_that_somebody_damaged_leaves_the_day_as_it_is_and_is_restored_when_it_is_deleted(
    server: RedisServer, damage: tuple[str, str]
) -> None:
    month = f"test:budget:{DAY:%Y-%m}"
    async with fleet(server.url, 1.0) as (one, other):
        assert await one.buys(0.1)
        server.ask("HSET", month, *damage)
        assert await one.buys(0.1)
        for _ in range(3):
            await one.budget.refresh()
        assert one.budget.is_local
        assert one.redis.mode is RedisMode.UP
        assert held(server) == b"100000"
        server.ask("UNLINK", month)
        for replica in (one, other):
            await replica.budget.refresh()
        assert held(server) == b"200000"
        assert not one.budget.is_local


@pytest.mark.usefixtures("patient")
async def test_500_at_once_never_overspend_a_budget_that_is_nearly_empty(server: RedisServer) -> None:
    async with fleet(server.url, 1.0) as (one, other):
        assert await one.buys(0.75)
        bought = await asyncio.gather(*((one, other)[number % 2].buys(0.1) for number in range(500)))
        assert sum(bought) == 2
        assert one.spent + other.spent == micro_usd(0.95)
        for replica in (one, other):
            await replica.budget.finish()
        assert held(server) == b"950000"
        assert not one.budget.is_local
        assert one.redis.failures + other.redis.failures == 0


@pytest.mark.usefixtures("patient")
async def test_500_at_once_that_cost_less_than_was_put_aside_never_overspend(server: RedisServer) -> None:
    async with fleet(server.url, 1.0) as (one, other):
        for _ in range(4):
            await asyncio.gather(*((one, other)[number % 2].buys(0.03) for number in range(125)))
            assert one.spent + other.spent <= micro_usd(1.0)
        for replica in (one, other):
            await replica.budget.finish()
        assert int(held(server)) == one.spent + other.spent
        while await one.buys(0.03):
            await one.budget.finish()
        assert micro_usd(0.9) < one.spent + other.spent <= micro_usd(1.0)


@pytest.mark.usefixtures("patient")
async def test_redis_killed_in_the_middle_leaves_each_its_part_and_hears_of_everything_later(
    server: RedisServer,
) -> None:
    async with fleet(server.url, 2.0) as (one, other):
        for _ in range(5):
            assert await one.buys(0.1)
            assert await other.buys(0.1)
        server.kill()
        await asyncio.gather(*((one, other)[number % 2].buys(0.1) for number in range(100)))
        assert (one.spent, other.spent) == (micro_usd(1.0), micro_usd(1.0))
        assert one.budget.is_local
        server.start()
        for replica in (one, other):
            for access in Access:
                replica.redis.use_again(access)
            await replica.budget.refresh()
        assert held(server) == b"2000000"
        assert not await other.buys(0.1)


@pytest.mark.usefixtures("patient")
async def test_redis_answers_every_message_as_the_budget_in_memory_on_which_the_other_tests_rely(
    server: RedisServer,
) -> None:
    drawn, memory = random.Random(25), FakeSharedBudget()
    redis = SharedRedis(Connections(server.url), metrics=new_metrics(), clock=time.monotonic)
    answers = []
    for number in range(600):
        name = drawn.choice(["one", "other"])
        epoch, *_ = memory.fields.get((DAY.isoformat(), name), (0, 0, 0, 0))
        verb, epoch = drawn.choice(
            [("change", epoch)] * 12 + [("change", epoch + 1), ("declare", epoch), ("declare", epoch + 1)]
        )
        large = 10**13 if number > 500 else 1
        entries = [
            Entry(
                period,
                large * 10 * drawn.randint(-6, 6),
                large * drawn.randint(-9, 30) + 1,
                drawn.choice([None, None, 0, large * 500]),
            )
            for period in (DAY.isoformat(), DAY.isoformat()[:7])
        ]
        ceiling = drawn.choice([0, large * 50])
        expected = await memory.of(name).exchange(verb, epoch, entries, ceiling=ceiling)
        store = BudgetStore(redis, prefix="test", replica=name)
        assert await store.exchange(verb, epoch, entries, ceiling=ceiling) == expected
        answers.append(expected and expected[0])
    await redis.close()
    assert {one: answers.count(one) > 20 for one in (-1, 0, 1, 2)} == dict.fromkeys((-1, 0, 1, 2), True)
    for period in memory.held:
        key = f"test:budget:{period}"
        kept = {field: server.ask("HGET", key, field).split(b"\r\n")[1] for field in ("held", "spent")}
        assert kept == {"held": b"%d" % memory.held[period], "spent": b"%d" % memory.spent[period]}
        assert 69 * 86_400 < int(server.ask("TTL", key)[1:-2]) <= 70 * 86_400


async def test_the_ledger_is_merged_and_its_keys_go_by_themselves(server: RedisServer) -> None:
    async with fleet(server.url, 1.0) as (one, other):
        for replica in (one, other):
            replica.ledger.book(ProviderName.OPENAI, "a|model", UsageTotals(requests=1, cost_micro_usd=5))
            await replica.shared_ledger.send()
        read = await one.shared_ledger.read(DAY, DAY)
        assert read.scope is UsageScope.FLEET
        assert read.rows == {(ProviderName.OPENAI, "a|model"): UsageTotals(requests=2, cost_micro_usd=10)}
        server.ask("FLUSHALL")
        assert (await other.shared_ledger.read(DAY, DAY)).of(ProviderName.OPENAI).requests == 1
        await one.shared_ledger.send()
        assert (await other.shared_ledger.read(DAY, DAY)).of(ProviderName.OPENAI).requests == 2
        await one.budget.refresh()
        assert (await one.usage.mark("once"), await other.usage.mark("once")) == (True, False)
    assert all(int(server.ask("TTL", key)[1:-2]) > 0 for key in server.all_keys())


async def test_redis_tells_how_many_figures_it_did_not_have_and_keeps_them_for_seventy_days(
    server: RedisServer,
) -> None:
    days = {"2026-11-22": {"a": b"1", "b": b"2"}, "2026-11-23": {"a": b"3"}}
    async with fleet(server.url, 1.0) as (one, _):
        assert [await one.usage.put(days) for _ in range(2)] == [3, 0]
        server.ask("DEL", "test:usage:2026-11-22")
        assert await one.usage.put(days) == 2
        read = await one.usage.days(list(days)) or ()
        assert [list(texts) for texts in read] == [list(texts.items()) for texts in days.values()]
    for key in server.all_keys():
        assert 69 * 86_400 < int(server.ask("TTL", key)[1:-2]) <= 70 * 86_400


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("command", [("SET", "{key}", "garbage"), ("HSET", "{key}", "held", "garbage")])
async def test_a_key_that_is_not_ours_is_no_answer_and_no_failure_of_a_call(
    server: RedisServer, command: tuple[str, ...]
) -> None:
    server.ask(*(part.replace("{key}", f"test:budget:{DAY}") for part in command))
    async with fleet(server.url, 1.0) as (one, _):
        assert [await one.buys(0.1) for _ in range(6)] == [True] * 5 + [False]
        assert (one.redis.mode, one.redis.failures) == (RedisMode.UP, 0)


async def test_past_the_limit_callers_get_402_and_known_answers_still() -> None:
    async with serving(OPENAI, answer(OPENAI.good()), COST_LIMIT_USD_PER_DAY="0.003") as (running, provider):
        assert (await running.judges(OPENAI, headers=KEPT)).status == 200
        told = await running.judges(OPENAI, headers=KEPT, overrides={"max_tokens_override": 30_000})
        body = told.refusal(402, "COST_LIMIT_EXCEEDED")
        assert body["provider"] == "openai"
        known = await running.judges(OPENAI, headers=KEPT)
        assert (known.status, known.headers["x-cache"]) == (200, "HIT")
        metrics = (await running.reads("/metrics")).text
        summary = (await running.reads("/api/v1/usage/summary")).json()
    assert len(provider.requests) == 1
    assert 'llm_provider_cost_limit_refusals_total{reason="day"} 1.0' in metrics
    assert (summary["scope"], summary["total"]["requests"]) == ("replica", 1)


async def test_nobody_else_is_asked_when_the_limit_is_reached() -> None:
    async with serving(OPENAI, answer(OPENAI.good()), COST_LIMIT_USD_PER_DAY="0") as (running, provider):
        told = await running.judges(OPENAI, overrides={"allow_fallback": True})
        told.refusal(402, "COST_LIMIT_EXCEEDED")
    assert provider.requests == []


@pytest.mark.usefixtures("patient")
async def test_what_was_bought_while_redis_was_away_is_told_at_the_stop_although_it_was_not_used_again_before(
    server: RedisServer,
) -> None:
    async with standing_in(answer(OPENAI.good())) as provider:
        variables = {**OPENAI.variables(provider.url), "REDIS_URL": server.url, "COST_LIMIT_USD_PER_DAY": "1"}
        async with running(**variables) as service_before:
            assert (await service_before.reads("/api/v1/usage/summary")).json()["scope"] == "fleet"
            server.kill()
            for _ in range(3):
                assert (await service_before.judges(OPENAI)).status == 200
            server.start()
            assert (await service_before.reads("/api/v1/usage/summary")).json()["scope"] == "replica"
        spent = server.ask("HGET", f"llm_cache:budget:{datetime.now(UTC).date()}", "spent").split(b"\r\n")[1]
        async with running(**variables) as service_after:
            summary = (await service_after.reads("/api/v1/usage/summary")).json()
    assert (summary["scope"], summary["total"]["successes"]) == ("fleet", 3)
    assert int(spent) == 3 * micro_usd(OPENAI.good_usd)


async def test_two_services_on_one_redis_keep_one_limit_and_show_one_account(
    server: RedisServer, tmp_path: Path
) -> None:
    limit_usd = 0.01
    later = count(1)

    def spends_what_is_left(running: ServiceProcess) -> None:
        while running.compare(essay_a=f"A later essay, {next(later)}.").status == 200:
            pass

    async with standing_in(answer(OPENAI.good())) as provider:
        variables = prefixed(
            **OPENAI.variables(provider.url),
            REDIS_URL=server.url,
            COST_LIMIT_USD_PER_DAY=str(limit_usd),
            LLM_DEFAULT_MAX_TOKENS="400",  # little more is set aside than is spent
            REPLICAS="2",
            ENVIRONMENT="production",
        )
        with service(tmp_path, variables) as one, service(tmp_path, variables) as other:
            statuses = await asyncio.to_thread(_race, one, other)
            assert set(statuses) == {200, 402}
            assert len(provider.requests) == statuses.count(200)
            assert len(provider.requests) * OPENAI.good_usd <= limit_usd
            await asyncio.to_thread(wait_until, lambda: {_shown(one), _shown(other)} == {len(provider.requests)})
            alerts = await asyncio.to_thread(_alerts, one, other, limit_usd, lambda: spends_what_is_left(one))
            assert len(provider.requests) * OPENAI.good_usd <= limit_usd
    today = datetime.now(UTC).date().isoformat()
    assert [(one["alert_type"], one["period"]) for one in alerts if one["threshold"] == limit_usd] == [
        ("daily_limit", today)
    ]


def _race(*services: ServiceProcess) -> list[int]:
    def ask(number: int) -> int:
        return services[number % len(services)].compare(essay_a=f"Essay {number}, says my {ESSAY}.").status

    # Few enough that Redis answers each within its quarter of a second also on a busy machine: a call that is decided
    # without it may pass the limit.
    with ThreadPoolExecutor(12) as pool:
        return list(pool.map(ask, range(120)))


def _shown(running: ServiceProcess) -> int | None:
    """What the fleet used; None while Redis is too slow to say."""
    shown = running.ask("/api/v1/providers").json()
    summary = running.ask("/api/v1/usage/summary").json()
    if (shown["scope"], summary["scope"]) != ("fleet", "fleet"):
        return None
    total: int = summary["total"]["requests"]
    return total


def _alerts(
    one: ServiceProcess, other: ServiceProcess, threshold: float, meanwhile: Callable[[], None]
) -> list[dict[str, object]]:
    def told() -> list[dict[str, object]]:
        return [line for running in (one, other) for line in running.lines() if line["event"] == "cost_alert"]

    def reached() -> bool:
        meanwhile()
        return any(line["threshold"] == threshold for line in told())

    wait_until(reached)
    return told()
