"""Redis as far as it is there: what opens its circuits, what closes them, and what callers notice of it."""

import asyncio
import gc
import random
from collections.abc import Callable, Coroutine
from typing import Any
from unittest.mock import patch

import pytest
from redis import exceptions
from structlog.testing import capture_logs

from implementations.resilience.call import REDIS_TIMEOUT_S
from implementations.shared_state import lateness
from implementations.shared_state.connections import Command
from implementations.shared_state.faults import Fault, RedisAwayError
from implementations.shared_state.lateness import ONE_STALL_S, SLOW_S, Lateness
from implementations.shared_state.prober import GOOD_PROBES, LONGEST_PAUSE_S, SHORTEST_PAUSE_S
from implementations.shared_state.shared_redis import FAILURE_THRESHOLD, Access, Exchange, RedisMode
from tests.fake_redis import WRONG_TYPE, Replica
from tests.fakes import Clock, begun, sample, settle

READ = ("GETRANGE", "key", 0, 10)
WRITE = ("SET", "key", "value")
SECRET = "kanarienvogel"  # noqa: S105

FAULTS = [
    (exceptions.TimeoutError(SECRET), Fault.TIMEOUT),
    (TimeoutError(), Fault.TIMEOUT),
    (exceptions.ConnectionError(SECRET), Fault.CONNECTION),
    (ConnectionRefusedError(SECRET), Fault.CONNECTION),
    (exceptions.ConnectionError("max number of clients reached"), Fault.MAX_CLIENTS),
    (exceptions.ConnectionError("ERR max number of clients reached"), Fault.MAX_CLIENTS),
    (exceptions.AuthenticationError(SECRET), Fault.AUTHENTICATION),
    (exceptions.AuthorizationError(SECRET), Fault.AUTHENTICATION),
    (exceptions.AuthenticationWrongNumberOfArgsError(SECRET), Fault.AUTHENTICATION),
    (exceptions.NoPermissionError(SECRET), Fault.DENIED),
    (exceptions.ReadOnlyError(SECRET), Fault.READ_ONLY),
    (exceptions.OutOfMemoryError(SECRET), Fault.OUT_OF_MEMORY),
    (exceptions.BusyLoadingError(SECRET), Fault.LOADING),
    (exceptions.MasterDownError(SECRET), Fault.LOADING),
    (exceptions.ClusterDownError(SECRET), Fault.LOADING),
    (exceptions.MovedError("6510 10.0.0.1:6379"), Fault.MOVED),
    (exceptions.AskError("6510 10.0.0.1:6379"), Fault.MOVED),
    (exceptions.TryAgainError(SECRET), Fault.MOVED),
    (exceptions.ResponseError(f"BUSY {SECRET}"), Fault.SLOW),
    (exceptions.ResponseError(f"MISCONF {SECRET}"), Fault.READ_ONLY),
    (exceptions.ResponseError(f"NOREPLICAS {SECRET}"), Fault.READ_ONLY),
    (exceptions.InvalidResponse(SECRET), Fault.REFUSED),
    (exceptions.ResponseError(SECRET), Fault.REFUSED),
    (ValueError(SECRET), Fault.REFUSED),
]


def mode_of(replica: Replica) -> RedisMode:
    return replica.redis.mode


async def failed(
    replica: Replica, *, times: int = 1, timeout_s: float = REDIS_TIMEOUT_S, time_counts: bool = True
) -> Fault:
    for _ in range(times):
        with pytest.raises(RedisAwayError) as away:
            await replica.redis.read(READ, timeout_s=timeout_s, time_counts=time_counts)
    return away.value.fault


