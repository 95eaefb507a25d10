"""The load of the benchmark: what is due, what an answer is, and what the stand-in says."""

import asyncio

import pytest

from bench import upstream
from bench.pace import Closed, Open
from bench.upstream import Conversation, Provider
from bench.wire import BROKEN, Connection
from tests.integration.dialects import ANTHROPIC, GOOGLE, INTERNAL, OPENAI, OPENROUTER, Dialect

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer-Timing: total;dur=1.5\r\n\r\nok"
CHUNKED = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


class Wire(asyncio.Transport):
    """Records what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


class Heard:
    """Records what a connection reports."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.losses = 0

    def answered(self, _connection: Connection, status: int, times: bytes) -> None:
        self.answers.append((status, times))

    def lost(self, _connection: Connection) -> None:
        self.losses += 1


def asked_connection() -> tuple[Connection, Heard]:
    heard = Heard()
    connection = Connection(heard)
    connection.connection_made(Wire())
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    return connection, heard


def test_an_open_pace_takes_what_is_due_in_order_and_nothing_before_its_time() -> None:
    pace = Open(rate=100.0, seconds=1.0, seed=1)
    pace.begin(50.0)
    first_s = pace.next_s()
    assert first_s is not None
    assert pace.take(50.0) is None
    taken = [pace.take(60.0) for _ in range(101)]
    assert taken[0] == first_s
    assert taken[:100] == sorted(moment for moment in taken if moment is not None)
    assert taken[100] is None


def test_an_open_pace_keeps_its_rate_and_is_the_same_for_the_same_seed_only() -> None:
    one, same, other = (Open(rate=1000.0, seconds=10.0, seed=seed) for seed in (1, 1, 2))
    assert one.next_s() == same.next_s() != other.next_s()
    assert one.untaken(5.0) == same.untaken(5.0) == pytest.approx(5000, rel=0.05)


def test_an_open_pace_knows_its_backlog() -> None:
    pace = Open(rate=100.0, seconds=1.0, seed=1)
    everything = pace.untaken(1000.0)
    pace.take(1000.0)
    assert (everything, pace.untaken(1000.0)) == (100, 99)


def test_a_closed_pace_is_always_due() -> None:
    assert Closed().take(3.5) == 3.5
    assert Closed().next_s() is None


@pytest.mark.parametrize(("answer", "status", "times"), [(ANSWER, 200, b"total;dur=1.5"), (CHUNKED, 201, b"")])
def test_an_answer_is_reported_once_when_it_is_whole(answer: bytes, status: int, times: bytes) -> None:
    connection, heard = asked_connection()
    for place in range(len(answer)):
        assert heard.answers == []
        connection.data_received(answer[place : place + 1])
    assert heard.answers == [(status, times)]


def test_an_answer_that_never_becomes_whole_is_broken() -> None:
    connection, heard = asked_connection()
    connection.data_received(ANSWER[:-1])
    connection.connection_lost(None)
    assert heard.answers == [(BROKEN, b"")]
    assert heard.losses == 1


def test_a_connection_that_the_server_will_close_is_not_asked_again() -> None:
    connection, heard = asked_connection()
    connection.data_received(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert heard.answers == [(200, b"")]
    assert not connection.is_open


def test_a_connection_that_ends_in_silence_is_lost() -> None:
    connection, heard = asked_connection()
    connection.data_received(ANSWER)
    connection.connection_lost(None)
    assert heard.losses == 1
    assert not connection.is_open


async def said(provider: Provider, *requests: bytes) -> bytes:
    """Collect what the stand-in writes on one connection."""
    wire, conversation = Wire(), Conversation(provider)
    conversation.connection_made(wire)
    for request in requests:
        conversation.data_received(request)
    return wire.written


def post(path: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()


def at_once() -> float:
    return 0.0


@pytest.mark.parametrize("dialect", [ANTHROPIC, OPENAI, GOOGLE, OPENROUTER], ids=lambda dialect: dialect.name)
async def test_the_stand_in_speaks_the_dialect_and_counts(dialect: Dialect) -> None:
    provider = Provider(delay_s=at_once)
    request = post(dialect.ask_path)
    told = await said(provider, request[:30], request[30:] + request)
    assert told == 2 * upstream.GOOD[dialect.ask_path.encode()]
    assert (await said(provider, b"GET /calls HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n2")
    assert (await said(provider, b"GET /last HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n{}")


async def test_the_stand_in_answers_for_a_self_hosted_model_below_a_path_of_its_own() -> None:
    told = await said(Provider(delay_s=at_once), post(f"/internal{INTERNAL.ask_path}"))
    assert INTERNAL.answered.encode() in told


async def test_the_stand_in_can_be_down() -> None:
    assert (await said(Provider(delay_s=at_once), post("/down/v1/messages"))).startswith(b"HTTP/1.1 503 ")


async def test_the_stand_in_fails_in_every_way_and_each_time_in_the_same() -> None:
    async def hundred() -> list[bytes]:
        provider = Provider(delay_s=at_once)
        return [await said(provider, post("/faulty/v1/messages")) for _ in range(100)]

    first = await hundred()
    assert set(first) == {fault or b"" for fault in upstream.FAULTS} | {upstream.GOOD[b"/v1/messages"]}
    assert first == await hundred()


def test_delays_are_fixed_or_spread_around_their_median() -> None:
    assert {upstream.delays(200, 0.0)() for _ in range(3)} == {0.2}
    spread = sorted(draw() for draw in [upstream.delays(200, 0.5)] for _ in range(1001))
    assert spread[500] == pytest.approx(0.2, rel=0.1)
    assert spread[0] < 0.1
    assert spread[-1] > 0.4
