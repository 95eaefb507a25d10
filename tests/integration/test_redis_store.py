"""The entry store on a real server: every way in which that can fail, one after the other, and what is read then."""

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from implementations.resilience.call import REDIS_TIMEOUT_S
from implementations.shared_state import lateness, shared_redis
from implementations.shared_state.budget_store import BudgetStore
from implementations.shared_state.connections import Connections
from implementations.shared_state.document_store import DocumentStore
from implementations.shared_state.entry_store import EntryStore
from implementations.shared_state.envelope import SCHEMA
from implementations.shared_state.faults import Fault, RedisAwayError
from implementations.shared_state.lateness import SLOW_S
from implementations.shared_state.prober import GOOD_PROBES, Prober
from implementations.shared_state.shared_redis import FAILURE_THRESHOLD, RedisMode, SharedRedis
from implementations.shared_state.usage_store import UsageStore
from implementations.shared_state.write_behind import WriteBehind
from tests.fakes import new_metrics, sample
from tests.integration.redis_server import PASSWORD, RedisServer, redis_server

pytestmark = pytest.mark.usefixtures("patient")

LONG_S = 30.0
NAME = "f" * 64
PAYLOAD = b'{"winner": "Essay A"}'


class Replica:
    """What di.py puts together for one process; the test drives the prober."""

    def __init__(self, url: str, *, connections: int = 32) -> None:
        self.metrics = new_metrics()
        self.redis = SharedRedis(Connections(url, connections=connections), metrics=self.metrics, clock=time.monotonic)
        self.behind = WriteBehind(metrics=self.metrics)
        self.entries = EntryStore(
            self.redis,
            prefix="test",
            behind=self.behind,
            metrics=self.metrics,
            clock=time.monotonic,
            now_s=time.time,
        )
        self.prober = Prober(
            self.redis,
            reading=self.entries.probe_read,
            writing=self.entries.probe_write,
            jitter=random.uniform,
            sleep=asyncio.sleep,
        )

    async def put(self, name: str = NAME, payload: bytes = PAYLOAD) -> None:
        self.entries.put(name, payload, ttl_s=60)
        await self.behind.finish()

    async def found(self, name: str = NAME, *, timeout_s: float = LONG_S) -> bytes | None:
        entry = await self.entries.get(name, timeout_s=timeout_s)
        return None if entry is None else entry.payload

    async def away(self, *, timeout_s: float = LONG_S) -> Fault:
        with pytest.raises(RedisAwayError) as away:
            await self.entries.get(NAME, timeout_s=timeout_s)
        return away.value.fault

    async def probed(self, times: int) -> RedisMode:
        for _ in range(times):
            await self.prober.probe()
        return self.redis.mode

    async def recovered(self) -> bool:
        """Probe until Redis is up again: on a busy machine one probe or another is late, and counts from anew."""
        async with asyncio.timeout(LONG_S):
            while self.redis.mode is not RedisMode.UP:
                await self.prober.probe()
        return True

    def failures(self, fault: Fault) -> float | None:
        return sample(self.metrics, "llm_provider_redis_failures_total", fault=fault)


@asynccontextmanager
async def replica(url: str, *, connections: int = 32) -> AsyncIterator[Replica]:
    running = Replica(url, connections=connections)
    try:
        yield running
    finally:
        await running.behind.finish()
        await running.redis.close()