@pytest.fixture
def every_stall_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A millisecond is slow, and what is late in the same moment is late each time."""
    monkeypatch.setattr(lateness, "SLOW_S", 0.001)
    monkeypatch.setattr(lateness, "ONE_STALL_S", 0.0)


async def down(replica: Replica) -> None:
    replica.server.broken = ConnectionRefusedError()
    await failed(replica, times=FAILURE_THRESHOLD)
    assert mode_of(replica) is RedisMode.DOWN


@pytest.mark.parametrize(("error", "fault"), FAULTS, ids=lambda value: type(value).__name__)
async def test_a_failure_is_counted_by_its_name_and_its_text_is_told_nowhere(error: Exception, fault: Fault) -> None:
    replica = Replica()
    replica.server.broken = error
    with capture_logs() as lines:
        for _ in range(FAILURE_THRESHOLD):
            with pytest.raises(RedisAwayError) as away:
                await replica.redis.read(READ)
            assert SECRET not in str(away.value)
            assert away.value.__cause__ is None

    assert sample(replica.metrics, "llm_provider_redis_failures_total", fault=fault)
    assert SECRET not in str(lines)


async def test_a_few_failures_in_a_row_stop_the_asking_for_however_long() -> None:
    replica = Replica()
    await down(replica)
    replica.server.broken = None
    replica.clock.advance(100_000)
    asked = len(replica.server.sent)
    assert await failed(replica, times=5) is Fault.AWAY
    with pytest.raises(RedisAwayError) as away:
        await replica.redis.write(WRITE)

    assert away.value.fault is Fault.AWAY
    assert len(replica.server.sent) == asked
    assert (replica.redis.mode, replica.redis.cause) == (RedisMode.DOWN, Fault.CONNECTION)
    assert replica.redis.failures == FAILURE_THRESHOLD


async def test_enough_good_probes_bring_it_back_without_any_traffic() -> None:
    replica = Replica()
    await down(replica)
    replica.server.broken = None
    await replica.probed(GOOD_PROBES - 1)
    assert mode_of(replica) is RedisMode.DOWN
    await replica.probed(1)

    assert mode_of(replica) is RedisMode.UP
    assert await replica.redis.read(READ) == [b""]


async def test_what_traffic_shuts_again_at_once_needs_enough_good_probes_again() -> None:
    replica = Replica()
    await down(replica)
    replica.server.broken = None
    await replica.probed(GOOD_PROBES)
    await down(replica)
    replica.server.broken = None
    await replica.probed(GOOD_PROBES - 1)

    assert mode_of(replica) is RedisMode.DOWN


async def test_probes_alone_notice_that_it_went_away() -> None:
    replica = Replica()
    replica.server.broken = ConnectionRefusedError()
    await replica.probed(FAILURE_THRESHOLD)

    assert mode_of(replica) is RedisMode.DOWN
    assert replica.server.count("SET") == 0, "what cannot be read is not written"


async def test_a_bad_probe_starts_the_counting_anew() -> None:
    replica = Replica()
    await down(replica)
    for _ in range(5):
        replica.server.broken = None
        await replica.probed(GOOD_PROBES - 1)
        replica.server.broken = ConnectionRefusedError()
        await replica.probed(1)

    assert mode_of(replica) is RedisMode.DOWN
    assert sample(replica.metrics, "llm_provider_redis_transitions_total", mode="down") == 1.0


async def test_a_redis_that_comes_and_goes_every_two_seconds_changes_the_mode_once() -> None:
    replica, draw = Replica(), random.Random(3)
    await down(replica)
    began_s = replica.clock()
    for _ in range(500):
        replica.server.broken = ConnectionRefusedError() if int((replica.clock() - began_s) / 2) % 2 else None
        await replica.probed(1)
        replica.clock.advance(draw.uniform(SHORTEST_PAUSE_S, LONGEST_PAUSE_S))

    assert sample(replica.metrics, "llm_provider_redis_transitions_total", mode="down") == 1.0
    assert sample(replica.metrics, "llm_provider_redis_transitions_total", mode="up") == 0.0


def test_recovery_takes_less_than_ten_seconds() -> None:
    assert GOOD_PROBES * (LONGEST_PAUSE_S + 2 * REDIS_TIMEOUT_S) < 10


@pytest.mark.parametrize(
    ("refusal", "cause"),
    [
        (exceptions.ReadOnlyError("You can't write against a read only replica."), Fault.READ_ONLY),
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), Fault.OUT_OF_MEMORY),
    ],
)
async def test_one_refused_write_ends_writing_and_reading_goes_on(refusal: Exception, cause: Fault) -> None:
    replica = Replica()
    replica.server.refused = refusal
    with pytest.raises(RedisAwayError):
        await replica.redis.write(WRITE)
    asked = replica.server.count("SET")
    with pytest.raises(RedisAwayError):
        await replica.redis.write(WRITE)

    assert (replica.redis.mode, replica.redis.cause) == (RedisMode.READ_ONLY, cause)
    assert replica.server.count("SET") == asked
    assert await replica.redis.read(READ) == [b""]
    replica.server.refused = None
    await replica.probed(GOOD_PROBES)
    assert mode_of(replica) is RedisMode.UP


@pytest.mark.parametrize("command", [READ, WRITE])
async def test_a_wrong_password_is_believed_at_once(command: Command) -> None:
    replica = Replica()
    replica.server.broken = exceptions.AuthenticationError("invalid username-password pair")
    with pytest.raises(RedisAwayError):
        await (replica.redis.read if command is READ else replica.redis.write)(command)

    assert (replica.redis.mode, replica.redis.cause) == (RedisMode.DOWN, Fault.AUTHENTICATION)


@pytest.mark.parametrize("refusal", [exceptions.ReadOnlyError(), exceptions.OutOfMemoryError()])
async def test_one_refused_read_ends_what_the_refusal_is_about(refusal: Exception) -> None:
    replica = Replica()
    replica.server.broken = refusal
    await failed(replica)

    assert mode_of(replica) is RedisMode.READ_ONLY


@pytest.mark.parametrize(
    ("refusal", "fault"),
    [
        (exceptions.NoPermissionError("User has no permissions"), Fault.DENIED),
        (exceptions.ResponseError("ACL failure in script: User has no permissions"), Fault.REFUSED),
    ],
)
async def test_a_refused_command_says_nothing_of_others_until_a_probe_needs_it(
    refusal: Exception, fault: Fault
) -> None:
    replica = Replica()
    replica.server.refused = refusal
    for _ in range(2 * FAILURE_THRESHOLD):
        with pytest.raises(RedisAwayError):
            await replica.redis.write(WRITE)
    assert (replica.redis.mode, replica.redis.failures) == (RedisMode.UP, 2 * FAILURE_THRESHOLD)
    await replica.probed(1)
    assert (replica.redis.mode, replica.redis.cause) == (RedisMode.READ_ONLY, fault)
    assert await replica.redis.read(READ) == [b""]
    replica.server.broken = refusal
    await failed(replica, times=2 * FAILURE_THRESHOLD)
    assert mode_of(replica) is RedisMode.READ_ONLY
    await replica.probed(1)
    assert mode_of(replica) is RedisMode.DOWN
    replica.server.broken = replica.server.refused = None
    await replica.probed(GOOD_PROBES)
    assert mode_of(replica) is RedisMode.UP


async def test_a_reply_forgives_the_failures_before_it() -> None:
    replica = Replica()
    for _ in range(2 * FAILURE_THRESHOLD):
        replica.server.broken = ConnectionRefusedError()
        await failed(replica)
        replica.server.broken = None
        await replica.redis.read(READ)
        await replica.redis.read(READ)

    assert mode_of(replica) is RedisMode.UP


async def test_a_fault_counts_although_an_exchange_that_began_later_was_answered() -> None:
    """Else one that answers now and then hides a Redis that mostly hangs."""
    replica = Replica()
    for _ in range(3 * FAILURE_THRESHOLD):  # so many that the share of failures alone opens no circuit
        await replica.redis.read(READ)
    breaks = asyncio.Event()

    async def send(*_: Command, on_turn: Callable[[], object]) -> list[bytes]:
        on_turn()
        await breaks.wait()
        raise ConnectionResetError

    with patch.object(replica.server, "send", send):
        early = [asyncio.create_task(replica.redis.read(READ)) for _ in range(FAILURE_THRESHOLD)]
        await settle()
    await replica.redis.read(READ)
    breaks.set()
    await asyncio.wait(early)
    assert {type(one.exception()) for one in early} == {RedisAwayError}
    assert mode_of(replica) is RedisMode.DOWN


@pytest.mark.parametrize("access", Access)
async def test_what_an_exchange_took_is_measured_also_if_it_failed(access: Access) -> None:
    replica = Replica()
    replica.server.takes_s = SLOW_S / 2
    exchange = {Access.READ: replica.redis.read, Access.WRITE: replica.redis.write}[access]
    await exchange(READ)
    replica.server.broken = ConnectionRefusedError()
    with pytest.raises(RedisAwayError):
        await exchange(READ)

    duration = "llm_provider_redis_command_duration_seconds"
    assert sample(replica.metrics, f"{duration}_count", access=access) == 2.0
    assert sample(replica.metrics, f"{duration}_sum", access=access) == pytest.approx(SLOW_S)


async def test_a_key_of_another_type_is_no_failure_of_redis_but_can_be_seen() -> None:
    replica = Replica()
    replica.server.values["key"] = ["a list"]
    for _ in range(10):
        assert await replica.redis.read(READ) == [WRONG_TYPE]

    assert (replica.redis.mode, replica.redis.failures) == (RedisMode.UP, 0)
    assert sample(replica.metrics, "llm_provider_redis_failures_total", fault="wrong_type") == 10.0


async def test_answers_that_are_slow_again_and_again_are_worse_than_none() -> None:
    replica = Replica()
    replica.server.takes_s = SLOW_S + 0.01
    for _ in range(FAILURE_THRESHOLD):
        assert await replica.redis.read(READ) == [b""]
    assert (replica.redis.mode, replica.redis.cause) == (RedisMode.DOWN, Fault.SLOW)
    await replica.probed(GOOD_PROBES)
    assert mode_of(replica) is RedisMode.DOWN
    replica.server.takes_s = SLOW_S / 2
    await replica.probed(GOOD_PROBES)

    assert mode_of(replica) is RedisMode.UP


async def stalled(replica: Replica, *exchanges: Coroutine[Any, Any, list[bytes]]) -> list[list[bytes] | BaseException]:
    """What they end with when a stall of our own makes all of them late."""
    goes_on = asyncio.Event()

    async def send(*_: Command, on_turn: Callable[[], object]) -> list[bytes]:
        on_turn()
        await goes_on.wait()
        return [b""]

    with patch.object(replica.server, "send", send):
        tasks = [asyncio.create_task(exchange) for exchange in exchanges]
        await settle()
        replica.clock.advance(SLOW_S + 0.01)
        goes_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_replies_that_a_stall_of_our_own_made_late_count_as_one_slow_answer() -> None:
    replica = Replica()
    for _ in range(FAILURE_THRESHOLD - 1):
        reads = [replica.redis.read(READ, timeout_s=60.0) for _ in range(10)]
        assert await stalled(replica, *reads) == [[b""]] * 10
    assert mode_of(replica) is RedisMode.UP
    replica.server.takes_s = SLOW_S + 0.01
    await replica.redis.read(READ)
    assert mode_of(replica) is RedisMode.DOWN


async def test_a_write_that_is_late_in_the_same_moment_hides_no_late_read() -> None:
    replica = Replica()
    for _ in range(FAILURE_THRESHOLD):
        await stalled(replica, replica.redis.write(WRITE), replica.redis.read(READ))
    assert not any(map(replica.redis.works, Access))


def test_what_is_late_again_and_again_is_no_single_stall_however_often() -> None:
    clock = Clock()
    late = Lateness(clock)
    told = []
    for _ in range(5):
        told.append(late.note_late(Access.READ))
        clock.advance(ONE_STALL_S * 0.6)

    assert told == [False, True, False, True, False]


async def test_hangs_that_end_in_the_same_moment_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lateness, "SLOW_S", 0.001)
    replica = Replica()
    replica.server.hangs = True
    reads = [replica.redis.read(READ, timeout_s=0.002) for _ in range(10)]
    told = await asyncio.gather(*reads, return_exceptions=True)

    assert [one.fault for one in told if isinstance(one, RedisAwayError)] == [Fault.TIMEOUT] * 10
    assert mode_of(replica) is RedisMode.UP


async def test_what_a_node_refuses_in_the_moment_in_which_it_hands_over_counts_as_one() -> None:
    replica = Replica()
    replica.server.refused = exceptions.MovedError("6510 10.0.0.1:6379")
    modes = []
    for _ in range(FAILURE_THRESHOLD):
        told = await asyncio.gather(*(replica.redis.write(WRITE) for _ in range(10)), return_exceptions=True)
        assert [one.fault for one in told if isinstance(one, RedisAwayError)] == [Fault.MOVED] * 10
        modes.append(replica.redis.mode)
        replica.clock.advance(ONE_STALL_S)

    assert modes == [RedisMode.UP, RedisMode.UP, RedisMode.READ_ONLY]


@pytest.mark.parametrize(("waits_s", "mode"), [(SLOW_S, RedisMode.UP), (0.0, RedisMode.DOWN)])
async def test_the_wait_for_a_connection_does_not_make_redis_slow(waits_s: float, mode: RedisMode) -> None:
    replica = Replica()

    async def send(*_: Command, on_turn: Callable[[], object]) -> list[bytes]:
        replica.clock.advance(waits_s)
        on_turn()
        replica.clock.advance(SLOW_S - waits_s)
        return [b""]

    with patch.object(replica.server, "send", send):
        for _ in range(FAILURE_THRESHOLD):
            await replica.redis.read(READ)
    assert mode_of(replica) is mode


async def _hangs(*_: Command, on_turn: Callable[[], object]) -> list[bytes]:
    on_turn()
    await asyncio.Event().wait()
    return []


async def _has_no_connection(*_: Command, on_turn: Callable[[], object]) -> list[bytes]:
    await asyncio.Event().wait()
    return []


@pytest.mark.parametrize(
    ("send", "fault", "mode"),
    [(_hangs, Fault.TIMEOUT, RedisMode.DOWN), (_has_no_connection, Fault.POOL, RedisMode.UP)],
)
@pytest.mark.usefixtures("every_stall_counts")
async def test_who_gets_no_connection_in_time_cannot_say_that_redis_hangs(
    send: Callable[..., object], fault: Fault, mode: RedisMode
) -> None:
    replica = Replica()
    with patch.object(replica.server, "send", send):
        assert await failed(replica, times=FAILURE_THRESHOLD, timeout_s=0.002) is fault
    assert mode_of(replica) is mode
    assert sample(replica.metrics, "llm_provider_redis_failures_total", fault=fault) == FAILURE_THRESHOLD


@pytest.mark.parametrize(
    ("waits_s", "others_are_answered", "mode"),
    [(0.0015, True, RedisMode.UP), (0.0015, False, RedisMode.DOWN), (0.0, True, RedisMode.DOWN)],
)
@pytest.mark.usefixtures("every_stall_counts")
async def test_who_got_a_connection_late_may_say_that_redis_hangs_only_if_nobody_is_answered(
    *, waits_s: float, others_are_answered: bool, mode: RedisMode
) -> None:
    replica = Replica()

    async def late(*_: Command, on_turn: Callable[[], object]) -> list[bytes]:
        replica.clock.advance(waits_s)
        on_turn()
        if others_are_answered:
            with patch.object(replica.server, "send", answers):
                await replica.redis.read(READ, time_counts=False)
        await asyncio.Event().wait()
        return []

    async def answers(*_: Command, on_turn: Callable[[], object]) -> list[bytes]:
        on_turn()
        replica.clock.advance(0.0001)
        return [b""]

    with patch.object(replica.server, "send", late):
        await failed(replica, times=FAILURE_THRESHOLD, timeout_s=0.002)
    assert mode_of(replica) is mode


async def test_a_hang_ends_with_the_patience_of_the_caller_and_who_had_hardly_any_cannot_say_that_redis_hangs() -> None:
    replica = Replica()
    replica.server.hangs = True
    assert await failed(replica, times=2 * FAILURE_THRESHOLD, timeout_s=0.001) is Fault.TIMEOUT
    assert (replica.redis.mode, replica.redis.failures) == (RedisMode.UP, 0)


async def test_a_report_that_takes_long_is_given_and_says_nothing_about_redis() -> None:
    replica = Replica()
    replica.server.takes_s = SLOW_S + 0.01
    for _ in range(2 * FAILURE_THRESHOLD):
        assert await replica.redis.read(READ, time_counts=False) == [b""]

    assert (replica.redis.mode, replica.redis.failures) == (RedisMode.UP, 0)


@pytest.mark.usefixtures("every_stall_counts")
async def test_a_report_that_takes_too_long_says_nothing_about_redis_either() -> None:
    replica = Replica()
    replica.server.hangs = True
    await failed(replica, times=2 * FAILURE_THRESHOLD, timeout_s=0.001, time_counts=False)
    assert (replica.redis.mode, replica.redis.failures) == (RedisMode.UP, 0)


async def test_reports_do_not_forgive_slow_reads() -> None:
    replica = Replica()
    replica.server.takes_s = SLOW_S + 0.01
    for _ in range(FAILURE_THRESHOLD):
        for _ in range(3):  # so many that the share of slow answers alone opens no circuit
            await replica.redis.read(READ, time_counts=False)
        await replica.redis.read(READ)

    assert (replica.redis.mode, replica.redis.cause) == (RedisMode.DOWN, Fault.SLOW)


async def test_a_report_is_not_asked_of_a_redis_that_is_down_and_counts_a_lost_connection() -> None:
    replica = Replica()
    replica.server.broken = ConnectionRefusedError()
    await failed(replica, times=FAILURE_THRESHOLD + 5, time_counts=False)

    assert (replica.redis.mode, len(replica.server.sent)) == (RedisMode.DOWN, FAILURE_THRESHOLD)


async def test_a_caller_without_patience_asks_nothing() -> None:
    replica = Replica()
    with pytest.raises(RedisAwayError):
        await replica.redis.read(READ, timeout_s=0)

    assert replica.server.sent == []


async def test_a_caller_who_leaves_cancels_no_command() -> None:
    replica = Replica()
    caller = asyncio.create_task(replica.redis.write(WRITE))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert replica.server.sent
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await settle()

    assert replica.server.values == {"key": b"value"}
    count = sample(replica.metrics, "llm_provider_redis_command_duration_seconds_count", access="write")
    assert (count, replica.redis.failures) == (1.0, 0)


async def test_a_command_whose_caller_has_gone_fails_in_silence_and_is_forgotten() -> None:
    replica, told, goes_on = Replica(), list[dict[str, Any]](), asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def send(*_: Command, on_turn: Callable[[], object]) -> list[bytes]:
        on_turn()
        await goes_on.wait()
        raise ConnectionRefusedError

    with patch.object(replica.server, "send", send):
        caller = await begun(replica.redis.read(READ))
        caller.cancel()
        await settle()
        goes_on.set()
        await settle()
    assert replica.redis.failures == 1
    await replica.redis.read(READ)
    await settle()
    del caller  # its frames hold the command
    gc.collect()

    assert told == []
    assert not [one for one in gc.get_objects() if type(one) is Exchange]


async def test_going_down_and_coming_back_whole_are_one_line_one_count_and_one_gauge_each() -> None:
    replica = Replica()
    with capture_logs() as lines:
        replica.server.refused = exceptions.ReadOnlyError("")
        await replica.probed(1)
        assert sample(replica.metrics, "llm_provider_redis_mode") == 1.0
        assert sample(replica.metrics, "llm_provider_redis_up") == 1.0
        await down(replica)
        assert sample(replica.metrics, "llm_provider_redis_mode") == 2.0
        assert sample(replica.metrics, "llm_provider_redis_up") == 0.0
        replica.server.broken = replica.server.refused = None
        await replica.probed(2 * GOOD_PROBES)
        assert sample(replica.metrics, "llm_provider_redis_mode") == 0.0
        assert sample(replica.metrics, "llm_provider_redis_up") == 1.0
    told = [(line["log_level"], line["before"], line["after"], line["reason"]) for line in lines]

    assert told == [
        ("warning", "up", "read_only", Fault.READ_ONLY),
        ("warning", "read_only", "down", Fault.CONNECTION),
        ("info", "down", "up", None),
    ]
    for mode in RedisMode:
        assert sample(replica.metrics, "llm_provider_redis_transitions_total", mode=mode) == 1.0


async def test_the_prober_never_ends_and_pauses_within_its_bounds() -> None:
    replica = Replica()
    running = await begun(replica.prober.run())
    await settle()
    running.cancel()

    assert len(replica.sleep.naps) > 3
    assert replica.server.count("SET") >= len(replica.sleep.naps)
    assert all(SHORTEST_PAUSE_S <= nap <= LONGEST_PAUSE_S for nap in replica.sleep.naps)


async def test_closing_waits_for_what_is_under_way_and_gives_the_connections_back() -> None:
    replica = Replica()
    writing = asyncio.create_task(replica.redis.write(WRITE))
    await asyncio.sleep(0)
    await replica.redis.close()

    assert replica.server.closed
    assert replica.server.values == {"key": b"value"}
    assert await writing == [b"OK"]
