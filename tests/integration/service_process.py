"""Starts the service as a process of its own, asks it over real sockets and reads what it wrote."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parents[2]
PREFIX = "LLM_PROVIDER_SERVICE_"
COMPARISON = "/api/v1/comparison"
START_TIMEOUT_S = 60.0
HANG_S = 30.0  # nothing else takes so long, not even on a busy machine
POLL_S = 0.02
QUIET_LOOKS = 8  # not one long one: whoever writes gets his turn between two, also after a stall of the machine
QUESTION: Mapping[str, Any] = {
    "user_prompt": "Which essay argues better?",
    "essay_a": "Phones distract pupils, because every message is a temptation. Therefore a ban helps most classrooms.",
    "essay_b": "phone is good or bad it is what it is",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one HTTP request."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        """Read the body as JSON."""
        return orjson.loads(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceProcess:
    """A running service; out and err are the files that it writes to."""

    process: subprocess.Popen[bytes]
    port: int
    out: Path
    err: Path

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_S)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            return _answer(connection.getresponse())
        finally:
            connection.close()

    def compare(self, *, headers: Mapping[str, str] | None = None, **changes: object) -> Answer:
        """Ask for a verdict on the usual question with these changes."""
        body = orjson.dumps({**QUESTION, **changes})
        return self.ask(
            COMPARISON, method="POST", body=body, headers={"Content-Type": "application/json", **(headers or {})}
        )

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """Hold a plain connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=HANG_S) as plain:
            yield plain

    def in_flight(self) -> int:
        """Say how many verdicts are being bought."""
        return sum(known["in_flight"] for known in self.ask("/api/v1/providers").json()["providers"])

    def terminate(self) -> None:
        """Send what an orchestrator sends."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, *, within_s: float = HANG_S) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired."""
        return self.process.wait(timeout=within_s)

    def written(self) -> str:
        """Everything on stdout and stderr so far."""
        self.let_it_write()
        return self.out.read_text() + self.err.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Read stdout as one JSON object per line."""
        self.let_it_write()
        return [orjson.loads(line) for line in self.out.read_text().splitlines()]

    def let_it_write(self) -> None:
        """Lines of the log are written a moment later: wait until no more come, however often one looks."""
        size, quiet = -1, 0
        while quiet < QUIET_LOOKS:
            time.sleep(POLL_S)
            before, size = size, self.out.stat().st_size
            quiet = quiet + 1 if size == before else 0


def prefixed(**settings: str) -> dict[str, str]:
    """The settings as environment variables."""
    return {f"{PREFIX}{name}": value for name, value in settings.items()}


def mocked(**settings: str) -> dict[str, str]:
    """Variables under which the mock judges and never fails, with these settings beside."""
    return prefixed(**{"USE_MOCK_LLM": "true", "MOCK_ERROR_RATE": "0", **settings})


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Nothing of our own environment but the path to programs."""
    return {"PATH": os.environ["PATH"], **variables}


def wait_until(holds: Callable[[], bool], *, within_s: float = HANG_S) -> None:
    """Look again and again. Raises TimeoutError."""
    give_up_at_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > give_up_at_s:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(POLL_S)


def received(plain: socket.socket) -> Answer:
    """Read one HTTP answer from a plain connection."""
    response = http.client.HTTPResponse(plain)
    try:
        response.begin()
        return _answer(response)
    finally:
        response.close()


@contextmanager
def service(directory: Path, variables: Mapping[str, str], *, stdout: int | None = None) -> Iterator[ServiceProcess]:
    """Run `python app.py` until the block ends; directory takes its output, unless stdout goes elsewhere."""
    port = free_port()
    out, err = directory / f"out-{port}", directory / f"err-{port}"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env=environment({**prefixed(HOST="127.0.0.1", PORT=str(port)), **variables}),
            stdout=out_file if stdout is None else stdout,
            stderr=err_file,
        )
    running = ServiceProcess(process=process, port=port, out=out, err=err)
    try:
        wait_until(lambda: _is_alive(running), within_s=START_TIMEOUT_S)
        yield running
    finally:
        if process.poll() is None:
            running.let_it_write()
        process.kill()
        process.wait(timeout=HANG_S)


def _is_alive(running: ServiceProcess) -> bool:
    if running.process.poll() is not None:
        raise RuntimeError(f"the service ended at its start:\n{running.written()}")
    try:
        return running.ask("/livez").status == 200
    except OSError:
        return False


def _answer(response: http.client.HTTPResponse) -> Answer:
    text = response.read().decode()
    return Answer(
        status=response.status, headers={name.lower(): value for name, value in response.getheaders()}, text=text
    )


def free_port() -> int:
    """A port of this machine that the system gives nobody for some time, and on which a server can still listen.

    It waits there for stray packets of a connection that has ended (TIME_WAIT): bound first and let go, it would be
    given to the next process that asks for any.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as other:
            listener.accept()[0].close()  # who closes first is left waiting
            other.recv(1)
    return port


@contextmanager
def silent() -> Iterator[str]:
    """The address of somebody who takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def out_of_reach() -> Iterator[int]:
    """The port of somebody who lets nobody else connect, because his queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, timeout=5):
            yield address[1]
