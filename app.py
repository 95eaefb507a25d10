"""The entry point: `python app.py` serves; `app:app` is the application for another ASGI server."""

import os
import signal
import sys

# libuv uses at most half of its threads for name look-ups, and each new connection needs one: with the default of four,
# two hanging look-ups of Redis or Kafka would block every call to a provider.
os.environ.setdefault("UV_THREADPOOL_SIZE", "64")

# What is meant for other services in the same environment.
os.environ.pop("WEB_CONCURRENCY", None)  # Uvicorn fails at the start if it is no number
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # prometheus_client would keep every metric in files there
os.environ.pop("prometheus_multiproc_dir", None)  # likewise
os.environ.pop("SSLKEYLOGFILE", None)  # ssl would write the keys there by which recorded traffic can be read
os.environ["NETRC"] = os.devnull  # or aiohttp, where it honours proxies, would send the providers what .netrc holds

if __name__ == "__main__":
    # Before the slow imports: PID 1 of a container ignores signals without a handler. Nothing is open yet, and an
    # exception raised here could be swallowed inside an import.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))

import asyncio
import contextlib
import errno
import resource
import socket
from typing import NoReturn

import uvicorn

from api.server_protocol import ServerProtocol
from config import Settings
from environment import PREFIX, ConfigurationError
from implementations.background.garbage_collection import tune_garbage_collection
from implementations.observability.log_writer import LINES
from implementations.observability.logging_setup import log_what_python_reports
from startup_setup import SERVER_GRACE_S, create_app

EXIT_CONFIGURATION = 2
KEEP_ALIVE_S = 75  # longer than clients keep connections (aiohttp: 15 s), or they send into one that closes
RESERVED_FILES = 300
FEWEST_CONNECTIONS = 50
BLAMED_ON_PORT = {
    errno.EADDRINUSE: "already in use",
    errno.EACCES: "no permission to listen on it",
}


def refuse_to_start(error: ConfigurationError) -> NoReturn:
    """End the process with one clear message."""
    with contextlib.suppress(AttributeError):  # where the process started without stderr
        sys.stderr.write(f"The configuration is invalid:\n{error}\n")
    sys.exit(EXIT_CONFIGURATION)


def listeners(host: str, port: int) -> list[socket.socket]:
    """One socket per address of the host. Raises ConfigurationError, which names the offending variable.

    Addresses that this machine lacks are skipped: `localhost` also means ::1, but a container may have no IPv6.
    """
    found = []
    for family, address in _addresses(host, port):
        try:
            takes_both = family is socket.AF_INET6 and socket.has_dualstack_ipv6()  # at ::, which means any address
            found.append(socket.create_server(address, family=family, dualstack_ipv6=takes_both))
        except OSError as error:
            if error.errno in BLAMED_ON_PORT:
                raise ConfigurationError(f"{PREFIX}PORT: {BLAMED_ON_PORT[error.errno]}.") from None
    if not found:
        raise ConfigurationError(f"{PREFIX}HOST: is not an address of this machine.")
    return found


def most_connections() -> int | None:
    """The limit of open files, less a reserve for provider calls and the rest; None when there is no limit."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if allowed == resource.RLIM_INFINITY else max(allowed - RESERVED_FILES, FEWEST_CONNECTIONS)


def _addresses(host: str, port: int) -> dict[tuple[socket.AddressFamily, tuple[str | int | bytes, ...]], None]:
    """Without duplicates, which a hosts file may contain. An unknown or invalid host has none."""
    try:
        known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return {}
    return {(family, address): None for family, _, _, _, address in known}


try:
    settings = Settings.from_environment()
    app = create_app(settings)
except ConfigurationError as wrong:
    refuse_to_start(wrong)


async def start_look_up_threads() -> None:
    """Have libuv start its threads now: where one is refused it aborts the process, better here than at a call."""
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 0)  # asks nobody


def close_idle(server: uvicorn.Server) -> None:
    """Close the connections without a request; those with one close when it is answered."""
    for connection in tuple(server.server_state.connections):
        connection.shutdown()


def leave() -> NoReturn:
    """Exit without joining threads, which may hang."""
    LINES.finish()
    os._exit(0)


def main() -> None:
    """Serve until a signal stops the process. The port is bound before the start is announced."""
    try:
        sockets = listeners(settings.service.host, settings.service.port)
    except ConfigurationError as error:
        refuse_to_start(error)
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))  # a core dump would put the essays in memory on a disk
    app.before_serving(start_look_up_threads)
    app.before_serving(tune_garbage_collection)  # last: it freezes what the start has built
    LINES.start()
    log_what_python_reports()
    for stop in (signal.SIGTERM, signal.SIGINT):  # Uvicorn re-raises it once it has stopped
        signal.signal(stop, lambda *_: leave())
    config = uvicorn.Config(
        app,
        loop="implementations.background.event_loop:EventLoop",
        http=ServerProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # Uvicorn would trust any header sent from this machine
        limit_concurrency=most_connections(),
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SERVER_GRACE_S,
    )
    server = uvicorn.Server(config)
    app.close_idle = lambda: close_idle(server)
    try:
        server.run(sockets=sockets)
    finally:  # it exits when the start fails
        LINES.finish()


if __name__ == "__main__":
    main()
