"""The entry: `python app.py` serves; `app:app` is the application for another ASGI server."""

import signal
import sys

import uvicorn

from config import ConfigurationError, Settings
from startup_setup import create_app

EXIT_CONFIGURATION = 2


def read_settings() -> Settings:
    """The settings, or the end of the process with one clear message."""
    try:
        return Settings.from_environment()
    except ConfigurationError as error:
        sys.stderr.write(f"The configuration is wrong:\n{error}\n")
        sys.exit(EXIT_CONFIGURATION)


settings = read_settings()
app = create_app(settings)


def main() -> None:
    """Serve until a signal says stop."""
    # Uvicorn raises the signal again when it has stopped; without a handler the exit code would be 143.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        app,
        host=settings.service.host,
        port=settings.service.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
