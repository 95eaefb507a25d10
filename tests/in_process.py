"""The whole service without any socket: requests come in as ASGI messages, a provider's answers are given."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any, Protocol

import orjson
import pytest

from config import Settings
from implementations.wire.transport import Transport, WireReply
from startup_setup import create_app
from tests.in_place_of import in_place_of
from tests.instant_time import InstantTime
from tests.integration.dialects import Dialect
from tests.integration.service_process import COMPARISON, prefixed

EXAMPLE = Path(__file__).parents[1] / "examples" / "comparison.json"


def settings_of(**variables: str) -> Settings:
    """Read the settings from these variables, which are named without our prefix."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in prefixed(**variables).items():
            environment.setenv(name, value)
        return Settings.from_environment()


class Ask(Protocol):
    """Sends a comparison and returns the status, None when there was no answer.

    leaves_after: the caller is gone after so many turns of the event loop.
    """

    async def __call__(self, body: bytes, *, leaves_after: int | None = None) -> int | None:
        """Ask."""


class TheseAnswers(Transport):
    """Never goes out."""

    def __init__(self, status: int, bodies: Sequence[bytes], delay_s: float) -> None:
        self._status = status
        self._bodies = cycle(bodies)
        self._delay_s = delay_s

    async def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None) -> WireReply:
        """Let the others run meanwhile, as a real exchange would."""
        await asyncio.sleep(self._delay_s)
        return WireReply(status=self._status, headers={}, body=next(self._bodies), received_at_s=0.0)

    async def close(self) -> None:
        """Nothing is open."""


@asynccontextmanager
async def in_process(
    dialect: Dialect,
    *,
    status: int = 200,
    answers: Sequence[bytes] = (),
    delay_s: float = 0.0,
    url: str | None = None,
    **settings: str,
) -> AsyncIterator[Ask]:
    """Yields what sends a comparison. The dialect's provider is the only one.

    status and answers: what it says in turn, good verdicts unless told otherwise; delay_s: after how long. url: where
    it is really looked for instead.
    """
    only = TheseAnswers(status, answers or [orjson.dumps(dialect.good())], delay_s)
    variables = {**dialect.variables(url or "http://provider"), "ENVIRONMENT": "production", **settings}
    instead = (InstantTime(),) if url else (InstantTime(), in_place_of(Transport, only))
    app = create_app(settings_of(**variables), *instead)
    async with app.test_app():

        async def ask(body: bytes, *, leaves_after: int | None = None) -> int | None:
            messages = asyncio.Queue[dict[str, Any]]()
            messages.put_nowait({"type": "http.request", "body": body, "more_body": False})
            statuses: list[int] = []

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            async def leave(turns: int) -> None:
                for _ in range(turns):
                    await asyncio.sleep(0)
                messages.put_nowait({"type": "http.disconnect"})

            leaving = None if leaves_after is None else asyncio.create_task(leave(leaves_after))
            await app(_scope(body), messages.get, send)  # type: ignore[arg-type]  # the messages are plain dictionaries
            if leaving is not None:
                await leaving
            return next(iter(statuses), None)

        yield ask


def questions(dialect: Dialect, *, is_new: bool) -> Callable[[], bytes]:
    """Makes bodies of the example: one and the same, or each with an essay that nobody has seen."""
    example = orjson.loads(EXAMPLE.read_bytes()) | {"llm_config_overrides": {"provider_override": dialect.name}}
    numbers = count(1_000_000) if is_new else None

    def body() -> bytes:
        number = 0 if numbers is None else next(numbers)
        return orjson.dumps(example | {"essay_b": f"{example['essay_b']} {number}"})

    return body


def _scope(body: bytes) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": COMPARISON,
        "raw_path": COMPARISON.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }
