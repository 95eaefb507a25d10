"""The spool: rows survive the process, and a disk that refuses stops nobody."""

import asyncio
import errno
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn
from unittest.mock import Mock, patch

import pytest
from structlog.testing import capture_logs

from api_models import DegradedMode, EventDropReason, ProcessingEvent
from config import Settings
from di import create_container
from environment import ConfigurationError
from implementations.background.supervisor import Supervisor
from implementations.events import spool, spool_file
from implementations.events.disk_thread import DiskThread
from implementations.events.spool import DAMAGED_DATABASE, FAILED_WRITES, RETRY_S, UNREADABLE_EVENTS, Spool
from implementations.events.spool_file import LONGEST_LOG_BYTES
from implementations.events.spool_rows import SpoolRows
from tests.fakes import begun, sample, settle
from tests.kafka_fakes import Harness, keys, message, miss
from tests.virtual_loop import arriving_during_a_stall, in_virtual_time

MISS = ProcessingEvent.LLM_CACHE_MISS
FAILURES = "llm_provider_event_spool_failures_total"
UNREADABLE = "llm_provider_events_unreadable"


Opened = Callable[..., Harness]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spool is."""
    return tmp_path / "spool.db"


@pytest.fixture
def opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Make a harness on the spool; all of them are gone after the test. No stall of a busy machine ends a wait."""
    monkeypatch.setattr(spool, "STORE_TIMEOUT_S", 3600.0)
    harnesses: list[Harness] = []

    def new(**wishes: object) -> Harness:
        harnesses.append(Harness(spool_path=path, **wishes))  # type: ignore[arg-type]  # the wishes fit
        return harnesses[-1]

    yield new
    for harness in harnesses:
        died(harness)


def test_a_row_survives_the_process_at_once_and_waits_for_no_disk(path: Path) -> None:
    lock, rows = spool_file.opened(path)
    with lock, closing(rows):
        told = [rows.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert told == ["wal", 0]  # 0 is OFF: nothing syncs


def test_only_its_owner_may_read_what_it_holds(path: Path) -> None:
    usual = os.umask(0)
    try:
        lock, rows = spool_file.opened(path)
        with lock, closing(rows):
            modes = {one.name: oct(one.stat().st_mode & 0o777) for one in path.parent.iterdir()}
    finally:
        os.umask(usual)
    del modes[f"{path.name}.lock"]  # which is always empty
    assert modes == dict.fromkeys((path.name, f"{path.name}-wal", f"{path.name}-shm"), "0o600")


def test_where_it_cannot_be_made_private_sqlite_has_the_last_word(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "touch", Mock(side_effect=OSError))
    lock, rows = spool_file.opened(path)
    with lock, closing(rows):
        assert rows.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_name_that_means_something_to_sqlite_is_a_file_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events kept in memory would be told as kept, and be lost."""
    monkeypatch.chdir(tmp_path)
    lock, rows = spool_file.opened(Path(":memory:"))
    with lock, closing(rows):
        assert rows.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert (tmp_path / ":memory:").stat().st_size > 0


def spool_of(harness: Harness) -> Spool:
    assert harness.spool is not None
    return harness.spool


def kept_keys(harness: Harness) -> list[bytes]:
    """Of the events on the disk."""
    return [one.key for one in spool_of(harness).kept()]


def taken_keys(harness: Harness) -> list[bytes]:
    """Of the events that would be sent."""
    return [one.key for one in harness.queue.take(MISS, 1000)]


def died(harness: Harness) -> None:
    """It ends, and the next process may begin."""
    spool_of(harness).close()


@asynccontextmanager
async def writing(harness: Harness) -> AsyncIterator[None]:
    """The spool writes in the background."""
    writer = asyncio.create_task(spool_of(harness).run())
    try:
        yield
    finally:
        writer.cancel()
        await asyncio.wait([writer])


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let others go on until it holds."""
    while not condition():  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0)


@contextmanager
def refused(path: Path, what: str) -> Iterator[None]:
    """Until the block ends the disk refuses to INSERT, or to DELETE."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"CREATE TRIGGER refuse BEFORE {what} ON events BEGIN SELECT RAISE(ABORT, 'no'); END")
        yield
        other.execute("DROP TRIGGER refuse")


@contextmanager
def hanging(path: Path) -> Iterator[None]:
    """Until the block ends the disk answers nothing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")


