"""Every line of the process leaves in one shape, and an exception's own text never does."""

import asyncio
import datetime as dt
import json
import logging
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Self

import pytest
import structlog

from implementations.observability.logging_setup import SERVER_LOGGERS, configure_logging, log_what_python_reports

ESSAY = "the essay of a pupil"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    servers = [logging.getLogger(name) for name in SERVER_LOGGERS]
    states = [(list(item.handlers), item.level, item.propagate, item.disabled) for item in servers]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for item, (own_handlers, own_level, propagate, disabled) in zip(servers, states, strict=True):
        item.handlers[:] = own_handlers
        item.setLevel(own_level)
        item.propagate = propagate
        item.disabled = disabled
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def configure(level: str = "INFO", *, as_json: bool = True) -> None:
    configure_logging(level=level, service="judge", version="1.2.3", as_json=as_json)


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines on stdout, each of them one JSON object."""
    output = capsys.readouterr()
    assert output.err == ""
    lines: list[dict[str, Any]] = [json.loads(line) for line in output.out.splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return lines


def fail() -> None:
    raise ValueError(ESSAY)


def fail_twice() -> None:
    try:
        fail()
    except ValueError as cause:
        error = LookupError(ESSAY)
        error.add_note(ESSAY)
        raise error from cause


def test_a_line_of_structlog_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().info("request_served", status=200, note="two\nlines")
    (line,) = written(capsys)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "service": "judge",
        "version": "1.2.3",
        "level": "info",
        "event": "request_served",
        "status": 200,
        "note": "two\nlines",
    }


def test_a_line_of_the_standard_library_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger("some.library").warning("%s\ntries left: %d", "slow", 2)
    (line,) = written(capsys)
    assert line.pop("ts").endswith("Z")
    assert line == {"service": "judge", "version": "1.2.3", "level": "warning", "event": "slow\ntries left: 2"}


def test_a_line_of_a_whole_second_has_its_microseconds_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noon(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Self:
            return cls(2026, 11, 30, 12, tzinfo=tz)

    monkeypatch.setattr("structlog.processors.datetime", SimpleNamespace(datetime=Noon, timezone=dt.timezone))
    configure()
    structlog.get_logger().info("ours")
    logging.getLogger("some.library").info("theirs")
    assert [line["ts"] for line in written(capsys)] == ["2026-11-30T12:00:00.000000Z"] * 2


def test_what_the_request_bound_is_on_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.contextvars.bind_contextvars(correlation_id="c-1")
    structlog.get_logger().info("ours")
    logging.getLogger("some.library").info("theirs")
    assert [line["correlation_id"] for line in written(capsys)] == ["c-1", "c-1"]


def test_what_cannot_be_written_as_json_does_not_break_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().info("odd", value={1}, kind=ValueError)
    (line,) = written(capsys)
    assert line["event"] == "odd"


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("DEBUG", ["debug", "info", "warning", "error", "critical"]),
        ("INFO", ["info", "warning", "error", "critical"]),
        ("WARNING", ["warning", "error", "critical"]),
        ("ERROR", ["error", "critical"]),
        ("CRITICAL", ["critical"]),
    ],
)
def test_the_level_holds_for_both_kinds_of_lines(
    level: str, heard: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    configure(level)
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(structlog.get_logger(), name)("ours")
        getattr(logging.getLogger("some.library"), name)("theirs")
    told = [(line["level"], line["event"]) for line in written(capsys)]
    assert told == [(name, event) for name in heard for event in ("ours", "theirs")]


def test_configuring_twice_writes_a_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    configure()
    structlog.get_logger().info("ours")
    logging.getLogger("some.library").info("theirs")
    assert [line["event"] for line in written(capsys)] == ["ours", "theirs"]


def log_by_structlog_exc_info() -> None:
    try:
        fail()
    except ValueError:
        structlog.get_logger().error("it_failed", exc_info=True)


def log_by_structlog_exception() -> None:
    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("it_failed")


def log_by_structlog_later() -> None:
    caught: ValueError | None = None
    try:
        fail()
    except ValueError as error:
        caught = error
    structlog.get_logger().error("it_failed", exc_info=caught)


def log_by_the_standard_library() -> None:
    try:
        fail()
    except ValueError:
        logging.getLogger("some.library").exception("it_failed")


def log_by_the_standard_library_chained() -> None:
    try:
        fail_twice()
    except LookupError:
        logging.getLogger("some.library").exception("it_failed", stack_info=True)


WAYS = [
    (log_by_structlog_exc_info, "ValueError"),
    (log_by_structlog_exception, "ValueError"),
    (log_by_structlog_later, "ValueError"),
    (log_by_the_standard_library, "ValueError"),
    (log_by_the_standard_library_chained, "LookupError"),
]


@pytest.mark.parametrize(("log", "error_class"), WAYS)
def test_an_exception_is_told_by_class_and_place_and_never_by_its_text(
    log: Callable[[], None], error_class: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    log()
    (line,) = written(capsys)
    place, _, number = line["raised_at"].rpartition(":")
    assert (line["event"], line["level"], line["error_class"]) == ("it_failed", "error", error_class)
    assert place == fail.__code__.co_filename
    assert number.isdigit()
    assert ESSAY not in json.dumps(line)


@pytest.mark.parametrize(("log", "error_class"), WAYS)
def test_an_exception_s_text_is_not_shown_to_people_either(
    log: Callable[[], None], error_class: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(as_json=False)
    log()
    output = capsys.readouterr()
    assert f"error_class={error_class}" in output.out
    assert ESSAY not in output.out + output.err


def test_the_place_is_where_the_exception_was_raised(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    log_by_the_standard_library()
    (line,) = written(capsys)
    assert line["raised_at"] == f"{fail.__code__.co_filename}:{fail.__code__.co_firstlineno + 1}"


def test_an_exception_that_was_never_raised_has_no_place(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().error("it_failed", exc_info=ValueError(ESSAY))
    (line,) = written(capsys)
    assert (line["error_class"], line["raised_at"]) == ("ValueError", None)


def test_without_an_exception_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().error("ours", exc_info=True)
    logging.getLogger("some.library").error("theirs", exc_info=True)  # noqa: LOG014
    try:
        fail()
    except ValueError:
        structlog.get_logger().error("plain")
    assert [set(line) & {"error_class", "raised_at", "exc_info"} for line in written(capsys)] == [set(), set(), set()]


def fail_in_a_finalizer() -> None:
    type("Freed", (), {"__del__": lambda _: fail()})()


def fail_in_a_thread() -> None:
    thread = threading.Thread(target=fail, name=ESSAY)
    thread.start()
    thread.join()


@pytest.fixture
def _python_reports_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((sys, "unraisablehook"), (threading, "excepthook"), (warnings, "showwarning")):
        monkeypatch.setattr(module, name, getattr(module, name))  # so that it is put back
    configure()
    log_what_python_reports()


@pytest.mark.usefixtures("_python_reports_to_the_log")
@pytest.mark.parametrize("report", [fail_in_a_finalizer, fail_in_a_thread])
def test_an_exception_that_nobody_can_catch_has_a_line_without_its_text(
    report: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    report()
    (line,) = written(capsys)
    assert (line["event"], line["level"], line["error_class"]) == ("exception_uncaught", "error", "ValueError")
    assert line["raised_at"].startswith(fail.__code__.co_filename)
    assert ESSAY not in json.dumps(line)


@pytest.mark.usefixtures("_python_reports_to_the_log")
def test_a_thread_may_end_by_leaving(capsys: pytest.CaptureFixture[str]) -> None:
    threading.excepthook(threading.ExceptHookArgs((SystemExit, SystemExit(ESSAY), None, None)))
    assert written(capsys) == []


@pytest.mark.usefixtures("_python_reports_to_the_log")
def test_a_warning_is_told_by_class_and_place_and_never_by_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    warnings.showwarning(ResourceWarning(ESSAY), ResourceWarning, "file.py", 7, None, ESSAY)
    (line,) = written(capsys)
    assert (line["event"], line["category"], line["raised_at"]) == ("python_warned", "ResourceWarning", "file.py:7")
    assert ESSAY not in json.dumps(line)


def test_a_failed_task_s_own_text_is_not_in_the_line_of_the_event_loop(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail_later() -> None:
        fail()

    async def lose_a_task() -> None:
        task = asyncio.create_task(fail_later())
        await asyncio.wait([task])
        facts = {"message": "lost", "exception": task.exception(), "task": task}
        asyncio.get_running_loop().call_exception_handler(facts)

    configure()
    asyncio.run(lose_a_task())
    (line,) = written(capsys)
    assert (line["event"], line["error_class"]) == ("lost", "ValueError")
    assert ESSAY not in json.dumps(line)


def test_how_a_slow_task_ended_is_not_in_the_line_of_the_event_loop(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail_later() -> None:
        fail()

    async def answer() -> str:
        return ESSAY

    async def be_slow() -> None:
        tasks = [asyncio.create_task(fail_later()), asyncio.create_task(answer())]
        await asyncio.wait(tasks)
        for task in tasks:
            logging.getLogger("asyncio").warning("Executing %s took %.3f seconds", task, 0.2)
        assert tasks[0].exception()

    configure()
    asyncio.run(be_slow())
    for line in written(capsys):
        assert line["event"].startswith("Executing <Task finished name='Task-")
        assert line["event"].endswith("> took 0.200 seconds")
        assert ESSAY not in json.dumps(line)


def test_a_look_up_that_fails_after_its_caller_gave_up_is_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def lose_futures() -> None:
        for error in (socket.gaierror(socket.EAI_AGAIN, "no answer"), ValueError(ESSAY)):
            asyncio.get_running_loop().create_future().set_exception(error)

    configure()
    asyncio.run(lose_futures())
    assert [line["error_class"] for line in written(capsys)] == ["ValueError"]


def test_a_secret_is_masked_in_both_kinds_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().info("ours", api_key="hunter2", nested={"note": ["sk-12345678"]})
    logging.getLogger("some.library").info("refused: %s", "sk-12345678")
    output = json.dumps(written(capsys))
    assert "hunter2" not in output
    assert "sk-12345678" not in output


def test_development_writes_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure(as_json=False)
    structlog.get_logger().info("request_served", status=200)
    logging.getLogger("some.library").warning("slow")
    ours, theirs = capsys.readouterr().out.splitlines()
    assert "request_served" in ours
    assert "status=200" in ours
    assert "slow" in theirs
    assert not ours.startswith("{")
    assert "\x1b" not in ours + theirs
    assert "1.2.3" not in ours + theirs


@pytest.mark.parametrize("name", [name for name in SERVER_LOGGERS if name != "uvicorn.access"])
def test_the_server_s_lines_take_the_same_way(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    server = logging.getLogger(name)
    server.addHandler(logging.StreamHandler())
    server.propagate = False
    server.setLevel(logging.CRITICAL)
    configure()
    server.info("started")
    (line,) = written(capsys)
    assert (line["event"], line["service"]) == ("started", "judge")


def test_the_server_writes_no_access_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("DEBUG")
    logging.getLogger("uvicorn.access").critical("GET /")
    assert written(capsys) == []


def test_what_the_fast_writer_refuses_is_written_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().info("odd", huge=1 << 80, lone="\ud800", keys={1: "one"})
    (line,) = written(capsys)
    assert (line["huge"], line["lone"], line["keys"]) == (1 << 80, "\ud800", {"1": "one"})


def test_the_record_of_an_administrator_is_written_whatever_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure("CRITICAL")
    structlog.get_logger("admin", audit=True).info("admin_changed", field="log_level")
    structlog.get_logger("admin").warning("something_else")
    assert [line["event"] for line in written(capsys)] == ["admin_changed"]
