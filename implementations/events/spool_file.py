"""The file of the spool: for one process at a time. A damaged one is kept under another name, and a new one begun."""

import contextlib
import errno
import fcntl
import os
import sqlite3
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO

import structlog

from environment import PREFIX, ConfigurationError

SELECT = "SELECT id, event, key, correlation_id, traceparent, published_at, value FROM events ORDER BY id"
TABLE = """CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, key BLOB NOT NULL, correlation_id TEXT NOT NULL,
    traceparent TEXT, published_at REAL NOT NULL, value BLOB NOT NULL)"""
LOG_PAGES = 100  # after which a write moves them into the database, which takes half a millisecond
LONGEST_LOG_BYTES = 1024**2  # to which it is cut once a long transaction that somebody read it in has ended
PREPARATION = (
    "PRAGMA synchronous=OFF",
    "PRAGMA journal_mode=WAL",
    f"PRAGMA wal_autocheckpoint={LOG_PAGES}",
    f"PRAGMA journal_size_limit={LONGEST_LOG_BYTES}",
    TABLE,
    f"{SELECT} LIMIT 0",  # fails for a table of another form
)
MAGIC = b"SQLite format 3\x00"
BLANK = bytes(len(MAGIC))  # where a power failure lost the first page
FILES = ("", "-wal", "-shm")
DISK_FAILS = ("SQLITE_FULL", "SQLITE_IOERR")
NO_FILE_OPENED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})  # by a disk that is full or fails

log = structlog.get_logger("events")


def check_spool(path: Path) -> None:
    """Raises ConfigurationError if the path cannot be used; called early, so that the process can exit cleanly."""
    lock, rows = opened(path)
    rows.close()
    lock.close()


def opened(path: Path) -> tuple[IO[str], sqlite3.Connection]:
    """The lock and the database, both for this process until they are closed. Raises ConfigurationError.

    A full disk, or one that fails when read or written, is no reason not to start: the database is then closed, and
    whatever is asked of it fails like any other write to such a disk. A place that is read-only is refused.
    """
    with contextlib.ExitStack() as stack:
        try:
            path = path.resolve()  # one lock for all links; and no name means something else to SQLite, as `:memory:`
            lock = stack.enter_context(path.with_name(f"{path.name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            rows = _prepared(path)
        except BlockingIOError:
            raise ConfigurationError(f"{PREFIX}EVENT_SPOOL_PATH: another process uses it.") from None
        except (OSError, RuntimeError, ValueError, sqlite3.Error) as error:  # links in a circle; a path without a name
            name = _fault_of_disk(error, path)
            if name is None:
                raise ConfigurationError(f"{PREFIX}EVENT_SPOOL_PATH: cannot be used as the spool's database.") from None
            log.error("event_spool_not_opened", error=name)  # noqa: TRY400  a traceback would add nothing
            stack.close()  # who uses nothing keeps nobody out
            lock = stack.enter_context(Path(os.devnull).open("w"))
            rows = sqlite3.connect(":memory:", check_same_thread=False)
            rows.close()
        stack.pop_all()
    return lock, rows


def _prepared(path: Path) -> sqlite3.Connection:
    """The database, or a new one if it is damaged: that is then renamed."""
    try:
        return _sound(path)
    except sqlite3.DatabaseError as error:
        # Errors of the disk and of permissions have classes of their own; a file of another kind is not ours to rename.
        if type(error) is not sqlite3.DatabaseError or not _is_database(path):
            raise
    kept = next(free for number in count(1) if not (free := aside(path, number)).exists())
    for end in FILES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(kept.with_name(kept.name + end))
    log.error("event_spool_damaged", kept_as=kept.name)
    return _sound(path)


def _sound(path: Path) -> sqlite3.Connection:
    """A connection to the database, ready for use. Raises sqlite3.Error, DatabaseError itself if it is damaged."""
    with contextlib.ExitStack() as stack:
        rows = stack.enter_context(contextlib.closing(_connected(path)))
        for statement in PREPARATION:
            rows.execute(statement)
        if rows.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("damaged")
        stack.pop_all()
    return rows


def _fault_of_disk(error: Exception, path: Path) -> str | None:
    """The error's name if the disk is full or fails. Why a file is not opened SQLite does not say: the system does."""
    if isinstance(error, OSError):
        return errno.errorcode[error.errno] if error.errno in NO_FILE_OPENED else None
    name = getattr(error, "sqlite_errorname", "")  # only what SQLite itself says has one
    if name.startswith("SQLITE_CANTOPEN"):
        try:
            for end in FILES:
                os.close(os.open(path.with_name(path.name + end), os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as reason:
            return name if reason.errno in NO_FILE_OPENED else None
    return name if name.startswith(DISK_FAILS) else None


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) in {MAGIC, BLANK}


def aside(path: Path, number: int) -> Path:
    """Where the damaged database of that number is kept; they count from 1."""
    database = path.resolve()
    return database.with_name(f"{database.name}.damaged-{number}")


def _connected(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, for one thread at a time. It waits five seconds for others' transactions.

    That is far longer than the disk's thread is waited for: a database that an operator keeps locked is a disk that
    hangs. A new database is for its owner only, as are the files that SQLite puts beside it: events name users.
    """
    with contextlib.suppress(OSError):  # SQLite will say what is wrong
        path.touch(mode=0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    return connection
