"""Configures structlog once for the whole process, including the server's own lines.

JSON outside development, one object per line. Our own lines bypass `logging` for speed, because each request writes
one; those of libraries go through it. The root logger's level applies to both, except to audit lines, because the level
is itself one of the audited settings. Lines hold names and numbers, never essays, prompts or keys: nothing here could
remove those, so nothing may log them; what looks like a key is masked nonetheless.
"""

import json
import logging
import re
import socket
import sys
import threading
import warnings
from functools import lru_cache
from typing import Any, TextIO, cast

import orjson
import structlog
from pydantic import JsonValue
from structlog.typing import EventDict, Processor, WrappedLogger

from implementations.observability.log_writer import LINES

MASK = "***"
TIMESTAMP = "%Y-%m-%dT%H:%M:%S.%fZ"  # "iso" would leave out the fraction of a whole second
SECRET_NAMES = re.compile(r"api_key|authorization|password|secret|token$", re.IGNORECASE)
SECRET_VALUES = re.compile(
    r"llmp_[\w-]{8,}|(?<![A-Za-z0-9])sk-[\w-]{8,}|sk-[\w-]{40,}|AIza[\w-]{8,}"  # a real key also after `%3D`
    r"|AQ\.[\w-]{40,}"  # Google's keys of 2026
    r"|(?<=Bearer )\S+|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
)
# Lowercase; a JSON line with a secret that matches SECRET_NAMES or SECRET_VALUES contains at least one of these.
SUSPICIOUS = (
    "api_key",
    "authorization",
    "password",
    "secret",
    'token"',
    "llmp_",
    "sk-",
    "aiza",
    "aq.",
    "bearer ",
    "://",
)
SEVERITIES = {name.lower(): number for name, number in logging.getLevelNamesMapping().items()}
END_OF_TASK = re.compile(r" (?:result|exception)=.*?( took [0-9.]+ seconds)?$", re.DOTALL)
SERVER_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "quart.app", "quart.serving", "asyncio")


def configure_logging(*, level: str, service: str, version: str, as_json: bool) -> None:
    """Send every line of this process to stdout, as JSON or in a human-readable form."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt=TIMESTAMP, utc=True, key="ts"),
        *([_named(service, version)] if as_json else []),
        _exception_without_text,
    ]
    renderers: list[Processor] = (
        [_json_line] if as_json else [mask_secrets, structlog.dev.ConsoleRenderer(colors=LINES.isatty())]
    )
    structlog.configure(
        processors=[_severe_enough, *shared, *renderers],
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", LINES)),
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(LINES)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _asyncio_in_one_line],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in SERVER_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    logging.getLogger("asyncio").addFilter(_is_no_late_look_up)
    logging.getLogger("uvicorn.access").disabled = True  # the service writes its own line for each request


def log_what_python_reports() -> None:
    """Log, without their text, what Python would print to stderr: warnings, and exceptions that nobody can catch.

    The latter are those of finalizers and threads. One that ends the process is still printed.
    """
    log = structlog.get_logger("python")

    def uncaught(report: Any) -> None:
        if report.exc_type is not SystemExit:  # by which a thread may end
            log.error("exception_uncaught", exc_info=report.exc_value)

    def warned(_text: object, category: type[Warning], file: str, number: int, *_: object) -> None:
        log.warning("python_warned", category=category.__name__, raised_at=f"{file}:{number}")

    sys.unraisablehook = threading.excepthook = uncaught
    warnings.showwarning = warned  # type: ignore[assignment]  # Python calls it by position


def _severe_enough(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Lines bound with audit=True ignore the level: administrators, and anyone who can write to Redis, can set it."""
    if SEVERITIES[method] < logging.root.level and not event.get("audit"):
        raise structlog.DropEvent
    return event


def _json_line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Mask only lines that may hold a secret: few do, and scanning the whole line is faster than each value."""
    line = _json(event)
    lowered = line.lower()
    for mark in SUSPICIOUS:
        if mark in lowered:
            return _json(mask_secrets(_logger, _method, event))
    return line


def _json(line: EventDict) -> str:
    """Encode with orjson, or with json for what orjson rejects: huge integers, lone surrogates."""
    try:
        return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        return json.dumps(line, default=repr)


def set_level(level: str) -> None:
    """Change the minimum level, effective immediately."""
    logging.getLogger().setLevel(level)


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask values that have a secret's name or look like one."""
    return {name: _masked_value(name, value) for name, value in event.items()}


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return SECRET_NAMES.search(name) is not None


def without_secrets(value: JsonValue) -> JsonValue:
    """The value, with whatever looks like a secret masked."""
    clean: JsonValue = _masked_value("", value)
    return clean


def _masked_value(name: str, value: Any) -> Any:
    if _is_secret(name):
        return MASK
    if isinstance(value, str):
        return SECRET_VALUES.sub(MASK, value)
    if isinstance(value, dict):
        return {key: _masked_value(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked_value("", item) for item in value]
    return value


def _named(service: str, version: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {"service": service, "version": version, **event}

    return add


def _exception_without_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep only an exception's type and where it was raised: its text may hold anything."""
    info = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else info if isinstance(info, BaseException) else sys.exc_info()[1]
    if info and error is not None:
        event["error_class"] = type(error).__name__
        event["raised_at"] = _place(error)
    return event


def _asyncio_in_one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep only asyncio's first line about an unretrieved exception: the next ones hold the exception's text.

    From its line about a slow task (in debug mode) the task's result or exception is left out.
    """
    if event["_record"].name == "asyncio":
        event["event"] = END_OF_TASK.sub(r"\1", str(event["event"])).partition("\n")[0]
    return event


def _is_no_late_look_up(record: logging.LogRecord) -> bool:
    """Whether it is not about a name whose look-up failed after its caller gave up, which uvloop takes for a defect."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, socket.gaierror) and record.getMessage().startswith("Future exception"))


def _place(error: BaseException) -> str | None:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