def damage(path: Path) -> None:
    """As a bad disk does: the header stays, the pages after it do not."""
    pages = path.read_bytes()
    path.write_bytes(pages[:4096] + bytes(len(pages) - 4096))


def fault(harness: Harness) -> tuple[str | None, float | None]:
    return (
        harness.outbox.health().spool_fault,
        sample(harness.metrics, "llm_provider_degraded_mode", mode=DegradedMode.EVENTS_SPOOL_FAULT),
    )


def test_what_a_process_left_is_sent_by_the_next_one_in_order_and_unchanged(opened: Opened) -> None:
    first = opened()
    first.publish(*(miss(number) for number in range(5)))
    (delivered,) = first.queue.take(MISS, 1)
    first.queue.delivered([delivered])
    left = first.queue.take(MISS, 4)
    died(first)
    second = opened()
    taken = second.queue.take(MISS, 10)

    assert [one.encoded() for one in taken] == [one.encoded() for one in left]
    assert [one.headers() for one in taken] == [one.headers() for one in left]
    assert [one.key for one in taken] == keys([1, 2, 3, 4])
    assert second.counts()["restored"] == 4.0
    assert second.balances()


def test_an_event_keeps_its_age_over_a_restart(opened: Opened) -> None:
    first = opened(max_age_s=600.0)
    first.publish(miss(1))
    first.clock.advance(50.0)
    first.calendar.move(seconds=50)
    died(first)
    second = opened()
    second.calendar.move(seconds=500)
    (kept,) = spool_of(second).kept()

    assert kept.since_s == second.clock.now_s - 500.0


def test_an_event_from_before_the_clock_was_set_back_is_new_and_holds_up_no_expiry(opened: Opened) -> None:
    first = opened()
    first.publish(miss(1))
    died(first)
    second = opened()
    second.calendar.move(hours=-1)
    (kept,) = spool_of(second).kept()

    assert kept.since_s == second.clock.now_s


def test_what_expired_while_nobody_ran_is_deleted_at_once(opened: Opened) -> None:
    first = opened()
    first.publish(*(miss(number) for number in range(50)))
    died(first)
    second = opened()
    second.clock.advance(60.1)
    spool_of_second = spool_of(second)
    with patch.object(spool_of_second, "delete", wraps=spool_of_second.delete) as delete:
        second.queue.expire(60.0, lambda _: EventDropReason.EXPIRED)

    assert delete.call_count == 1
    assert second.balances()
    died(second)
    assert opened().counts()["restored"] == 0.0


def test_what_was_dropped_is_not_sent_after_all(opened: Opened) -> None:
    first = opened(max_messages=1)
    first.publish(miss(1), miss(2))
    died(first)

    assert taken_keys(opened()) == keys([2])


def test_what_is_pending_at_the_end_is_kept_and_not_lost(opened: Opened) -> None:
    harness = opened()
    harness.publish(miss(1))
    with capture_logs() as lines:
        harness.outbox.close()

    assert (harness.counts()["pending"], harness.counts()["lost"]) == (1.0, 0.0)
    assert lines == [{"event": "events_kept_in_spool", "count": 1, "log_level": "warning"}]


def test_what_the_disk_refused_is_lost_at_the_end_and_not_called_kept(opened: Opened) -> None:
    harness = opened()
    harness.publish(miss(1))
    died(harness)
    harness.publish(miss(2), miss(3))
    harness.outbox.close()

    assert (harness.counts()["pending"], harness.counts()["lost"]) == (1.0, 2.0)


async def test_who_waits_for_it_goes_on_once_all_that_was_published_is_on_the_disk(opened: Opened, path: Path) -> None:
    harness = opened()
    async with writing(harness):
        harness.publish(miss(1))
        await harness.outbox.stored()
        harness.publish(miss(2), miss(3))
        await harness.outbox.stored()
    with closing(sqlite3.connect(path)) as rows:
        assert rows.execute("SELECT key FROM events ORDER BY id").fetchall() == [(key,) for key in keys([1, 2, 3])]


async def test_who_waits_does_so_for_older_events_too_when_the_newest_is_delivered_meanwhile(
    opened: Opened, path: Path
) -> None:
    harness = opened()
    async with writing(harness):
        with hanging(path):
            harness.publish(miss(1))
            await settle()  # that one is being written
            harness.publish(miss(2), miss(3))
            waiting = await begun(harness.outbox.stored())
            *others, newest = harness.queue.take(MISS, 3)
            harness.queue.delivered([newest])
            harness.queue.give_back(MISS, others)
        await waiting
        assert spool_of(harness).unstored == 0


