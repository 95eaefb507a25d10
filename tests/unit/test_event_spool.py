"""The spool: rows survive the process, and a disk that refuses stops nobody."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock, patch

import pytest
from structlog.testing import capture_logs

from api_models import DegradedMode, EventDropReason, ProcessingEvent
from config import ConfigurationError, Settings
from di import create_container
from implementations.events import disk_thread, spool_file
from implementations.events.spool import DAMAGED_DATABASE, FAILED_WRITES, UNREADABLE_EVENTS
from tests.fakes import sample
from tests.kafka_fakes import Harness, keys, message, miss

MISS = ProcessingEvent.LLM_CACHE_MISS
FAILURES = "llm_provider_event_spool_failures_total"
UNREADABLE = "llm_provider_events_unreadable"


Opened = Callable[..., Harness]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spool is."""
    return tmp_path / "spool.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Opened]:
    """Make a harness on the spool; all of them are gone after the test."""
    harnesses: list[Harness] = []

    def new(**wishes: float) -> Harness:
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


def died(harness: Harness) -> None:
    """As after a SIGKILL: no farewell, but the system takes the lock back."""
    assert harness.spool is not None
    harness.spool.close()


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
    died(first)
    second = opened()
    second.calendar.move(seconds=500)
    assert second.spool is not None
    (kept,) = second.spool.kept()

    assert kept.since_s == second.clock.now_s - 500.0


def test_what_expired_while_nobody_ran_is_deleted_at_once(opened: Opened) -> None:
    first = opened()
    first.publish(*(miss(number) for number in range(50)))
    died(first)
    second = opened()
    assert second.spool is not None
    second.clock.advance(60.1)
    with patch.object(second.spool, "delete", wraps=second.spool.delete) as delete:
        second.queue.expire(60.0, lambda _: EventDropReason.EXPIRED)

    assert delete.call_count == 1
    assert list(second.spool.kept()) == []
    assert second.balances()


def test_what_was_dropped_is_not_sent_after_all(opened: Opened) -> None:
    first = opened(max_messages=1)
    first.publish(miss(1), miss(2))
    died(first)

    assert [one.key for one in opened().queue.take(MISS, 10)] == keys([2])


def test_what_is_pending_at_the_end_is_kept_and_not_lost(opened: Opened) -> None:
    harness = opened()
    harness.publish(miss(1))
    harness.outbox.close()

    assert (harness.counts()["pending"], harness.counts()["lost"]) == (1.0, 0.0)


def test_what_the_disk_refused_is_lost_at_the_end_and_not_called_kept(opened: Opened) -> None:
    harness = opened()
    harness.publish(miss(1))
    died(harness)
    harness.publish(miss(2), miss(3))
    harness.outbox.close()

    assert (harness.counts()["pending"], harness.counts()["lost"]) == (1.0, 2.0)


def test_the_log_of_the_database_stays_short_however_many_events_pass(opened: Opened, path: Path) -> None:
    harness = opened()
    for number in range(500):
        harness.publish(miss(number))
        harness.queue.delivered(harness.queue.take(MISS, 1))

    assert path.with_name("spool.db-wal").stat().st_size < 1_000_000


def test_a_disk_that_refuses_leaves_the_event_in_memory_and_is_counted(opened: Opened) -> None:
    harness = opened()
    died(harness)
    harness.publish(miss(1), miss(2))

    assert harness.queue.pending == 2
    assert sample(harness.metrics, FAILURES) == 2.0