@pytest.fixture
def hasty(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis has the time that it really has."""
    monkeypatch.setattr(shared_redis, "REDIS_TIMEOUT_S", REDIS_TIMEOUT_S)
    monkeypatch.setattr(lateness, "SLOW_S", SLOW_S)


async def test_two_replicas_share_what_one_of_them_stored_and_what_one_of_them_clears(server: RedisServer) -> None:
    async with replica(server.url) as here, replica(server.url) as there:
        await here.put()
        assert await there.found() == PAYLOAD
        assert await there.entries.clear()
        assert await here.found() is None
        await here.put()
        assert await there.found() == PAYLOAD
        keys = [f"test:{SCHEMA}:{number}:{NAME}" for number in (0, here.entries.generation.number)]
        assert server.all_keys() == [*keys, "test:generation"]


async def test_every_entry_and_every_probe_goes_by_itself(server: RedisServer) -> None:
    async with replica(server.url) as here:
        await here.put()
        await here.probed(1)
        for key in server.all_keys():
            assert 0 < int(server.ask("PTTL", key)[1:]) <= 60_000


async def test_a_server_that_was_killed_is_left_alone_and_used_again_with_nothing_in_it(server: RedisServer) -> None:
    async with replica(server.url) as here:
        await here.put()
        server.kill()
        for _ in range(FAILURE_THRESHOLD):
            assert await here.away() is Fault.CONNECTION
        assert await here.away() is Fault.AWAY
        assert here.redis.mode is RedisMode.DOWN
        server.start()
        assert await here.probed(GOOD_PROBES) is RedisMode.UP
        assert await here.found() is None


@pytest.mark.usefixtures("hasty")
async def test_a_frozen_server_costs_a_bounded_time_and_is_then_left_alone(server: RedisServer) -> None:
    async with replica(server.url) as here:
        await here.put()
        server.freeze()
        for _ in range(FAILURE_THRESHOLD):
            assert await here.away(timeout_s=REDIS_TIMEOUT_S) is Fault.TIMEOUT
        assert await here.away() is Fault.AWAY
        server.thaw()
        assert await here.recovered()
        assert await here.found() == PAYLOAD


@pytest.mark.usefixtures("hasty")
async def test_a_server_that_only_writes_hang_on_goes_on_being_read(server: RedisServer) -> None:
    async with replica(server.url) as here:
        await here.put()
        server.ask("CLIENT", "PAUSE", "60000", "WRITE")
        for _ in range(FAILURE_THRESHOLD):
            await here.put("another")
        assert here.redis.mode is RedisMode.READ_ONLY
        assert await here.found() == PAYLOAD
        server.ask("CLIENT", "UNPAUSE")
        assert await here.recovered()


@pytest.mark.parametrize(
    ("refuses", "takes"),
    [
        ("REPLICAOF 127.0.0.1 9", "REPLICAOF NO ONE"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    ],
    ids=["a replica", "without replicas"],
)
async def test_a_server_that_takes_no_writes_can_be_read_and_is_written_again_once_it_does(
    refuses: str, takes: str, server: RedisServer
) -> None:
    async with replica(server.url) as here:
        await here.put()
        server.ask(*refuses.split())
        await here.put("another")
        assert (here.redis.mode, here.redis.cause) == (RedisMode.READ_ONLY, Fault.READ_ONLY)
        assert await here.found() == PAYLOAD
        server.ask(*takes.split())
        assert await here.probed(GOOD_PROBES) is RedisMode.UP


@asynccontextmanager
async def address(leads_to: list[RedisServer]) -> AsyncIterator[str]:
    """That of the last one; what is connected stays connected with the one before."""

    async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while part := await reader.read(65536):
                writer.write(part)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", leads_to[-1].port)
        await asyncio.gather(copied(reader, there[1]), copied(there[0], writer))

    async with await asyncio.start_server(connect, "127.0.0.1") as listening:
        yield f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0"


@pytest.mark.parametrize(("serves_stale_data", "refusal"), [("yes", Fault.READ_ONLY), ("no", Fault.LOADING)])
async def test_connections_follow_the_address_when_the_old_server_lives_on_as_a_replica(
    server: RedisServer, tmp_path: Path, serves_stale_data: str, refusal: Fault
) -> None:
    """As in the failover of a managed Redis."""
    leads_to, names = [server], [str(number) for number in range(5)]
    server.ask("CONFIG", "SET", "replica-serve-stale-data", serves_stale_data)
    with redis_server(tmp_path) as promoted:
        async with address(leads_to) as url, replica(url) as here:
            await asyncio.gather(*map(here.put, names))
            server.ask("REPLICAOF", "127.0.0.1", "9")
            await here.probed(1)
            assert here.redis.cause is refusal
            leads_to.append(promoted)
            assert await here.probed(GOOD_PROBES) is RedisMode.UP
            await asyncio.gather(*map(here.put, names))
            assert here.redis.mode is RedisMode.UP
            assert len(promoted.all_keys()) == len(names) + 1  # and the probe's


@pytest.mark.usefixtures("hasty")
async def test_no_look_up_waits_for_a_server_that_went_silent_once_another_is_in_use(
    server: RedisServer, tmp_path: Path
) -> None:
    """As in the failover of a managed Redis whose machine broke down: nobody closes the connections to it."""
    leads_to, names = [server], [str(number) for number in range(5)]
    with redis_server(tmp_path) as another:
        async with address(leads_to) as url, replica(url) as here:
            await asyncio.gather(*map(here.put, names))
            server.freeze()
            assert await here.probed(FAILURE_THRESHOLD) is RedisMode.DOWN
            leads_to.append(another)
            assert await here.recovered()
            assert await asyncio.gather(*map(here.found, names)) == [None] * len(names)


async def test_a_server_out_of_memory_can_be_read(server: RedisServer) -> None:
    async with replica(server.url) as here:
        await here.put()
        server.ask("CONFIG", "SET", "maxmemory", "1")
        await here.put("another")
        assert (here.redis.mode, here.redis.cause) == (RedisMode.READ_ONLY, Fault.OUT_OF_MEMORY)
        assert await here.found() == PAYLOAD


COMPOSE = (Path(__file__).parents[2] / "deploy/docker-compose.yml").read_text()
POLICY = re.search(r'"--maxmemory-policy", "([a-z-]+)"', COMPOSE)[1]  # type: ignore[index]
BULKY = 100_000


async def _share(here: Replica) -> None:
    """Write what the replicas share besides answers."""
    await DocumentStore(here.redis, key="test:operator:settings").replace(b"", b"settings")
    await DocumentStore(here.redis, key="test:operator:circuits").replace(b"", b"orders")
    period = [("2026-11-23", 5, 5, None)]
    await BudgetStore(here.redis, prefix="test", replica="one").exchange("declare", 1, period, ceiling=0)
    usage = UsageStore(here.redis, prefix="test", replica="one")
    await usage.put({"2026-11-01": {"openai|a": b'{"requests":1}'}})
    await usage.mark("alert")


async def test_a_full_server_drops_answers_and_nothing_else(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--maxmemory", "8mb", "--maxmemory-policy", POLICY) as server:
        async with replica(server.url) as here:
            await here.entries.clear()
            await _share(here)
            lasting = server.all_keys()
            for number in range(300):
                await here.put(f"{number:064}", random.randbytes(BULKY).hex().encode())
            left = server.all_keys()
            assert here.redis.mode is RedisMode.UP
    assert len(lasting) == 6
    assert set(lasting) < set(left)
    assert 0 < len(left) - len(lasting) < 100


async def test_a_wrong_password_is_told_by_its_kind_only(tmp_path: Path) -> None:
    with redis_server(tmp_path, password=PASSWORD) as server:
        async with replica(server.url) as right, replica(server.url.replace(PASSWORD, "wrong")) as wrong:
            await right.put()
            assert await right.found() == PAYLOAD
            assert await wrong.away() is Fault.AUTHENTICATION
        async with replica(server.url.replace(f":{PASSWORD}@", "")) as without:
            assert await without.away() is Fault.AUTHENTICATION
            assert without.redis.mode is RedisMode.DOWN


GUIDE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
GRANT = re.search(r"^ACL SETUSER judge (\+.*)$", GUIDE, re.MULTILINE)[1].split()  # type: ignore[index]


@asynccontextmanager
async def judge(server: RedisServer, *without: str) -> AsyncIterator[Replica]:
    """A replica with the grants of the guide, but for these."""
    grant = [f"-{command[1:]}" if command in without else command for command in GRANT]
    server.ask("ACL", "SETUSER", "judge", "on", f">{PASSWORD}", "~test:*", "resetchannels", *grant)
    async with replica(server.url.replace("redis://", f"redis://judge:{PASSWORD}@")) as here:
        yield here


async def _do_everything(here: Replica) -> None:
    await here.put()
    await here.entries.get(NAME)
    await here.entries.clear()
    await here.probed(1)
    await _share(here)
    await DocumentStore(here.redis, key="test:operator:settings").read()
    usage = UsageStore(here.redis, prefix="test", replica="one")
    await usage.days(["2026-11-01"])
    await usage.unmark(["alert"])


async def test_the_commands_that_the_guide_names_are_all_that_a_user_needs(server: RedisServer) -> None:
    async with judge(server) as here:
        await _do_everything(here)
        assert (here.redis.mode, here.redis.failures) == (RedisMode.UP, 0)
        assert not here.failures(Fault.DENIED)
        assert not here.failures(Fault.REFUSED)


@pytest.mark.parametrize("command", GRANT)
async def test_a_user_needs_every_command_that_the_guide_names(server: RedisServer, command: str) -> None:
    async with judge(server, command) as here:
        with contextlib.suppress(RedisAwayError):
            await _do_everything(here)
        assert here.failures(Fault.DENIED) or here.failures(Fault.REFUSED)  # the latter inside a script


@pytest.mark.parametrize("reading", ["getrange", "pttl"])
async def test_a_user_who_may_only_read_reads_and_one_who_may_not_even_that_is_away(
    server: RedisServer, reading: str
) -> None:
    async with judge(server) as here:
        await here.put()
        server.ask("ACL", "SETUSER", "judge", "-set")
        assert await here.probed(1) is RedisMode.READ_ONLY
        assert here.redis.cause is Fault.DENIED
        assert await here.found() == PAYLOAD
        server.ask("ACL", "SETUSER", "judge", f"-{reading}")
        assert await here.away() is Fault.DENIED
        assert await here.probed(1) is RedisMode.DOWN


@pytest.mark.parametrize("command", ["+eval", "+hset", "+hgetall", "+unlink", "+hget", "+expire"])
async def test_a_command_that_the_cache_does_not_need_takes_no_answer_with_it(
    server: RedisServer, command: str
) -> None:
    async with judge(server, command) as here:
        for _ in range(FAILURE_THRESHOLD):
            await _share(here)
            usage = UsageStore(here.redis, prefix="test", replica="one")
            await usage.days(["2026-11-01"])
            await usage.unmark(["alert"])
        await here.put()
        assert (await here.probed(1), await here.found()) == (RedisMode.UP, PAYLOAD)


def test_a_server_that_takes_no_more_clients_is_not_latched_as_down(server: RedisServer) -> None:
    """With the event loop of the service, which reads the refusal before the first command is written."""

    async def two_clients() -> None:
        async with replica(server.url) as first, replica(server.url) as second:
            await first.put()
            assert await second.away() is Fault.MAX_CLIENTS
            assert await first.found() == PAYLOAD
            await second.probed(FAILURE_THRESHOLD)
            await first.redis.close()
            assert await second.probed(GOOD_PROBES) is RedisMode.UP

    server.ask("CONFIG", "SET", "maxclients", "1")
    uvloop.run(two_clients())


async def test_more_callers_than_connections_wait_or_miss_and_nobody_calls_it_an_outage(
    server: RedisServer,
) -> None:
    async with replica(server.url, connections=1) as here:
        await here.put()
        holding = asyncio.create_task(here.redis.read(("BLPOP", "end", 0), timeout_s=LONG_S))
        waiting = asyncio.create_task(here.found())
        missing = await asyncio.gather(*(here.found(timeout_s=0.02) for _ in range(50)), return_exceptions=True)
        assert [one.fault for one in missing if isinstance(one, RedisAwayError)] == [Fault.POOL] * 50
        server.ask("RPUSH", "end", "now")
        assert await holding == [[b"end", b"now"]]
        assert await waiting == PAYLOAD
        assert here.failures(Fault.POOL) == 50
        assert here.redis.mode is RedisMode.UP


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("DEL", "{key}"), id="nothing"),
        pytest.param(("SET", "{key}", "garbage"), id="garbage"),
        pytest.param(("SETRANGE", "{key}", "20", "x"), id="one byte changed"),
        pytest.param(("SETRANGE", "{key}", "300000", "x"), id="oversized"),
        pytest.param(("SET", "{key}", '{"schema": 0}'), id="older"),
    ],
)
async def test_what_is_no_entry_is_a_miss_and_can_be_stored_anew(server: RedisServer, command: tuple[str, ...]) -> None:
    async with replica(server.url) as here:
        await here.put()
        server.ask(*(part.replace("{key}", f"test:{SCHEMA}:0:{NAME}") for part in command))
        assert await here.found() is None
        await here.behind.finish()
        assert server.all_keys() == []
        await here.put()
        assert await here.found() == PAYLOAD
        assert here.redis.failures == 0


@pytest.mark.parametrize("command", [("LPUSH", "x"), ("SADD", "x"), ("HSET", "field", "x")])
async def test_a_key_of_another_type_is_removed(server: RedisServer, command: tuple[str, ...]) -> None:
    async with replica(server.url) as here:
        verb, *arguments = command
        server.ask(verb, f"test:{SCHEMA}:0:{NAME}", *arguments)
        assert await here.found() is None
        await here.behind.finish()
        assert server.all_keys() == []
        assert sample(here.metrics, "llm_provider_cache_corrupt_total", flaw="wrong_type") == 1.0


async def test_three_thousand_callers_who_leave_at_random_moments_mix_no_answers_up(server: RedisServer) -> None:
    draw = random.Random(11)
    names = [f"{number:064x}" for number in range(50)]
    async with replica(server.url, connections=8) as here:
        for name in names:
            await here.put(name, name.encode())

        async def ask_and_perhaps_leave() -> None:
            name = draw.choice(names)
            asking = asyncio.create_task(here.found(name))
            for _ in range(draw.randrange(12)):
                await asyncio.sleep(0)
            asking.cancel()
            answered = await asyncio.gather(asking, return_exceptions=True)
            assert answered[0] == name.encode() or isinstance(answered[0], asyncio.CancelledError | RedisAwayError)

        cancelled = 0
        for _ in range(300):
            await asyncio.gather(*(ask_and_perhaps_leave() for _ in range(10)))
            cancelled += 10
            name = draw.choice(names)
            assert await here.found(name) == name.encode()
        assert cancelled == 3_000
        assert here.redis.mode is RedisMode.UP
        assert sample(here.metrics, "llm_provider_cache_corrupt_total", flaw="corrupt") == 0.0


async def test_commands_that_run_out_of_time_give_their_connections_back(server: RedisServer) -> None:
    draw = random.Random(5)
    connections = Connections(server.url, connections=4)
    try:
        for number in range(8):
            await connections.send(("SET", f"key-{number}", f"value-{number}"))
        late = 0
        for _ in range(1_000):
            number = draw.randrange(8)
            try:
                async with asyncio.timeout(draw.uniform(0, 0.0006)):
                    assert await connections.send(("GET", f"key-{number}")) == [f"value-{number}".encode()]
            except TimeoutError:
                late += 1
        together = await asyncio.gather(*(connections.send(("GET", f"key-{number}")) for number in range(4)))
    finally:
        await connections.close()
    assert late > 0
    assert together == [[f"value-{number}".encode()] for number in range(4)]