async def test_what_is_delivered_before_it_is_stored_is_never_written(opened: Opened) -> None:
    harness = opened()
    harness.publish(miss(1), miss(2))
    harness.queue.delivered(harness.queue.take(MISS, 1))
    async with writing(harness):
        await harness.outbox.stored()
    (message,) = harness.queue.take(MISS, 10)

    assert message.row == 1


async def test_the_disk_is_asked_once_for_each_thing_and_for_nothing_where_there_is_nothing(opened: Opened) -> None:
    harness = opened()
    with patch.object(DiskThread, "submit", autospec=True, side_effect=DiskThread.submit) as asked:
        async with writing(harness):
            await settle()
            harness.publish(miss(1))
            await harness.outbox.stored()
            await settle()
            assert asked.call_count == 1
            harness.queue.delivered(harness.queue.take(MISS, 1))
        spool_of(harness).close()
    *writes, _ = (call.args[1] for call in asked.call_args_list)  # the last one closes the database

    assert sum(1 in write.args[1] for write in writes) == 1  # row 1 was deleted


async def test_an_event_without_a_form_in_json_never_comes_to_the_disk(opened: Opened) -> None:
    """The whole transaction would fail, again and again."""
    harness = opened()
    async with writing(harness):
        with pytest.raises(TypeError):
            harness.publish(replace(miss(1), cache_key=object()))  # type: ignore[arg-type]  # that is the point
        harness.publish(miss(2))
        await harness.outbox.stored()

    assert kept_keys(harness) == keys([2])
    assert harness.queue.pending == 1


async def test_the_log_of_the_database_stays_short_however_many_events_pass(opened: Opened, path: Path) -> None:
    harness = opened()
    async with writing(harness):
        for number in range(500):
            harness.publish(miss(number))
            await harness.outbox.stored()
            harness.queue.delivered(harness.queue.take(MISS, 1))

    assert path.with_name("spool.db-wal").stat().st_size < 1_000_000


async def test_the_log_of_the_database_is_short_again_when_nobody_reads_it_any_more(opened: Opened, path: Path) -> None:
    harness = opened()
    log = path.with_name("spool.db-wal")

    async def pass_on(count: int) -> None:
        async with writing(harness):
            for number in range(count):
                harness.publish(miss(number))
                await harness.outbox.stored()
                harness.queue.delivered(harness.queue.take(MISS, 1))

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM events").fetchone()
        await pass_on(300)
        assert log.stat().st_size > 2 * LONGEST_LOG_BYTES
    await pass_on(2)

    assert log.stat().st_size <= LONGEST_LOG_BYTES


async def test_what_a_disk_refuses_waits_in_memory_and_is_stored_in_order_once_it_does_not(
    opened: Opened, path: Path
) -> None:
    harness = opened()
    async with writing(harness):
        with refused(path, "INSERT"), capture_logs() as lines:
            harness.publish(miss(1), miss(2))
            await harness.outbox.stored()
            assert fault(harness) == (FAILED_WRITES, 1.0)
            harness.publish(miss(3))
            await harness.outbox.stored()  # at once
            await turns_until(lambda: (sample(harness.metrics, FAILURES) or 0.0) >= 2.0)
        await turns_until(lambda: fault(harness) == (None, 0.0))
        harness.publish(miss(4))
        await harness.outbox.stored()

    assert [line["error"] for line in lines] == ["SQLITE_CONSTRAINT_TRIGGER"]
    assert harness.sleep.naps == [RETRY_S] * int(sample(harness.metrics, FAILURES) or 0)
    assert kept_keys(harness) == keys([1, 2, 3, 4])


async def test_what_the_disk_refused_to_delete_is_deleted_once_it_does_not(opened: Opened, path: Path) -> None:
    harness = opened()
    async with writing(harness):
        harness.publish(*(miss(number) for number in range(4)))
        await harness.outbox.stored()
        with refused(path, "DELETE"):
            for _ in range(2):
                harness.queue.delivered(harness.queue.take(MISS, 1))
                await turns_until(lambda: fault(harness) == (FAILED_WRITES, 1.0))
            harness.publish(miss(4))
            await turns_until(lambda: not spool_of(harness).unstored)
            assert kept_keys(harness) == keys([0, 1, 2, 3, 4])
        await turns_until(lambda: fault(harness) == (None, 0.0))

    assert kept_keys(harness) == keys([2, 3, 4])


