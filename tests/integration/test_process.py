"""The service as a process: it stops in order, refuses wrong settings, writes clean logs and keeps its secrets."""

import asyncio
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from config import MIB
from tests.integration.dialects import ANTHROPIC, OPENAI, Dialect
from tests.integration.linux import needs_linux
from tests.integration.service_process import (
    COMPARISON,
    PREFIX,
    QUESTION,
    ROOT,
    Answer,
    ServiceProcess,
    environment,
    free_port,
    mocked,
    prefixed,
    received,
    service,
    wait_until,
)
from tests.integration.stand_in import answer, held, standing_in

CANARY = "kanarienvogel"
NOBODY = 65534
UVICORN_KEEPS_S = 5  # by default
SOON_S = 15.0  # on a busy machine; what a test forbids would take longer
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST_HEAD = f"POST {COMPARISON} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Callers that wait beside the test."""
    with ThreadPoolExecutor() as pool:
        yield pool


def asked_beside(threads: ThreadPoolExecutor, running: ServiceProcess) -> "Future[Answer]":
    """Start a comparison in another thread and wait until it is being bought."""
    answer = threads.submit(running.compare)
    wait_until(lambda: running.in_flight() == 1)
    return answer


@asynccontextmanager
async def held_up(tmp_path: Path, **settings: str) -> AsyncIterator[tuple[ServiceProcess, asyncio.Event]]:
    """A service whose provider answers once the test lets it."""
    slow, release = held(answer(OPENAI.good()))
    async with standing_in(slow) as provider:
        with service(tmp_path, prefixed(**OPENAI.variables(provider.url), **settings)) as running:
            yield running, release


# --- Stopping ---------------------------------------------------------------------------------------------------------


