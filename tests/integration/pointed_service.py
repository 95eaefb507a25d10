"""The service in this process, pointed at stand-ins over real sockets, and what must hold of everything it answers."""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import orjson
import pytest
from dishka import Provider
from quart import Response
from quart.typing import TestClientProtocol as Client

from api_models import JsonObject
from startup_setup import create_app
from tests.fakes import Clock
from tests.in_process import settings_of
from tests.instant_time import InstantTime
from tests.integration.described_client import hold_to_the_document, lower_case
from tests.integration.dialects import CANARIES, DIALECTS, QUESTION, Dialect
from tests.integration.service_process import COMPARISON, Answer
from tests.integration.stand_in import Act, StandIn, standing_in

ERROR_KEYS = {"error", "error_type", "details", "correlation_id", "retry_after", "provider", "trace_id"}

every_provider = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)

TIMED_OUT = re.compile(r'^llm_provider_upstream_attempts_total\{.*outcome="timeout".*\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told(Answer):
    """What the service answered; header names in lower case."""

    def refusal(self, status: int, error_type: str) -> JsonObject:
        """The body, after a look at what all refusals have in common: the form, and no word of anybody else."""
        assert self.status == status, self.text
        self.holds_nothing_private()
        assert self.headers["content-type"] == "application/json"
        body: JsonObject = self.json()
        assert set(body) == ERROR_KEYS
        assert body["error_type"] == error_type
        assert all(isinstance(body[name], str) and body[name] for name in ("error", "details"))
        assert self.headers["x-correlation-id"] == body["correlation_id"] == str(UUID(body["correlation_id"]))
        assert self.headers.get("retry-after") == (None if body["retry_after"] is None else str(body["retry_after"]))
        assert ("www-authenticate" in self.headers) is (status == 401)
        return body

    def holds_nothing_private(self) -> None:
        """No key, no essay and nothing that an upstream failure said."""
        everything = f"{self.text} {self.headers}".lower()
        assert not [canary for canary in CANARIES if canary in everything]

    @classmethod
    async def of(cls, response: Response) -> "Told":
        """Read an answer to its end."""
        text = await response.get_data(as_text=True)
        return cls(status=response.status_code, headers=lower_case(response.headers), text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The whole service but its socket. naps: how long it would have waited between attempts, in seconds."""

    client: Client
    naps: list[float]
    clock: Clock

    async def judges(
        self,
        by: Dialect,
        *,
        overrides: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        **changes: object,
    ) -> Told:
        """Ask one provider, whom nobody may replace, for a verdict that nobody keeps."""
        pinned = {"provider_override": by.name, **(overrides or {})}
        body = orjson.dumps({**QUESTION, "llm_config_overrides": pinned, **changes})
        sent = {"Content-Type": "application/json", "Cache-Control": "no-store", **(headers or {})}
        return await Told.of(await self.client.post(COMPARISON, data=body, headers=sent))

    async def tries(self, provider: str) -> Told:
        """Let the service look the provider up, which is free."""
        return await Told.of(await self.client.post(f"/api/v1/providers/{provider}/test"))

    async def reads(self, path: str) -> Told:
        """Get what stands there."""
        return await Told.of(await self.client.get(path))


@asynccontextmanager
async def running(*parts: Provider, **variables: str) -> AsyncIterator[Service]:
    """Run the service in this process, with these settings and no others; it speaks to providers over real sockets.

    parts: replace some of its own.
    """
    time = InstantTime()
    async with hold_to_the_document(create_app(settings_of(**variables), time, *parts)).test_app() as app:
        yield Service(client=app.test_client(), naps=time.waiting.naps, clock=time.now)


@asynccontextmanager
async def serving(dialect: Dialect, *script: Act, **settings: str) -> AsyncIterator[tuple[Service, StandIn]]:
    """The service, and its only provider that plays the script."""
    async with (
        standing_in(*script) as provider,
        running(**dialect.variables(provider.url), **settings) as service,
    ):
        yield service, provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What a provider does, and what the caller must see of it.

    plays: the stand-in's script. calls: how often it is asked. retry_after: the least and the most seconds that the
    caller is told to wait, None for no word about it. sentence, details: what they must say.
    """

    plays: Callable[[Dialect], Sequence[Act]]
    status: int
    error_type: str
    calls: int
    retry_after: tuple[int, int] | None = None
    sentence: str = ""
    details: str = ""

    async def befalls(self, dialect: Dialect, **settings: str) -> None:
        """Let it happen, and check the answer, the number of calls and that metrics hold no private word."""
        async with serving(dialect, *self.plays(dialect), **settings) as (service, provider):
            body = (await service.judges(dialect)).refusal(self.status, self.error_type)
            metrics = await service.reads("/metrics")
            metrics.holds_nothing_private()
        if self.error_type == "TIMEOUT":  # on a busy machine an attempt may be over before it arrives
            assert sum(map(float, TIMED_OUT.findall(metrics.text))) == self.calls
        else:
            assert len(provider.requests) == self.calls
        assert body["provider"] == dialect.name
        assert self.sentence in body["error"], "what it sends is known in wire/failure_tables.py"
        assert self.details in body["details"]
        if self.retry_after is None:
            assert body["retry_after"] is None
        else:
            least, most = self.retry_after
            assert least <= body["retry_after"] <= most