async def test_a_disk_that_hangs_or_is_kept_locked_is_waited_for_once_and_used_again_when_it_goes_on(
    opened: Opened, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "STORE_TIMEOUT_S", 0.01)
    harness = opened()
    async with writing(harness):
        with hanging(path), capture_logs() as lines:
            harness.publish(miss(1), miss(2))
            await asyncio.gather(harness.outbox.stored(), harness.outbox.stored())  # which are told of one hang
            harness.publish(miss(3), miss(4))
            monkeypatch.setattr(spool, "STORE_TIMEOUT_S", 60.0)
            await harness.outbox.stored()  # at once
            assert fault(harness) == (FAILED_WRITES, 1.0)
            assert [(line["access"], line["error"]) for line in lines] == [("wait", "DiskHangsError")]
            assert sample(harness.metrics, FAILURES) == 1.0
            harness.queue.delivered(harness.queue.take(MISS, 4)[1:3])
        await turns_until(lambda: fault(harness) == (None, 0.0))
    died(harness)

    assert taken_keys(opened()) == keys([1, 4])


async def test_a_disk_that_hangs_is_no_fault_to_those_whose_events_are_delivered_meanwhile(
    opened: Opened, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "STORE_TIMEOUT_S", 0.01)
    harness = opened()
    async with writing(harness):
        with hanging(path):
            harness.publish(miss(1))
            waiting = asyncio.create_task(harness.outbox.stored())
            await asyncio.sleep(0)  # it waits, and its time cannot be over
            harness.queue.delivered(harness.queue.take(MISS, 1))
            await waiting
            assert fault(harness) == (None, 0.0)


@in_virtual_time
async def test_a_stall_of_our_own_is_no_fault_of_the_disk(opened: Opened) -> None:
    harness = opened()
    harness.publish(miss(1))
    waiting = asyncio.create_task(harness.outbox.stored())
    await asyncio.sleep(0)
    await arriving_during_a_stall(2 * spool.STORE_TIMEOUT_S)
    harness.queue.delivered(harness.queue.take(MISS, 1))
    await waiting
    assert fault(harness) == (None, 0.0)


async def test_a_writer_that_is_stopped_and_begun_anew_goes_on_with_what_is_under_way(
    opened: Opened, path: Path
) -> None:
    harness = opened()
    with hanging(path):
        harness.publish(miss(1))
        async with writing(harness):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        harness.publish(miss(2))
    async with writing(harness):
        await harness.outbox.stored()
    assert kept_keys(harness) == keys([1, 2])


async def test_they_are_written_also_while_the_sender_is_down(opened: Opened) -> None:
    harness = opened()
    supervisor = Supervisor(
        harness.outbox.tasks(), metrics=harness.metrics, clock=harness.clock, sleep=lambda _: asyncio.sleep(60.0)
    )
    with patch.object(harness.connection, "keep_open", side_effect=ValueError):
        supervisor.start()
        await settle()
        assert supervisor.down == {"event_sender"}
        harness.publish(miss(1))
        await harness.outbox.stored()
    await supervisor.stop()

    assert spool_of(harness).unstored == 0


@pytest.mark.parametrize("what", ["INSERT", "DELETE"])
async def test_what_the_disk_refused_is_done_at_the_end_if_it_can_be(opened: Opened, path: Path, what: str) -> None:
    harness = opened()
    async with writing(harness):
        harness.publish(miss(1))
        await harness.outbox.stored()
        with refused(path, what):
            harness.publish(miss(2))
            harness.queue.delivered(harness.queue.take(MISS, 1))
            await turns_until(lambda: fault(harness) == (FAILED_WRITES, 1.0))
    harness.outbox.close()

    assert (harness.counts()["pending"], harness.counts()["lost"]) == (1.0, 0.0)
    assert taken_keys(opened()) == keys([2])


def test_a_spool_whose_disk_hangs_at_the_end_is_left_to_nobody_else(
    opened: Opened, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "CLOSE_S", 0.01)
    harness = opened()
    with hanging(path):
        harness.publish(miss(1))
        harness.outbox.close()
        assert (harness.counts()["pending"], harness.counts()["lost"]) == (0.0, 1.0)
        with pytest.raises(ConfigurationError, match="another process uses it"):
            spool_file.check_spool(path)
    monkeypatch.setattr(spool, "CLOSE_S", 60.0)
    died(harness)
    spool_file.check_spool(path)


