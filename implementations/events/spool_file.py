"""The spool's file: locked for one process, created if missing, and set aside if it is damaged."""

import contextlib
import fcntl
import sqlite3
from functools import partial
from pathlib import Path
from typing import IO

import structlog

from config import PREFIX, ConfigurationError

TABLE = """CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, key BLOB NOT NULL, correlation_id TEXT NOT NULL,
    traceparent TEXT, published_at REAL NOT NULL, value BLOB NOT NULL)"""
PREPARATION = ("PRAGMA synchronous=NORMAL", "PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0", TABLE)
BUSY_S = 0.2
SUFFIXES = ("", "-wal", "-shm")
PRIMARY_CODE = 0xFF  # of SQLite's error codes; the other bits give details
BLANK = bytes(16)  # in place of a database's first bytes, where a power failure lost the first page

log = structlog.get_logger("events")


class DamagedError(sqlite3.DatabaseError):
    """SQLite's own check found damage."""


def check_spool(path: Path) -> None:
    """Raises ConfigurationError if the path cannot be used; called early, so that the process can exit cleanly."""
    lock, rows = open_spool(path)
    rows.close()
    lock.close()


def open_spool(path: Path) -> tuple[IO[str], sqlite3.Connection]:
    """The file that locks the spool, and the database. Raises ConfigurationError."""
    with contextlib.ExitStack() as opened:
        try:
            lock = opened.enter_context(path.with_name(f"{path.name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            rows = opened.enter_context(contextlib.closing(_undamaged(path)))
        except BlockingIOError:
            raise ConfigurationError(f"{PREFIX}EVENT_SPOOL_PATH: another process uses it.") from None
        except (OSError, sqlite3.Error):
            raise ConfigurationError(f"{PREFIX}EVENT_SPOOL_PATH: is not a database file that can be written.") from None
        opened.pop_all()
    return lock, rows


def _undamaged(path: Path) -> sqlite3.Connection:
    """The database, or a new one if it is damaged: its files are then renamed, for whoever wants to look."""
    try:
        return _prepared(path)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error, path):
            raise
    aside = f"{path.name}.damaged-{path.stat().st_mtime_ns}"
    for suffix in SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(path.with_name(aside + suffix))
    log.error("event_spool_damaged", set_aside_as=aside)
    return _prepared(path)


def _prepared(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.DatabaseError, a DamagedError where the pages contradict each other."""
    rows = connect(path)
    try:
        for statement in PREPARATION:
            rows.execute(statement)
        _check(rows)
    except BaseException:
        rows.close()
        raise
    return rows


def _check(rows: sqlite3.Connection) -> None:
    if rows.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise DamagedError


def _is_damage(error: sqlite3.DatabaseError, path: Path) -> bool:
    """Whether it was a database; a file of another kind is not ours to rename."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY_CODE
    if code == sqlite3.SQLITE_NOTADB:
        with path.open("rb") as file:
            return file.read(len(BLANK)) == BLANK
    return isinstance(error, DamagedError) or code == sqlite3.SQLITE_CORRUPT


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, with a short busy timeout for the only other one, the checkpoint's."""
    rows = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
    rows.text_factory = partial(str, encoding="utf-8", errors="replace")  # one damaged text does not hide the others
    return rows
