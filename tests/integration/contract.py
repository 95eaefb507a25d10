"""Asks an application in this process, with every answer held to the document, and checks what all errors share."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from dishka import Provider
from quart import Response
from quart.typing import TestClientProtocol as Client

from config import Settings
from startup_setup import create_app
from tests.integration.described_client import hold_to_the_document
from tests.integration.pointed_service import Told
from tests.integration.service_process import COMPARISON, PREFIX, QUESTION

CANARY = "kanarienvogel"
ADMIN = "/api/v1/admin"
KEY = f"{CANARY}-of-the-administrator"
JSON = {"Content-Type": "application/json"}


def settings_from(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """Read the settings from these variables and no others."""
    for name in os.environ:
        if name.startswith(PREFIX) or name.endswith(("_API_KEY", "_API_KEY_FILE")):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    return Settings.from_environment()


def mocked(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    return settings_from(monkeypatch, **{"USE_MOCK_LLM": "true", "MOCK_ERROR_RATE": "0", **variables})


@asynccontextmanager
async def serving(settings: Settings, *overrides: Provider) -> AsyncIterator[Client]:
    async with hold_to_the_document(create_app(settings, *overrides)).test_app() as running:
        yield running.test_client()


def question(**changes: object) -> bytes:
    return orjson.dumps({**QUESTION, **changes})


async def compare(client: Client, headers: dict[str, str] | None = None, **changes: object) -> Response:
    return await client.post(COMPARISON, data=question(**changes), headers={**JSON, **(headers or {})})


async def send(client: Client, method: str, path: str) -> Response:
    response: Response = await getattr(client, method.lower())(path)
    return response


async def content(response: Response) -> Any:
    return orjson.loads(await response.get_data(as_text=False))


async def refusal(response: Response, status: int, error_type: str) -> dict[str, Any]:
    """Check what all errors have in common; the body."""
    return (await Told.of(response)).refusal(status, error_type)


def raw(**members: str) -> bytes:
    """The question with members whose values are written as they are."""
    extra = "".join(f', "{name}": {value}' for name, value in members.items())
    return orjson.dumps(QUESTION)[:-1] + extra.encode() + b"}"


def nested(depth: int) -> str:
    """So many objects within each other."""
    return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)