def test_an_event_of_an_unknown_type_stays_in_the_spool_and_the_others_are_sent(opened: Opened, path: Path) -> None:
    first = opened()
    first.publish(*(miss(number) for number in range(4)))
    died(first)
    with closing(sqlite3.connect(path)) as rows, rows:
        rows.execute("UPDATE events SET event = 'huleedu.of.tomorrow' WHERE id IN (1, 2)")
        rows.execute("UPDATE events SET value = x'7b22' WHERE id = 3")
    with capture_logs() as lines:
        second = opened()
    taken = second.queue.take(MISS, 10)

    assert [one.key for one in taken] == keys([3])
    assert (second.counts()["restored"], sample(second.metrics, UNREADABLE)) == (1.0, 3.0)
    assert lines == [
        {"event": "spooled_events_unreadable", "log_level": "error", "type": kind, "count": len(ids), "ids": ids}
        for kind, ids in (("huleedu.of.tomorrow", [1, 2]), (MISS.value, [3]))
    ]
    assert fault(second) == (UNREADABLE_EVENTS, 1.0)
    second.queue.delivered(taken)
    died(second)
    with closing(sqlite3.connect(path)) as rows:
        assert rows.execute("SELECT id FROM events").fetchall() == [(1,), (2,), (3,)]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE events SET key = 'text' WHERE id = 1",
        "UPDATE events SET traceparent = x'00' WHERE id = 1",
        "UPDATE events SET value = CAST(value AS TEXT) WHERE id = 1",
        "UPDATE events SET value = x'5b5d' WHERE id = 1",
        "UPDATE events SET value = x'7b7d' WHERE id = 1",
        """UPDATE events SET value = CAST(replace(CAST(value AS TEXT), '"data":', '"dates":') AS BLOB) WHERE id = 1""",
        "UPDATE events SET value = (SELECT value FROM events WHERE id = 2) WHERE id = 1",
        "UPDATE events SET event = 'llm_provider.cache.hit' WHERE id = 1",
    ],
)
def test_an_event_that_kafka_cannot_be_given_stays_in_the_spool(opened: Opened, path: Path, damage: str) -> None:
    first = opened()
    first.publish(miss(1), miss(2))
    died(first)
    with closing(sqlite3.connect(path)) as rows, rows:
        rows.execute(damage)
    second = opened()

    assert taken_keys(second) == keys([2])
    assert sample(second.metrics, UNREADABLE) == 1.0


def test_what_is_no_text_and_no_type_is_not_shown_in_the_log(opened: Opened, path: Path) -> None:
    first = opened()
    first.publish(miss(1), miss(2))
    died(first)
    with closing(sqlite3.connect(path)) as rows, rows:
        rows.execute("UPDATE events SET event = CAST(x'ff00' AS TEXT) WHERE id = 1")
        rows.execute("UPDATE events SET correlation_id = 'an essay' WHERE id = 2")
    with capture_logs() as lines:
        second = opened()

    assert [(line["type"], line["ids"]) for line in lines] == [(None, [1]), (MISS.value, [2])]
    assert second.queue.pending == 0


def test_a_damaged_database_is_set_aside_and_a_new_one_begun(opened: Opened, path: Path) -> None:
    for number in (1, 2):
        first = opened()
        first.publish(*(miss(number) for number in range(200)))
        died(first)
        damage(path)
        damaged = path.read_bytes()
        with capture_logs() as lines:
            spool_file.check_spool(path)
        second = opened()
        second.publish(miss(7))
        died(second)

        aside = path.with_name(f"spool.db.damaged-{number}")
        assert aside.read_bytes() == damaged
        assert lines == [{"event": "event_spool_damaged", "log_level": "error", "kept_as": aside.name}]
        assert second.counts()["restored"] == 0.0
        assert fault(second) == (DAMAGED_DATABASE, 1.0)
        third = opened()
        assert taken_keys(third) == keys([7])
        died(third)


def test_a_spool_whose_columns_are_others_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as rows, rows:
        rows.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, what TEXT)")
    with pytest.raises(ConfigurationError, match="EVENT_SPOOL_PATH: cannot be used as"):
        spool_file.check_spool(path)