def test_a_disk_that_hangs_or_is_kept_locked_is_waited_for_once_and_used_again_when_it_goes_on(
    opened: Opened, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = opened()
    with closing(sqlite3.connect(path, isolation_level=None)) as other, capture_logs() as lines:
        other.execute("BEGIN IMMEDIATE")
        harness.publish(miss(1), miss(2))
        assert fault(harness) == (FAILED_WRITES, 1.0)
        assert [(line["access"], line["error"]) for line in lines] == [("insert", "DiskHangsError")]
        assert sample(harness.metrics, FAILURES) == 2.0
        other.execute("COMMIT")
    monkeypatch.setattr(disk_thread, "PATIENCE_S", 60.0)
    while harness.outbox.health().spool_fault is not None:  # the first event's row is still being written
        harness.publish(miss(3))
    harness.queue.delivered(harness.queue.take(MISS, harness.queue.pending))
    died(harness)

    assert opened().counts()["restored"] == 0.0


def test_a_transaction_that_fails_leaves_none_open(opened: Opened, path: Path) -> None:
    harness = opened()
    assert harness.spool is not None
    harness.publish(miss(1))
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("CREATE TRIGGER refuse BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'no'); END")
        harness.queue.delivered(harness.queue.take(MISS, 1))
        other.execute("DROP TRIGGER refuse")
    other.close()
    assert sample(harness.metrics, FAILURES) == 1.0
    harness.publish(miss(2))
    assert [one.key for one in harness.spool.kept()] == keys([1, 2])
    assert sample(harness.metrics, FAILURES) == 1.0


def test_what_the_disk_refused_to_delete_is_deleted_once_it_takes_others(opened: Opened, path: Path) -> None:
    harness = opened()
    harness.publish(*(miss(number) for number in range(4)))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER refuse BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'no'); END")
        for _ in range(2):
            harness.queue.delivered(harness.queue.take(MISS, 1))
        other.execute("DROP TRIGGER refuse")
    for _ in range(2):
        harness.queue.delivered(harness.queue.take(MISS, 1))
    died(harness)

    assert opened().counts()["restored"] == 0.0


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
    ],
)
def test_an_event_that_kafka_cannot_be_given_stays_in_the_spool(opened: Opened, path: Path, damage: str) -> None:
    first = opened()
    first.publish(miss(1), miss(2))
    died(first)
    with closing(sqlite3.connect(path)) as rows, rows:
        rows.execute(damage)
    second = opened()

    assert [one.key for one in second.queue.take(MISS, 10)] == keys([2])
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
        assert [one.key for one in third.queue.take(MISS, 300)] == keys([7])
        died(third)


def test_a_spool_whose_columns_are_others_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as rows, rows:
        rows.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, what TEXT)")
    with pytest.raises(ConfigurationError, match="EVENT_SPOOL_PATH: cannot be used as"):
        spool_file.check_spool(path)


def test_a_spool_that_cannot_be_written_is_a_degraded_mode_until_it_can(opened: Opened, path: Path) -> None:
    harness = opened()
    assert harness.spool is not None
    assert fault(harness) == (None, 0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER refuse BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END")
        with capture_logs() as lines:
            harness.publish(miss(1))
        assert fault(harness) == (FAILED_WRITES, 1.0)
        assert [line["error"] for line in lines] == ["SQLITE_CONSTRAINT_TRIGGER"]
        other.execute("DROP TRIGGER refuse")
    harness.publish(miss(2))
    assert fault(harness) == (None, 0.0)


@pytest.mark.parametrize("name", ["SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"])
def test_a_disk_that_is_full_at_the_start_stops_nobody(
    opened: Opened, path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened()
    first.publish(miss(1))
    died(first)
    full = sqlite3.OperationalError()
    full.sqlite_errorname = name
    with monkeypatch.context() as patched, capture_logs() as lines:
        patched.setattr(spool_file, "_sound", Mock(side_effect=full))
        spool_file.check_spool(path)
        second = opened()
    second.publish(miss(2))

    assert {"event": "event_spool_not_opened", "log_level": "error", "error": name} in lines
    assert [one.key for one in second.queue.take(MISS, 10)] == keys([2])
    assert fault(second) == (FAILED_WRITES, 1.0)
    died(second)
    assert [one.key for one in opened().queue.take(MISS, 10)] == keys([1])


def test_two_processes_do_not_share_a_spool(opened: Opened, path: Path) -> None:
    spool_file.check_spool(path)
    harness = opened()
    with pytest.raises(ConfigurationError, match="EVENT_SPOOL_PATH: another process uses it"):
        spool_file.check_spool(path)
    died(harness)
    spool_file.check_spool(path)


def test_a_path_that_cannot_be_used_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("no database at all, but long enough to be read as one" * 100)
    for wrong in (tmp_path / "text", tmp_path / "nowhere" / "spool.db", tmp_path, Path("/")):
        monkeypatch.setenv("LLM_PROVIDER_SERVICE_EVENT_SPOOL_PATH", str(wrong))
        with pytest.raises(ConfigurationError, match="EVENT_SPOOL_PATH: cannot be used as"):
            create_container(Settings.from_environment())


def test_without_a_spool_nothing_is_encoded_when_it_is_published() -> None:
    harness = Harness()
    harness.publish(miss(1))

    assert harness.queue.take(MISS, 1)[0].value is None
    assert message(miss(1)).value is None
