"""The entry: `python app.py` serves; `app:app` is the application for another ASGI server."""

import os
import signal
import sys

if __name__ == "__main__":
    # Before all that takes time: the first process of a container does not hear what it has no handler for. Nothing is
    # open yet, and an exception would be lost where an import just runs a callback.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))

import contextlib
import errno
import gc
import resource
import socket
from typing import NoReturn

import uvicorn

from config import PREFIX, ConfigurationError, Settings
from implementations.observability.log_writer import LINES
from startup_setup import SERVER_GRACE_S, create_app

EXIT_CONFIGURATION = 2
RESERVED_FILES = 300
FEWEST_CONNECTIONS = 50
OBJECTS_PER_COLLECTION = 10_000
BLAMED_ON_PORT = {
    errno.EADDRINUSE: "something else listens on it",
    errno.EACCES: "this process may not listen on it",
}


def refuse_to_start(error: ConfigurationError) -> NoReturn:
    """End the process with one clear message."""
    with contextlib.suppress(AttributeError):  # where the process began without one
        sys.stderr.write(f"The configuration is wrong:\n{error}\n")
    sys.exit(EXIT_CONFIGURATION)


def listeners(host: str, port: int) -> list[socket.socket]:
    """One for each address of the host. Raises ConfigurationError, which names the variable that is to blame.

    An address that this machine lacks (`localhost` also means ::1, a container may have no IPv6) is left out.
    """
    found = []
    for family, address in _addresses(host, port):
        try:
            found.append(socket.create_server(address, family=family))
        except OSError as error:
            if error.errno in BLAMED_ON_PORT:
                raise ConfigurationError(f"{PREFIX}PORT: {BLAMED_ON_PORT[error.errno]}.") from None
    if not found:
        raise ConfigurationError(f"{PREFIX}HOST: is no address of this machine.")
    return found


def most_connections() -> int | None:
    """As many as files may be open, less those for calls to providers and the rest; None when there is no limit."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if allowed == resource.RLIM_INFINITY else max(allowed - RESERVED_FILES, FEWEST_CONNECTIONS)


def _addresses(host: str, port: int) -> dict[tuple[socket.AddressFamily, tuple[str | int | bytes, ...]], None]:
    """Without repetitions, which a file of hosts may hold. A host that is not known, or no name at all, has none."""
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


async def settle() -> None:
    """What is built by now stays for good, and what a request makes goes without the garbage collector.

    So it need not look at the one, and can look at the other seldom. A failure must be no cycle: it holds a question.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_PER_COLLECTION)


def leave() -> NoReturn:
    """Without waiting for threads, which may hang."""
    LINES.finish()
    os._exit(0)


def main() -> None:
    """Serve until a signal says stop. The address is taken before anything says that the service has started."""
    try:
        sockets = listeners(settings.service.host, settings.service.port)
    except ConfigurationError as error:
        refuse_to_start(error)
    app.before_serving(settle)
    LINES.start()
    for stop in (signal.SIGTERM, signal.SIGINT):  # Uvicorn raises it again when it has stopped
        signal.signal(stop, lambda *_: leave())
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # Uvicorn would believe any header that comes from this machine
        limit_concurrency=most_connections(),
        timeout_graceful_shutdown=SERVER_GRACE_S,
    )
    uvicorn.Server(config).run(sockets=sockets)
    LINES.finish()


if __name__ == "__main__":
    main()
