"""Callers as the platform's: each under one correlation id, one question after the other, on a connection it keeps."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import aiohttp
import orjson

from tests.integration.service_process import COMPARISON, QUESTION

OK = 200
NO_ANSWER = 0
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question and what came of it. status: NO_ANSWER when the connection broke. at_s: monotonic, of the asking."""

    key: str
    number: int
    status: int
    at_s: float
    elapsed_s: float


class Callers:
    """asked: grows while they ask, in the order of the answers."""

    def __init__(self, count: int) -> None:
        self._keys = [str(uuid4()) for _ in range(count)]
        self.asked: list[Asked] = []

    @property
    def answered(self) -> list[Asked]:
        """With a verdict."""
        return [one for one in self.asked if one.status == OK]

    async def ask(self, port: int, numbers: Sequence[int], *, rate: float = float("inf")) -> None:
        """Question by question, shared out evenly; no faster than this rate, in questions a second."""
        began_s = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        connector = aiohttp.TCPConnector(limit=len(self._keys))
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

            async def one_caller(place: int) -> None:
                for index in range(place, len(numbers), len(self._keys)):
                    await asyncio.sleep(max(0.0, began_s + index / rate - time.monotonic()))
                    await self._ask_once(session, port, self._keys[place], numbers[index])

            await asyncio.gather(*(one_caller(place) for place in range(len(self._keys))))

    async def _ask_once(self, session: aiohttp.ClientSession, port: int, key: str, number: int) -> None:
        body = {**QUESTION, "correlation_id": key, "replicate": number, "metadata": {"number": number}}
        at_s = time.monotonic()
        try:
            async with session.post(
                f"http://127.0.0.1:{port}{COMPARISON}",
                data=orjson.dumps(body),
                headers={"Content-Type": "application/json"},
            ) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            status = NO_ANSWER
        self.asked.append(Asked(key=key, number=number, status=status, at_s=at_s, elapsed_s=time.monotonic() - at_s))