async def test_a_request_under_way_is_answered_before_the_service_stops(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    async with held_up(tmp_path) as (running, release):
        asked = asked_beside(threads, running)
        running.terminate()
        wait_until(lambda: running.ask("/readyz").status == 503)
        health = running.ask("/healthz")
        refused = running.compare(essay_b="Another essay.")
        live = running.ask("/livez")
        release.set()
        assert (await asyncio.wrap_future(asked)).status == 200
        assert running.exit_code(within_s=SOON_S) == 0
    assert live.status == 200
    assert health.status == 503
    assert health.json()["status"] == "unhealthy"
    assert refused.status == 503
    assert refused.json()["error_type"] == "SERVICE_UNAVAILABLE"
    assert refused.headers["retry-after"] == str(refused.json()["retry_after"])
    assert refused.headers["x-correlation-id"] == refused.json()["correlation_id"]


async def test_a_provider_s_test_under_way_is_answered_before_the_service_stops(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    async with held_up(tmp_path) as (running, release):
        asked = threads.submit(running.ask, "/api/v1/providers/openai/test?deep=true", method="POST")
        wait_until(lambda: running.in_flight() == 1)
        running.terminate()
        wait_until(lambda: running.ask("/readyz").status == 503)
        refused = running.ask("/api/v1/providers/openai/test", method="POST")
        release.set()
        told = await asyncio.wrap_future(asked)
        assert running.exit_code(within_s=SOON_S) == 0
    assert told.status == 200
    assert told.json()["success"] is True
    assert refused.status == 503
    assert refused.json()["error_type"] == "SERVICE_UNAVAILABLE"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_service_stops_quickly(tmp_path: Path, number: signal.Signals) -> None:
    with service(tmp_path, mocked()) as running:
        running.process.send_signal(number)
        assert running.exit_code(within_s=SOON_S) == 0
        assert "Traceback" not in running.written()
        assert "stopping_at_once" not in running.written()


def test_the_end_is_announced_for_the_drain_delay_in_which_callers_are_still_served(tmp_path: Path) -> None:
    with service(tmp_path, mocked(DRAIN_DELAY_S="60")) as running, running.connected() as idle:
        idle.sendall(LIVEZ)
        received(idle)
        running.terminate()
        wait_until(lambda: running.ask("/readyz").status == 503)
        told = running.compare()
        assert (told.status, told.headers["connection"]) == (200, "close")
        idle.sendall(LIVEZ)
        assert received(idle).headers["connection"] == "close"


async def test_idle_connections_close_when_comparisons_are_refused_though_one_is_under_way(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    """Where nothing but the network is in between, a kept connection would lead here until the drain ends."""
    async with held_up(tmp_path) as (running, release):
        asked = asked_beside(threads, running)
        with running.connected() as idle:
            idle.sendall(LIVEZ)
            received(idle)
            running.terminate()
            assert idle.recv(1) == b""
        refused = running.compare(essay_b="Another essay.")
        release.set()
        assert (await asyncio.wrap_future(asked)).status == 200
    assert refused.status == 503


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heard_before_everything_is_imported(number: signal.Signals) -> None:
    slowly = """
import runpy
import sys
import time

class Slow:
    def find_spec(name, *_):
        if name == "uvicorn":
            print("importing", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow)
runpy.run_path("app.py", run_name="__main__")
"""
    command, env = [sys.executable, "-c", slowly], environment(mocked())
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"importing\n"
            process.send_signal(number)
            assert process.wait(timeout=SOON_S) == 0
        finally:
            process.kill()


def test_a_second_signal_ends_the_service_at_once(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    with service(tmp_path, mocked(MOCK_LATENCY_MS="20000")) as running:
        answer = asked_beside(threads, running)
        running.terminate()
        wait_until(lambda: running.ask("/readyz").status == 503)
        running.terminate()
        assert running.exit_code(within_s=SOON_S) == 0
        assert answer.exception(timeout=SOON_S) is not None or answer.result().status == 503
        assert running.written().count("stopping_at_once") == 1
        assert "[error" not in running.written()


def test_a_request_that_outlives_the_grace_is_told_that_the_service_stops(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    with service(tmp_path, mocked(MOCK_LATENCY_MS="20000", DRAIN_GRACE_S="0.3")) as running:
        answer = asked_beside(threads, running)
        running.terminate()
        told = answer.result(timeout=SOON_S)
        assert running.exit_code(within_s=SOON_S) == 0
    assert told.status == 503
    assert told.json()["error_type"] == "SERVICE_UNAVAILABLE"
    assert told.headers["content-type"] == "application/json"
    assert told.headers["retry-after"] == str(told.json()["retry_after"])


# --- Wrong settings ---------------------------------------------------------------------------------------------------


def refused_start(variables: Mapping[str, str], *program: str) -> subprocess.CompletedProcess[str]:
    """Start a service that must end by itself. program: what Python runs instead of the usual file."""
    return subprocess.run(
        [sys.executable, *(program or ["app.py"])],
        cwd=ROOT,
        env=environment(variables),
        capture_output=True,
        timeout=30,
        check=False,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("PORT", f"80{CANARY}", ""),
        ("LLM_REQUEST_TIMEOUT", "-7654.321", ""),
        ("PROVIDER_PRIORITY_ORDER", f'["{CANARY}"', ""),
        ("USE_MOCK_LLMS", CANARY, f"{PREFIX}USE_MOCK_LLM?"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_message(name: str, value: str, hint: str) -> None:
    ended = refused_start(prefixed(**{name: value}))
    assert ended.returncode == 2
    assert ended.stderr.count(f"{PREFIX}{name}:") == 1
    assert ended.stderr.strip().count("\n") == 1
    assert hint in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not any(secret in ended.stdout + ended.stderr for secret in (CANARY, "7654"))


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", f"::1%{CANARY}", f"{CANARY}..x"])
def test_a_host_that_is_no_address_of_this_machine_stops_the_start(host: str) -> None:
    ended = refused_start(mocked(HOST=host))
    assert ended.returncode == 2
    assert ended.stderr == f"The configuration is invalid:\n{PREFIX}HOST: is not an address of this machine.\n"
    assert "service_started" not in ended.stdout


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_that_is_taken_stops_the_start(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = refused_start(mocked(HOST=host, PORT=str(taken.getsockname()[1])))
    assert ended.returncode == 2
    assert ended.stderr == f"The configuration is invalid:\n{PREFIX}PORT: already in use.\n"
    assert "service_started" not in ended.stdout


def test_a_start_that_fails_writes_why_before_it_ends() -> None:
    """Lucky lines are written without being waited for."""
    failing = """
import sys

import app

finish = app.LINES.finish

def waited_for() -> None:
    sys.stderr.write("waited for")
    finish()

@app.app.before_serving
async def fails() -> None:
    raise LookupError

app.LINES.finish = waited_for
app.main()
"""
    ended = refused_start(mocked(HOST="127.0.0.1", PORT=str(free_port())), "-c", failing)
    assert (ended.returncode, ended.stderr) == (3, "waited for")
    assert "LookupError" in ended.stdout
    assert "Application startup failed" in ended.stdout


def test_it_runs_on_the_loop_that_tries_each_address_of_a_name() -> None:
    telling = """
import asyncio
import sys

import app

@app.app.before_serving
async def tells() -> None:
    sys.stderr.write(type(asyncio.get_running_loop()).__module__)
    raise LookupError

app.main()
"""
    ended = refused_start(mocked(HOST="127.0.0.1", PORT=str(free_port())), "-c", telling)
    assert ended.stderr == "implementations.background.event_loop"


def test_what_python_itself_reports_goes_to_the_log_without_its_text() -> None:
    reporting = f"""
import warnings

import app

class Freed:
    def __del__(self) -> None:
        raise ValueError("{CANARY}")

@app.app.before_serving
async def reports() -> None:
    warnings.warn("{CANARY}")
    Freed()
    raise LookupError

app.main()
"""
    ended = refused_start(mocked(HOST="127.0.0.1", PORT=str(free_port())), "-c", reporting)
    assert ended.stderr == ""
    assert "python_warned" in ended.stdout
    assert "exception_uncaught" in ended.stdout
    assert CANARY not in ended.stdout


def test_a_signal_after_the_last_work_takes_no_line_of_the_log() -> None:
    ending = """
import signal

import app

@app.app.before_serving
async def ends() -> None:
    signal.raise_signal(signal.SIGTERM)

@app.app.after_serving
async def ends_again() -> None:
    signal.raise_signal(signal.SIGTERM)

app.main()
"""
    ended = refused_start(mocked(HOST="127.0.0.1", PORT=str(free_port()), DRAIN_DELAY_S="0"), "-c", ending)
    assert ended.returncode == 0
    assert "service_stopped" in ended.stdout


def test_a_host_is_given_by_name_as_well(tmp_path: Path) -> None:
    with service(tmp_path, mocked(HOST="localhost", ENVIRONMENT="production")) as running:
        assert running.compare().status == 200
        (started,) = [line for line in running.lines() if line["event"] == "service_started"]
    assert started["ask"] == f"POST http://localhost:{running.port}{COMPARISON}"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_any_address_of_ipv6_is_also_any_of_ipv4(tmp_path: Path) -> None:
    """`localhost`, which the start line names, is one of IPv4; the caller is known by it."""
    with service(tmp_path, mocked(HOST="::", ADMIN_API_KEY=2 * CANARY, ADMIN_ALLOWED_IPS="127.0.0.1")) as running:
        admin = {"Authorization": f"Bearer {2 * CANARY}"}
        assert running.ask("/api/v1/admin/settings", headers=admin).status == 200


@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir", "SSLKEYLOGFILE"])
def test_what_libraries_would_read_from_the_environment_of_other_services_is_ignored(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    with service(tmp_path, {**mocked(), "WEB_CONCURRENCY": "", name: str(folder)}) as running:
        assert running.compare().status == 200
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("dialect", [ANTHROPIC, OPENAI], ids=lambda dialect: dialect.name)
async def test_no_provider_is_sent_what_netrc_holds(dialect: Dialect, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login somebody password secret")
    async with standing_in(answer(dialect.good())) as provider:
        variables = prefixed(**dialect.variables(provider.url), OUTBOUND_PROXY_FROM_ENVIRONMENT="true")
        with service(tmp_path, {**variables, "HOME": str(tmp_path), "NETRC": str(netrc)}) as running:
            assert (await asyncio.to_thread(running.compare)).status == 200
    (sent,) = provider.requests
    assert sent.headers.get("authorization") == dict([dialect.key]).get("authorization")


# --- Logs and secrets -------------------------------------------------------------------------------------------------


def test_production_writes_one_json_object_a_line(tmp_path: Path) -> None:
    wanted = str(uuid4())
    with service(tmp_path, mocked(ENVIRONMENT="production")) as running:
        good = running.compare(correlation_id=wanted)
        bad = running.compare(essay_a="")
        lost = running.ask("/nowhere")
        with running.connected() as plain:
            plain.sendall(b"this is not HTTP\r\n\r\n")
            plain.recv(1024)
        running.terminate()
        assert running.exit_code(within_s=SOON_S) == 0
        lines = running.lines()
        assert running.err.read_text() == ""
    assert all(isinstance(line, dict) for line in lines)
    texts = [line["event"] for line in lines]
    assert any("Started server process" in text for text in texts)
    assert any("Invalid HTTP request" in text for text in texts)
    assert "service_started" in texts
    assert "service_stopped" in texts
    finished = {line["correlation_id"]: line for line in lines if line["event"] == "request_finished"}
    assert good.headers["x-correlation-id"] == wanted
    assert finished[wanted]["status"] == 200
    assert finished[bad.headers["x-correlation-id"]]["status"] == 400
    assert finished[lost.headers["x-correlation-id"]]["status"] == 404
    assert len(finished) == 3


def test_the_line_of_a_failure_says_what_was_tried(tmp_path: Path) -> None:
    with service(tmp_path, mocked(ENVIRONMENT="production", MOCK_ERROR_RATE="1")) as running:
        failed = running.compare()
        wait_until(lambda: any(line.get("route") == COMPARISON for line in running.lines()))
        (line,) = (line for line in running.lines() if line.get("route") == COMPARISON)
    assert (failed.status, line["status"]) == (503, 503)
    assert line["attempts"] == len(line["failed_attempts"]) > 1
    assert {tried.partition(" ")[0] for tried in line["failed_attempts"]} == {"mock:"}


@needs_linux
def test_a_crash_leaves_no_image_of_the_memory_behind(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))  # as Docker does
    try:
        with service(tmp_path, mocked()) as running:
            assert resource.prlimit(running.process.pid, resource.RLIMIT_CORE) == (0, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


# --- Comparisons over real connections --------------------------------------------------------------------------------


async def test_what_a_caller_who_left_has_bought_serves_the_next_one(tmp_path: Path) -> None:
    async with held_up(tmp_path, ENVIRONMENT="production") as (running, release):
        body = orjson.dumps(QUESTION)
        with running.connected() as plain:
            plain.sendall(f"{POST_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_until(lambda: running.in_flight() == 1)
        wait_until(lambda: any(line.get("status") == 499 for line in running.lines()))
        release.set()
        next_one = await asyncio.to_thread(running.compare)
        later = running.compare()
        metrics = running.ask("/metrics").text
    assert next_one.status == 200
    assert next_one.headers["x-cache"] in {"HIT", "COALESCED"}
    assert next_one.json()["cost_estimate"] == 0
    assert later.headers["x-cache"] == "HIT"
    assert re.search(r'^llm_provider_client_disconnects_total\{phase="answering"\} 1\.0$', metrics, re.MULTILINE)
    assert re.search(r'^llm_provider_http_requests_total\{[^}]*status_code="499"\} 1\.0$', metrics, re.MULTILINE)
    assert re.search(
        r'^llm_provider_upstream_attempts_total\{[^}]*outcome="success"[^}]*\} 1\.0$', metrics, re.MULTILINE
    )


def test_a_caller_who_leaves_while_sending_is_counted(tmp_path: Path) -> None:
    with service(tmp_path, mocked(ENVIRONMENT="production")) as running:
        with running.connected() as plain:
            plain.sendall(f"{POST_HEAD}Content-Length: 1000\r\n\r\n{{".encode())
        wait_until(lambda: any(line.get("status") == 499 for line in running.lines()))
        assert running.compare(essay_a="").status == 400
        metrics = running.ask("/metrics").text
    assert re.search(r'^llm_provider_client_disconnects_total\{phase="reading"\} 1\.0$', metrics, re.MULTILINE)


async def test_who_closes_their_half_of_a_connection_has_left(tmp_path: Path) -> None:
    """What closes the whole of it looks the same until an answer is sent, and nobody must pay for that one."""
    body = orjson.dumps(QUESTION)
    async with held_up(tmp_path, ENVIRONMENT="production") as (running, _):
        with running.connected() as plain:
            plain.sendall(f"{POST_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_until(lambda: running.in_flight() == 1)
            plain.shutdown(socket.SHUT_WR)
            assert plain.recv(1) == b""
        wait_until(lambda: any(line.get("status") == 499 for line in running.lines()))


def test_a_pipelined_request_knows_nothing_of_the_one_before_it(tmp_path: Path) -> None:
    body = orjson.dumps(QUESTION)
    trace = "a" * 32
    traced = f"{POST_HEAD}traceparent: 00-{trace}-{'b' * 16}-01\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    plain_one = f"{POST_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with service(tmp_path, mocked(ENVIRONMENT="production")) as running:
        with running.connected() as plain:
            plain.sendall(traced + plain_one)
            wait_until(lambda: running.written().count("request_finished") == 2)
        first, second = (line for line in running.lines() if line["event"] == "request_finished")
    assert (first["status"], second["status"]) == (200, 200)
    assert (first["trace_id"], second.get("trace_id")) == (trace, None)
    assert first["correlation_id"] != second["correlation_id"]


def test_a_body_that_nobody_reads_does_not_spoil_the_connection(tmp_path: Path) -> None:
    size = 300_000
    head = f"POST {COMPARISON} HTTP/1.1\r\nHost: judge\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
    with service(tmp_path, mocked()) as running, running.connected() as plain:
        plain.sendall(head.encode() + bytes(size))
        refused = received(plain)
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: judge\r\n\r\n")
        live = received(plain)
    assert (refused.status, live.status) == (415, 200)


async def test_identical_questions_at_once_are_bought_once(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    async with held_up(tmp_path) as (running, release):
        first = asked_beside(threads, running)
        second = threads.submit(running.compare)
        wait_until(lambda: "\nllm_provider_in_flight_requests 2.0\n" in running.ask("/metrics").text)
        release.set()
        answers = [await asyncio.wrap_future(one) for one in (first, second)]
    assert [answer.headers["x-cache"] for answer in answers] == ["MISS", "COALESCED"]
    assert [answer.json()["provenance"]["coalesced"] for answer in answers] == [False, True]
    assert answers[1].json()["cost_estimate"] == 0
    assert "upstream;dur=0.000" in answers[1].headers["server-timing"]
    assert answers[0].json()["token_usage"] == answers[1].json()["token_usage"]


def chunked(body: bytes) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


def test_a_chunked_body_is_read(tmp_path: Path) -> None:
    with service(tmp_path, mocked()) as running, running.connected() as plain:
        body = orjson.dumps(QUESTION)
        plain.sendall(f"{POST_HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        plain.sendall(chunked(body[:40]) + chunked(body[40:]) + chunked(b""))
        assert received(plain).status == 200


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_body_over_the_limit_is_refused_however_it_is_framed(tmp_path: Path, framing: str) -> None:
    with service(tmp_path, mocked(MAX_REQUEST_BYTES="2048")) as running, running.connected() as plain:
        body = orjson.dumps({**QUESTION, "essay_a": "x" * 3000})
        if framing == "chunked":
            plain.sendall(f"{POST_HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
            plain.sendall(chunked(body))
        else:
            plain.sendall(f"{POST_HEAD}Content-Length: {len(body)}\r\n\r\n".encode())
        answer = received(plain)
        assert running.compare().status == 200
    assert answer.status == 413
    assert answer.json()["error_type"] == "VALIDATION_ERROR"
    assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"]


def test_a_body_over_the_limit_is_refused_to_a_caller_who_sends_it_all_before_he_reads(tmp_path: Path) -> None:
    with service(tmp_path, mocked()) as running:
        for _ in range(5):
            with running.connected() as plain:
                head = f"{POST_HEAD}Connection: close\r\nContent-Length: {8 * MIB}\r\n\r\n"
                plain.sendall(head.encode() + b"x" * (8 * MIB))
                assert received(plain).status == 413


def test_a_body_that_arrives_too_slowly_is_refused(tmp_path: Path) -> None:
    with service(tmp_path, mocked(BODY_TIMEOUT_S="0.5")) as running, running.connected() as plain:
        began_s = time.monotonic()
        plain.sendall(f"{POST_HEAD}Content-Length: 1000\r\n\r\n{{".encode())
        answer = received(plain)
        assert 0.4 < time.monotonic() - began_s < 10  # and not 15, which is usual
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert answer.json()["error_type"] == "TIMEOUT"
    assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"]


def test_the_time_in_which_a_body_arrives_is_the_request_s_own(tmp_path: Path) -> None:
    body, wish = orjson.dumps(QUESTION), "X-Request-Timeout-Ms: 2000\r\n"
    with service(tmp_path, mocked(MOCK_LATENCY_MS="500")) as running:
        for waits_s, status in ((0.0, 200), (1.6, 504), (2.2, 504)):
            with running.connected() as plain:
                plain.sendall(
                    f"{POST_HEAD}{wish}Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                )
                plain.sendall(body[:40])
                time.sleep(waits_s)
                plain.sendall(body[40:])
                answer = received(plain)
            assert answer.status == status, waits_s


def test_an_idle_connection_is_kept_longer_than_by_the_server_s_default(tmp_path: Path) -> None:
    with service(tmp_path, mocked()) as running, running.connected() as plain:
        for idle_s in (0.0, UVICORN_KEEPS_S + 0.5):
            time.sleep(idle_s)
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert received(plain).status == 200


def test_no_answer_names_the_software_of_the_server(tmp_path: Path) -> None:
    with service(tmp_path, mocked()) as running, running.connected() as plain:
        answers = [running.ask("/livez"), running.ask("/nowhere")]
        plain.sendall(b"no http\r\n\r\n")
        answers.append(received(plain))
    assert [answer.status for answer in answers] == [200, 404, 400]
    assert [answer.headers for answer in answers if "server" in answer.headers] == []


@pytest.mark.parametrize(("path", "status"), [(COMPARISON, 405), ("/nowhere", 404)])
def test_a_websocket_handshake_gets_an_http_error(tmp_path: Path, path: str, status: int) -> None:
    handshake = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with service(tmp_path, mocked()) as running:
        with running.connected() as plain:
            plain.sendall(handshake.encode())
            answer = received(plain)
        assert running.compare().status == 200
        written = running.written()
    assert [text for text in ("Traceback", "WebSocket", "upgrade") if text in written] == []
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"]


@needs_linux
def test_the_threads_for_look_ups_are_there_before_the_first_call(tmp_path: Path) -> None:
    with service(tmp_path, mocked()) as running:
        threads = list(Path(f"/proc/{running.process.pid}/task").iterdir())
    assert len(threads) > 60
