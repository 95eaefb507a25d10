"""Starts the service for a developer: the environment first, then .env, then the mock judge."""

import os
import sys
from pathlib import Path

from dotenv import dotenv_values

from config import PREFIX

ENV_FILE = Path(".env")


def main() -> None:
    """Become the service."""
    from_file = {name: value for name, value in dotenv_values(ENV_FILE).items() if value is not None}
    environ = {f"{PREFIX}USE_MOCK_LLM": "true", **from_file, **os.environ}
    os.execve(sys.executable, [sys.executable, "app.py"], environ)  # noqa: S606  our own interpreter and file


if __name__ == "__main__":
    main()
