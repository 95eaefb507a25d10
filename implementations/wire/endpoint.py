"""One provider's base URL and key: sends JSON, returns a JSON object, raises every failure as a ProviderError."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson
from pydantic import SecretStr

from api_models import JsonObject
from exceptions import ProviderError
from implementations.wire.connector import SUCCESSES
from implementations.wire.failures import failure_in_success, failure_of_answer
from implementations.wire.json_reading import read_json, read_object
from implementations.wire.transport import Transport, WireReply

T = TypeVar("T")

QUICK_BYTES = 64 * 1024
NO_HEADERS: Mapping[str, str] = {}

FailureReader = Callable[[JsonObject, float], ProviderError | None]  # of a 2xx answer, received at these epoch seconds


class Endpoint:
    """headers: sent with every call, including the key."""

    def __init__(self, transport: Transport, base_url: str, headers: Mapping[str, str]) -> None:
        self._transport = transport
        self._base_url = base_url
        self._headers = {"Accept": "application/json", "User-Agent": "llm-provider-service", **headers}

    async def post(
        self,
        path: str,
        payload: JsonObject,
        headers: Mapping[str, str] = NO_HEADERS,
        failure_in: FailureReader = failure_in_success,
    ) -> JsonObject:
        """Send the payload to a path below the base URL. Raises a ProviderError."""
        return await self._exchange(
            "POST", path, {"Content-Type": "application/json", **headers}, orjson.dumps(payload), failure_in
        )

    async def get(self, path: str, headers: Mapping[str, str] = NO_HEADERS) -> JsonObject:
        """GET a path below the base URL. Raises a ProviderError."""
        return await self._exchange("GET", path, headers, None, failure_in_success)

    async def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, failure_in: FailureReader
    ) -> JsonObject:
        reply = await self._transport.send(
            method, self._base_url + path, headers={**self._headers, **headers}, body=body
        )
        if reply.status not in SUCCESSES:
            raise failure_of_answer(reply.status, reply.headers, await _error_json(reply), now_s=reply.received_at_s)
        answer = await _parsed(read_object, reply.body)
        failure = failure_in(answer, reply.received_at_s)
        if failure is not None:
            raise failure
        return answer


def bearer(key: SecretStr | None) -> Mapping[str, str]:
    """The Authorization header for a key; empty without one."""
    return {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}


def own_header(name: str, key: SecretStr | None) -> Mapping[str, str]:
    """The vendor's own header for a key; empty without one."""
    return {} if key is None else {name: key.get_secret_value()}


async def _error_json(reply: WireReply) -> Any:
    """An error's body, None if it is not JSON (a proxy's HTML)."""
    try:
        return await _parsed(read_json, reply.body)
    except ProviderError:
        return None


async def _parsed(read: Callable[[bytes], T], body: bytes) -> T:
    """What it holds. A large one is parsed in a thread, so as not to block the event loop.

    Where no thread can be started it is parsed here all the same: it has been paid for.
    """
    if len(body) > QUICK_BYTES:
        with contextlib.suppress(RuntimeError):
            return await asyncio.to_thread(read, body)
    return read(body)
