"""The load of the benchmark on real sockets: a wait that the server causes is seen, and none is counted twice."""

import asyncio
import gc
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench import load as load_generator
from bench.load import Asked, Load, Samples
from bench.pace import Closed, Open
from tests.integration.service_process import free_port
from tests.integration.stand_in import answer, kept_open, standing_in

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
RATE, SECONDS = 500.0, 0.1


class Server(asyncio.Protocol):
    """Answers when its gate is open."""

    def __init__(self, gate: asyncio.Event) -> None:
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._task = asyncio.ensure_future(self._answer(data.count(b"GET")))

    async def _answer(self, times: int) -> None:
        await self._gate.wait()
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * times)


class Cohorts:
    """Answers so many requests at once, when all of them are there. received, sent: requests and answers so far."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: list[asyncio.Transport] = []
        self.received = self.sent = 0

    def ask(self, transport: asyncio.Transport) -> None:
        self.received += 1
        self._waiting.append(transport)
        if len(self._waiting) == self._size:
            asyncio.get_running_loop().call_later(0.01, self._answer)

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.sent += len(waiting)
        for transport in waiting:
            transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class OneOfACohort(Server):
    """Answers together with the others."""

    def __init__(self, cohorts: Cohorts) -> None:
        self._cohorts = cohorts

    def data_received(self, data: bytes) -> None:
        self._cohorts.ask(self._transport)


@asynccontextmanager
async def serving(gate: asyncio.Event) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(lambda: Server(gate), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def asked(port: int, connections: int) -> Asked:
    return Asked(host="127.0.0.1", port=port, connections=connections, request=lambda: REQUEST)


async def watched(port: int, connections: int, gate: asyncio.Event) -> Samples:
    """Everything that is due in the span, whose last part passes before the gate opens."""
    async with Load(asked(port, connections), Open(rate=RATE, seconds=2 * SECONDS, seed=1)) as load:
        samples = load.watch(SECONDS)
        await asyncio.sleep(SECONDS)
        gate.set()
        await load.settle()
    return samples


async def test_a_server_that_stalls_is_charged_with_every_request_that_was_due() -> None:
    gate = asyncio.Event()
    async with serving(gate) as port:
        samples = await watched(port, 2, gate)
    assert samples.statuses == {200: samples.due}
    assert samples.due == pytest.approx(RATE * SECONDS, rel=0.5)
    assert samples.waited >= samples.due - 2
    assert max(samples.latencies_s) >= 0.8 * SECONDS
    assert sum(samples.latencies_s) >= 0.3 * SECONDS * samples.due


async def test_a_server_that_answers_lets_nothing_wait() -> None:
    gate = asyncio.Event()
    gate.set()
    async with serving(gate) as port:
        samples = await watched(port, round(RATE * 2 * SECONDS), gate)  # one for each request
    assert samples.statuses == {200: samples.due}
    assert samples.waited == 0
    assert samples.lost == 0


async def test_a_closed_loop_is_counted_between_cohorts_and_leaves_nothing_in_flight() -> None:
    cohorts = Cohorts(8)
    server = await asyncio.get_running_loop().create_server(lambda: OneOfACohort(cohorts), "127.0.0.1", 0)
    async with server, Load(asked(server.sockets[0].getsockname()[1], 8), Closed()) as load:
        await load.whole_cohort()
        samples = load.watch(math.inf)
        for _ in range(2):
            await load.whole_cohort()
        load.end()
        await load.settle()
        assert cohorts.received == cohorts.sent
    assert samples.answered > 8
    assert samples.answered % 8 == 0
    assert samples.statuses == {200: samples.answered}


async def test_a_connection_that_the_server_closes_is_replaced() -> None:
    async with standing_in(answer({}), kept_open({})) as stand_in:
        port = int(stand_in.url.rpartition(":")[2])
        async with Load(asked(port, 1), Open(rate=RATE, seconds=SECONDS, seed=1)) as load:
            samples = load.watch(SECONDS)
            await load.settle()
    assert samples.statuses == {200: samples.due}
    assert samples.due > 1


async def test_what_a_server_that_is_gone_never_answers_is_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(load_generator, "GRACE_S", 0.1)
    async with standing_in(answer({})) as stand_in:
        load = Load(asked(int(stand_in.url.rpartition(":")[2]), 1), Open(rate=RATE, seconds=SECONDS, seed=1))
        await load.__aenter__()
    samples = load.watch(SECONDS)
    await load.settle()
    await load.__aexit__()
    gc.collect()
    assert samples.lost > 0
    assert caplog.messages == []


def test_a_port_that_was_chosen_is_given_to_nobody_else_before_it_is_used() -> None:
    """The system draws one of some 28,000 anew each time, and who draws one twice loses a server or meets another's."""
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))  # refused here means: not drawn, when any is asked for
    with socket.create_server(("127.0.0.1", port)):
        pass
