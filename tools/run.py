"""Starts the service for development: the environment takes precedence over .env, and that over the mock judge."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from environment import PREFIX

ENV_FILE = Path(".env")
DEFAULTS = {f"{PREFIX}USE_MOCK_LLM": "true"}


def main() -> None:
    """Replace this process with the service."""
    argparse.ArgumentParser(prog="python -m tools.run", description=__doc__).parse_args()
    os.execve(sys.executable, [sys.executable, "app.py"], run_environment())  # noqa: S606  our own interpreter and file


def run_environment() -> dict[str, str]:
    """The environment for a service started here. Ends the process if .env cannot be read."""
    return dict(os.environ) | {name: value for layer in layers().values() for name, value in layer.items()}


def layers() -> Mapping[str, Mapping[str, str]]:
    """Who sets which variables, each overriding those before; blank ones override nothing, as they count as absent.

    Ends the process if .env cannot be read.
    """
    try:
        written = dotenv_values(ENV_FILE)
    except (OSError, UnicodeError):
        sys.exit(f"{ENV_FILE} cannot be read as UTF-8 text.")
    return {"make run": DEFAULTS, str(ENV_FILE): _said(written), "the environment": _said(os.environ)}


def _said(layer: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in layer.items() if value and value.strip()}


if __name__ == "__main__":
    main()