def raising(error: Exception) -> NoReturn:
    raise error


def sqlite_says(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError()
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("name", ["SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "SQLITE_CANTOPEN", None])
async def test_a_disk_that_is_full_or_fails_at_the_start_stops_nobody(
    opened: Opened, path: Path, name: str | None, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some open no file either, and SQLite does not say why; name: None where it does not even come to SQLite."""
    refusal, os_open = OSError(number, "secret"), os.open
    new = path.with_name(f"{path.name}-shm")  # what is there already can still be opened
    first = opened()
    first.publish(miss(1))
    died(first)
    with monkeypatch.context() as patched, capture_logs() as lines:
        if name is None:
            patched.setattr(fcntl, "flock", Mock(side_effect=refusal))
        else:
            patched.setattr(spool_file, "_sound", Mock(side_effect=sqlite_says(name)))
            patched.setattr(os, "open", lambda file, *how: raising(refusal) if file == new else os_open(file, *how))
        spool_file.check_spool(path)
        second = opened()
    second.publish(miss(2))
    async with writing(second):
        await second.outbox.stored()

    told = name or errno.errorcode[number]
    assert {"event": "event_spool_not_opened", "log_level": "error", "error": told} in lines
    assert taken_keys(second) == keys([2])
    assert fault(second) == (FAILED_WRITES, 1.0)
    died(second)
    assert taken_keys(opened()) == keys([1])


async def test_a_disk_that_cannot_be_read_at_the_start_is_told_and_written_to_all_the_same(opened: Opened) -> None:
    first = opened()
    first.publish(miss(1))
    died(first)
    with patch.object(SpoolRows, "read", side_effect=sqlite_says("SQLITE_IOERR_READ")), capture_logs() as lines:
        second = opened()
    async with writing(second):
        second.publish(miss(2))
        await second.outbox.stored()
        assert spool_of(second).unstored == 0
    died(second)

    assert [(line["access"], line["error"]) for line in lines] == [("select", "SQLITE_IOERR_READ")]
    assert fault(second) == (FAILED_WRITES, 1.0)
    assert taken_keys(opened()) == keys([1, 2])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EISDIR])
def test_a_file_that_we_must_not_open_is_refused(path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_file, "_sound", Mock(side_effect=sqlite_says("SQLITE_CANTOPEN")))
    monkeypatch.setattr(os, "open", Mock(side_effect=OSError(number, "secret")))
    with pytest.raises(ConfigurationError, match="cannot be used as the spool's database"):
        spool_file.check_spool(path)


def test_two_processes_do_not_share_a_spool(opened: Opened, path: Path) -> None:
    spool_file.check_spool(path)
    harness = opened()
    with pytest.raises(ConfigurationError, match="EVENT_SPOOL_PATH: another process uses it"):
        spool_file.check_spool(path)
    died(harness)
    spool_file.check_spool(path)


def test_a_spool_is_the_same_one_by_whatever_link_it_is_reached(opened: Opened, path: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "links").mkdir()
    (link := folder / "events.db").symlink_to(path)
    harness = opened()
    with pytest.raises(ConfigurationError, match="EVENT_SPOOL_PATH: another process uses it"):
        spool_file.check_spool(link)
    harness.publish(*(miss(number) for number in range(200)))
    died(harness)
    damage(path)
    spool_file.check_spool(link)

    assert path.with_name("spool.db.damaged-1").exists()
    assert list(folder.iterdir()) == [link]
    by_link = Harness(spool_path=link)
    assert fault(by_link) == (DAMAGED_DATABASE, 1.0)
    died(by_link)


def test_a_path_that_cannot_be_used_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("no database at all, but long enough to be read as one" * 100)
    (endless := tmp_path / "endless").symlink_to(endless)
    monkeypatch.setenv("LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    for wrong in (tmp_path / "text", tmp_path / "nowhere" / "spool.db", tmp_path, Path("/"), endless):
        monkeypatch.setenv("LLM_PROVIDER_SERVICE_EVENT_SPOOL_PATH", str(wrong))
        with pytest.raises(ConfigurationError, match="EVENT_SPOOL_PATH: cannot be used as"):
            create_container(Settings.from_environment())


def test_without_a_spool_nothing_is_encoded_when_it_is_published() -> None:
    harness = Harness()
    harness.publish(miss(1))

    assert harness.queue.take(MISS, 1)[0].value is None
    assert message(miss(1)).value is None
