"""Starts the service for a developer: the environment first, then .env, then the mock judge."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from config import PREFIX

ENV_FILE = Path(".env")
DEFAULTS = {f"{PREFIX}USE_MOCK_LLM": "true"}


def main() -> None:
    """Become the service."""
    os.execve(sys.executable, [sys.executable, "app.py"], run_environment())  # noqa: S606  our own interpreter and file


def run_environment() -> dict[str, str]:
    """What a service started here finds; a blank variable hides nothing, because to the service it is absent."""
    return {**os.environ, **DEFAULTS, **_said(dotenv_values(ENV_FILE)), **_said(os.environ)}


def _said(layer: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in layer.items() if value and value.strip()}


if __name__ == "__main__":
    main()
