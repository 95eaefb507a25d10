"""Starts what is measured and what it needs, each as a process of its own, and reads what the kernel knows of them."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import on_core

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.005
MIB = 2**20
CPU_CLOCK = 2  # of a process, in nanoseconds: /proc/PID/stat has ticks of 10 ms, too coarse for spans below a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A process that answers HTTP. start_s: from its start to its first answer, in seconds."""

    process: subprocess.Popen[bytes]
    port: int
    start_s: float

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://{HOST}:{self.port}"

    def cpu_s(self) -> float:
        """Processor time so far, that of its children included, in seconds."""
        return sum(_cpu_s(pid) for pid in _family(self.process.pid))

    def rss_mib(self) -> float:
        """Resident memory, that of its children included, in MiB."""
        return sum(_rss_bytes(pid) for pid in _family(self.process.pid)) / MIB

    def pause(self) -> None:
        """Let it stand still, so that it takes nothing from another one."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> int:
        """Send what an orchestrator sends, and wait. Returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_TIMEOUT_S)

    def _signal(self, number: signal.Signals) -> None:
        for pid in _family(self.process.pid):
            os.kill(pid, number)


@contextmanager
def running(
    command: Sequence[str], *, core: int, port: int, ready: str, log: Path, env: Mapping[str, str]
) -> Iterator[Running]:
    """Run a server until the block ends. ready: the path that it answers with 200 when it has started."""
    began_s = time.monotonic()
    with log.open("ab") as out, on_core(core):
        started = subprocess.Popen(command, stdout=out, stderr=out, env=dict(env), cwd=ROOT)  # noqa: S603  our own
    with ended(started) as process:
        _wait_for(process, port, ready, log)
        yield Running(process=process, port=port, start_s=time.monotonic() - began_s)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Nothing is left running when the block is left."""
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=STOP_TIMEOUT_S)


def answers(port: int, wire: bytes) -> bool:
    """Whether this request gets a 200 within a second."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as plain:
            plain.sendall(wire)
            return plain.recv(12).endswith(b" 200")
    except OSError:
        return False


def _wait_for(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    give_up_s = time.monotonic() + START_TIMEOUT_S
    look = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    while not answers(port, look):
        if process.poll() is not None or time.monotonic() > give_up_s:
            raise SystemExit(f"{process.args!r} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(POLL_S)


def _family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(one for path in children for child in path.read_text().split() for one in _family(int(child)))]


def _cpu_s(pid: int) -> float:
    return time.clock_gettime(~pid << 3 | CPU_CLOCK)  # as clock_getcpuclockid(3) computes it, which Python lacks


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
