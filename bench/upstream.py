"""A stub provider that costs nothing: raw asyncio, answers made beforehand, in a process of its own.

It speaks every dialect at its documented path, a self-hosted model's below `/internal`. Paths below `/down` answer 503;
below `/faulty` every answer is drawn from a seeded mixture of faults. A second port accepts connections and never
answers. `GET /calls` returns how many questions there were, `/connections` how many connections are open, `/last` the
last question; any other GET is a free look-up. What is posted below `/otlp` are spans, which are accepted and not
counted.
"""

import argparse
import asyncio
import random
from collections.abc import Callable
from typing import cast

import orjson
import uvloop

from bench.wire import HEAD_END, LENGTH, after
from tests.integration.dialects import ANTHROPIC, GOOGLE, INTERNAL, OPENAI, OPENROUTER

SEED = 7
HOST = "127.0.0.1"


def framed(body: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    """A whole HTTP answer."""
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (status, kind, len(body), body)


SPOKEN = {"": (ANTHROPIC, OPENAI, GOOGLE, OPENROUTER), "/internal": (INTERNAL,)}  # whose path is OpenAI's
GOOD = {
    f"{below}{dialect.ask_path}".encode(): framed(orjson.dumps(dialect.good()))
    for below, dialects in SPOKEN.items()
    for dialect in dialects
}
LOOK_UP = framed(b'{"data": [], "models": []}')
DOWN = framed(orjson.dumps(OPENAI.failures["overloaded"][1]), b"503 Service Unavailable")
FAULTS = (
    DOWN,
    framed(orjson.dumps(OPENAI.failures["failed"][1]), b"500 Internal Server Error"),
    framed(orjson.dumps(OPENAI.says("no verdict at all"))),
    framed(orjson.dumps(OPENAI.cut())),
    framed(b"<html>Bad gateway</html>", b"502 Bad Gateway", b"text/html"),
    framed(orjson.dumps(OPENAI.good()))[:-20],  # the connection ends before its declared length
    b"",  # the connection ends without an answer
    None,  # silence
)


class Provider:
    """What all connections share: the delay, the draw of faults and what was asked. delay_s: draws seconds."""

    def __init__(self, *, delay_s: Callable[[], float]) -> None:
        self.delay_s = delay_s
        self.calls = 0
        self.connections = 0
        self.last = b""
        self._draw = random.Random(SEED)

    def answer(self, path: bytes, body: bytes) -> bytes | None:
        """What is sent back: None for silence; what is no whole answer ends the connection."""
        if not body or path.startswith(b"/otlp/"):
            return self._looked_up(path)
        self.calls += 1
        self.last = body
        if path.startswith(b"/down/"):
            return DOWN
        if path.startswith(b"/faulty/"):
            good = GOOD[path.removeprefix(b"/faulty")]
            return self._draw.choice((good, good, *FAULTS))
        return GOOD.get(path) or framed(b"{}", b"404 Not Found")

    def _looked_up(self, path: bytes) -> bytes:
        known = {b"/calls": b"%d" % self.calls, b"/connections": b"%d" % self.connections, b"/last": self.last}
        return framed(known[path]) if path in known else LOOK_UP


class Conversation(asyncio.Protocol):
    """One connection: it reads requests whole, one after the other."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._loop = asyncio.get_running_loop()
        self._provider.connections += 1

    def connection_lost(self, _error: Exception | None) -> None:
        """One less."""
        self._provider.connections -= 1

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        pending = self._pending + data
        while (end := pending.find(HEAD_END)) >= 0:
            head = pending[:end].lower()
            whole = end + len(HEAD_END) + int(after(head, LENGTH) or 0)
            if len(pending) < whole:
                break
            self._asked(pending[:end].split(b" ", 2)[1].partition(b"?")[0], pending[end + len(HEAD_END) : whole])
            pending = pending[whole:]
        self._pending = pending

    def _asked(self, path: bytes, body: bytes) -> None:
        answer = self._provider.answer(path, body)
        if answer is None:
            return
        delay_s = self._provider.delay_s() if body else 0.0
        if delay_s:
            self._loop.call_later(delay_s, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        self._transport.write(answer)
        head, _, body = answer.partition(HEAD_END)
        if len(body) != int(after(head.lower(), LENGTH) or 0) or not answer:
            self._transport.close()


class Silence(asyncio.Protocol):
    """Accepts everything and never answers: a server that hangs."""


def delays(median_ms: float, sigma: float) -> Callable[[], float]:
    """Draws seconds: always the median when sigma is 0, else from a log-normal distribution."""
    draw = random.Random(SEED)
    if sigma == 0:
        return lambda: median_ms / 1000
    return lambda: median_ms / 1000 * draw.lognormvariate(0.0, sigma)


async def serve(provider: Provider, port: int, silent_port: int) -> None:
    """Listen until the process ends."""
    loop = asyncio.get_running_loop()
    speaking = await loop.create_server(lambda: Conversation(provider), HOST, port)
    silent = await loop.create_server(Silence, HOST, silent_port)
    await asyncio.gather(speaking.serve_forever(), silent.serve_forever())


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("silent_port", type=int)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="median time to answer")
    parser.add_argument("--sigma", type=float, default=0.0, help="spread of a log-normal delay; 0 for a fixed one")
    wishes = parser.parse_args()
    provider = Provider(delay_s=delays(wishes.delay_ms, wishes.sigma))
    uvloop.run(serve(provider, wishes.port, wishes.silent_port))


if __name__ == "__main__":
    main()
