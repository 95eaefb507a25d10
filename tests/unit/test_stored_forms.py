"""What outlives a version: the version before reads it during an upgrade, and again after a rollback.

Each form stands here as it is stored; that of a cached reply in `test_local_cache_and_codec.py`. Where one has to
change, the CHANGELOG tells operators what it costs them.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import orjson
from pydantic import JsonValue

from api_models import ForcedState, ProcessingEvent
from implementations.cache.entry_codec import decode, encode
from implementations.events import spool_file, spool_rows
from implementations.shared_state.envelope import SCHEMA, seal, unseal
from implementations.steering.orders import Order, order_of, stored_form
from implementations.steering.shared_values import EDITION, Edition
from tests.fakes import reply, request
from tests.kafka_fakes import Harness
from tests.steering_fakes import REQUEST_ID

OF_TOMORROW: dict[str, JsonValue] = {"of_tomorrow": [1]}

FINGERPRINT = "9fe4fd13f33681461bab8e50777e94997936eff4e5341b3b7aa1c5aa3bf33bc2"
ENVELOPE = (
    b'{"schema":3,"created":1000.5,"ttl":60.0,'
    b'"sha256":"71f3662e55cd7f21e45b9c476464e25507e44c6cb43d1273a7095fc29bb707f0","payload":"{}"}'
)
EDITION_OF_ORDERS = (
    b'{"version":3,"values":{"openai":{"state":"open","reason":"they bill twice","actor":"admin@10.0.0.7",'
    b'"at_s":1000.5,"for_s":600.0,"request_id":"99999999-2222-4333-8444-555555555555"}}}'
)
TABLE = """CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, key BLOB NOT NULL, correlation_id TEXT NOT NULL,
    traceparent TEXT, published_at REAL NOT NULL, value BLOB NOT NULL)"""
INSERT = "INSERT INTO events (event, key, correlation_id, traceparent, published_at, value) VALUES (?, ?, ?, ?, ?, ?)"
SELECT = "SELECT id, event, key, correlation_id, traceparent, published_at, value FROM events ORDER BY id"
CORRELATION_ID = "00000000-0000-0000-0000-000000000007"
VALUE = b'{"event_type":"llm_provider.cache_miss.v1","correlation_id":"%s","data":{}}' % CORRELATION_ID.encode()
ROW = "llm_provider.cache.miss", b"key", CORRELATION_ID, None, 1.8e9, VALUE


def test_a_question_has_the_fingerprint_that_it_always_had() -> None:
    """Under another one, every cached answer is paid for again."""
    assert request().fingerprint() == FINGERPRINT


def test_another_envelope_is_another_schema() -> None:
    """Under one number, replicas of two versions would remove each other's entries as corrupt."""
    written = seal("name", b"{}", created_s=1_000.5, ttl_s=60.0)

    assert (SCHEMA, written) == (3, ENVELOPE), "raise SCHEMA of envelope.py, and put number and form here"
    assert unseal("name", ENVELOPE) == (b"{}", 60.0)


def test_a_reply_with_fields_of_a_later_version_is_read_without_them() -> None:
    fields = orjson.loads(encode(reply()))
    for part in (fields, fields["verdict"], fields["purchase"], fields["purchase"]["usage"]):
        part.update(OF_TOMORROW)

    assert decode(orjson.dumps(fields)) == reply()


def test_operators_values_are_read_as_earlier_and_later_versions_write_them() -> None:
    order = Order(
        state=ForcedState.OPEN,
        reason="they bill twice",
        actor="admin@10.0.0.7",
        at_s=1000.5,
        for_s=600.0,
        request_id=REQUEST_ID,
    )
    edition = Edition(3, {"openai": stored_form(order)})
    later = orjson.dumps({**orjson.loads(EDITION_OF_ORDERS), **OF_TOMORROW})

    assert orjson.dumps(edition) == EDITION_OF_ORDERS
    assert EDITION.validate_json(later, strict=True) == edition
    assert order_of({**orjson.loads(EDITION_OF_ORDERS)["values"]["openai"], **OF_TOMORROW}) == order


def test_the_spool_of_an_earlier_version_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with closing(sqlite3.connect(path)) as rows, rows:
        rows.execute(TABLE)
        rows.execute(INSERT, ROW)
    harness = Harness(spool_path=path)
    (message,) = harness.queue.take(ProcessingEvent.LLM_CACHE_MISS, 10)

    assert (message.key, message.correlation_id, message.encoded()) == (b"key", UUID(CORRELATION_ID), VALUE)
    assert harness.spool is not None
    harness.spool.close()


def test_an_earlier_version_reads_and_writes_the_spool_of_this_one(tmp_path: Path) -> None:
    lock, rows = spool_file.opened(tmp_path / "spool.db")
    with lock, closing(rows):
        rows.execute(INSERT, ROW)
        assert rows.execute(SELECT).fetchall() == [(1, *ROW)]


def test_a_column_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with closing(sqlite3.connect(path)) as rows, rows:
        rows.execute(TABLE)
        rows.execute("ALTER TABLE events ADD COLUMN of_tomorrow INTEGER NOT NULL DEFAULT 7")
    lock, rows = spool_file.opened(path)
    with lock, closing(rows):
        rows.execute(spool_rows.INSERT, ROW)
        assert rows.execute(spool_file.SELECT).fetchall() == [(1, *ROW)]
