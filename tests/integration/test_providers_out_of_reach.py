"""Where the provider should be nobody can be reached: callers are told within seconds, and its circuit opens."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from implementations.wire import connector
from tests.integration.dialects import ANTHROPIC, DIALECTS, OPENAI, UPSTREAM, Dialect
from tests.integration.pointed_service import Service, running
from tests.integration.service_process import out_of_reach
from tests.integration.stand_in import answer, standing_in

pytestmark = pytest.mark.usefixtures("nothing_private_is_written")

NO_NAME_IN_THE_WORLD = ".".join([UPSTREAM] * 30)  # longer than a name can be, which a resolver sees without a network
NAME = "judge.example"
BRIEFLY_S = 0.2
UNPINNED: dict[str, object] = {"provider_override": None}


def let_name_mean_us(times: Callable[[], Awaitable[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever looks NAME up find that many addresses, each that of this machine."""
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo

    async def asked(host: Any, *rest: Any, **named: Any) -> Any:
        if host != NAME:
            return await look_up(host, *rest, **named)
        count = await times()
        return count * await look_up("127.0.0.1", *rest, **named)

    monkeypatch.setattr(loop, "getaddrinfo", asked)


@asynccontextmanager
async def unconnected(monkeypatch: pytest.MonkeyPatch, **settings: str) -> AsyncIterator[Service]:
    """The service with a provider to whom no connection comes about, and who gets little time for it."""
    assert connector.CONNECT_TIMEOUT_S <= 5
    monkeypatch.setattr(connector, "CONNECT_TIMEOUT_S", BRIEFLY_S)
    with out_of_reach() as port:
        given = ANTHROPIC.variables(f"http://127.0.0.1:{port}")
        async with running(**given, LLM_ATTEMPT_TIMEOUT="5", **settings) as service:
            yield service


async def attempts(service: Service, outcome: str) -> float:
    """How often the provider was asked to that end."""
    lines = (await service.reads("/metrics")).text.splitlines()
    told = [line for line in lines if line.startswith("llm_provider_upstream_attempts_total{") and outcome in line]
    return sum(float(line.split()[-1]) for line in told)


# --- Connections that never come about --------------------------------------------------------------------------------


async def test_a_connection_that_never_comes_about_is_given_up_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with unconnected(monkeypatch) as service:
        body = (await service.judges(ANTHROPIC)).refusal(503, "CONNECTION_ERROR")
        assert await attempts(service, "connection") == 3
    assert body["details"] == "connecting took too long"
    assert len(service.naps) == 2


async def test_several_addresses_to_which_no_connection_comes_about_take_no_longer_than_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def eight() -> int:
        return 8

    let_name_mean_us(eight, monkeypatch)
    monkeypatch.setattr(connector, "CONNECT_TIMEOUT_S", BRIEFLY_S)
    with out_of_reach() as port:
        given = ANTHROPIC.variables(f"http://{NAME}:{port}")
        async with running(**given, LLM_ATTEMPT_TIMEOUT="1.5") as service:
            body = (await service.judges(ANTHROPIC)).refusal(503, "CONNECTION_ERROR")
    assert body["details"] == "connecting took too long"


async def test_a_name_whose_look_up_hangs_is_a_connection_that_never_comes_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unknown_for_long() -> int:
        await asyncio.sleep(3600)
        pytest.fail("nobody waits so long")

    let_name_mean_us(unknown_for_long, monkeypatch)
    monkeypatch.setattr(connector, "CONNECT_TIMEOUT_S", BRIEFLY_S)
    async with running(**ANTHROPIC.variables(f"http://{NAME}:9")) as service:
        body = (await service.judges(ANTHROPIC)).refusal(503, "CONNECTION_ERROR")
    assert body["details"] == "connecting took too long"


async def test_a_provider_to_whom_no_connection_comes_about_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with unconnected(monkeypatch) as service:
        await is_left_alone(service, ANTHROPIC)


async def test_who_waits_for_a_connection_is_told_when_his_time_is_up() -> None:
    with out_of_reach() as port:
        given = ANTHROPIC.variables(f"http://127.0.0.1:{port}")
        async with running(**given, LLM_REQUEST_TIMEOUT="0.5") as service:
            (await service.judges(ANTHROPIC)).refusal(504, "TIMEOUT")
            assert await attempts(service, "connection") == 0


async def test_another_judge_answers_when_no_connection_comes_about(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        standing_in(answer(OPENAI.good())) as openai,
        unconnected(monkeypatch, **OPENAI.variables(openai.url)) as service,
    ):
        told = (await service.judges(ANTHROPIC, overrides=UNPINNED)).json()
    assert (told["provider"], told["provenance"]["fallback_used"]) == ("openai", True)
    assert [one["outcome"] for one in told["provenance"]["attempts"]] == ["connection"] * 3 + ["success"]


# --- Names that nobody knows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_a_name_that_is_not_known_is_told_after_three_attempts(dialect: Dialect) -> None:
    async with running(**dialect.variables(f"http://{NO_NAME_IN_THE_WORLD}")) as service:
        body = (await service.judges(dialect)).refusal(503, "CONNECTION_ERROR")
        assert await attempts(service, "connection") == 3
        (await service.reads("/metrics")).holds_nothing_private()
    assert (body["provider"], body["details"]) == (dialect.name, "its name could not be resolved")
    assert len(service.naps) == 2


async def test_a_provider_whose_name_is_not_known_is_left_alone_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    known: set[str] = set()

    async def one_if_known() -> int:
        if NAME not in known:
            raise socket.gaierror(socket.EAI_NONAME, UPSTREAM)
        return 1

    let_name_mean_us(one_if_known, monkeypatch)
    async with standing_in(answer(ANTHROPIC.good())) as provider:
        url = provider.url.replace("127.0.0.1", NAME)
        async with running(**ANTHROPIC.variables(url)) as service:
            service.clock.advance(await is_left_alone(service, ANTHROPIC))
            known.add(NAME)
            for _ in range(2):
                assert (await service.judges(ANTHROPIC)).status == 200
            assert await state_of_the_circuit(service, ANTHROPIC) == "closed"


async def is_left_alone(service: Service, dialect: Dialect) -> float:
    """After five attempts, which two callers pay for with their time; for how many seconds."""
    for _ in range(2):
        (await service.judges(dialect)).refusal(503, "CONNECTION_ERROR")
    body = (await service.judges(dialect)).refusal(503, "CIRCUIT_BREAKER_OPEN")
    assert await attempts(service, "connection") == 5
    assert await state_of_the_circuit(service, dialect) == "open"
    assert (await service.reads("/healthz")).status == 200
    return float(body["retry_after"])


async def state_of_the_circuit(service: Service, dialect: Dialect) -> str:
    shown = (await service.reads("/api/v1/providers")).json()["providers"]
    (state,) = {one["circuit_breaker_state"] for one in shown if one["name"] == dialect.name}
    return str(state)
