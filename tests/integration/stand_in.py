"""A server that stands in for a provider: it takes every request down and plays a script over a plain socket.

It runs in the test's own event loop, so that nothing is left behind when its block ends. It knows no provider.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

CHUNK = b"x" * 65_536
DRIP_S = 0.02
NOBODY = "http://127.0.0.1:9"  # listens there: the port is given to no process that asks for any
RESET_AT_CLOSE = struct.pack("ii", 1, 0)

Play = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """One request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def json(self) -> Any:
        """Read the body as JSON."""
        return orjson.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One answer. is_early: it is played before the request's body is read. keeps_open: the next request may follow."""

    play: Play
    is_early: bool = False
    keeps_open: bool = False


@dataclass(slots=True)
class StandIn:
    """script: one answer a request, the last one again and again. requests: what was asked so far."""

    script: list[Act]
    url: str = ""
    requests: list[Captured] = field(default_factory=list)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; the peer may leave at any moment."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._serve(reader, writer):
                    pass
        except asyncio.CancelledError:  # asyncio logs a cancelled connection as if it were a failure
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def stop(self) -> None:
        """End every connection that is still open."""
        still_open = list(self._open)
        for task in still_open:
            task.cancel()
        await asyncio.gather(*still_open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether another may follow."""
        asked = _head(await reader.readuntil(b"\r\n\r\n"))
        act = self.script[min(len(self.requests), len(self.script) - 1)]
        self.requests.append(asked)
        place = len(self.requests) - 1
        if act.is_early:
            await act.play(writer)
        body = await reader.readexactly(int(asked.headers.get("content-length", "0")))
        self.requests[place] = replace(asked, body=body)
        if not act.is_early:
            await act.play(writer)
        return act.keeps_open


@asynccontextmanager
async def standing_in(*script: Act, tls: ssl.SSLContext | None = None) -> AsyncIterator[StandIn]:
    """Listen on a free port until the block ends."""
    stand_in = StandIn(list(script))
    server = await asyncio.start_server(stand_in.handle, "127.0.0.1", 0, ssl=tls)
    stand_in.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield stand_in
    finally:
        server.close()
        await stand_in.stop()
        await server.wait_closed()


# --- Answers ----------------------------------------------------------------------------------------------------------


def answer(body: object, status: int = 200, **headers: str) -> Act:
    """A whole answer; what is not bytes is sent as JSON. Header names are written with underscores."""
    return raw(_framed(body, status, headers))


def kept_open(body: object) -> Act:
    """A whole answer after which the connection waits for the next request."""
    return replace(answer(body, Connection="keep-alive"), keeps_open=True)


def early(body: object, status: int) -> Act:
    """A whole answer that comes while the request is still being sent."""
    return replace(answer(body, status), is_early=True)


def raw(wire: bytes) -> Act:
    """These bytes, then the end of the connection."""

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(wire)
        await writer.drain()

    return Act(play=play)


def cut_off(body: object, **headers: str) -> Act:
    """The connection ends ten bytes before the declared length."""
    return raw(_framed(body, 200, headers)[:-10])


def hanging(body: object = None) -> Act:
    """Nothing but silence; with a body its first half comes before."""

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(_first_half(body))
        await writer.drain()
        await asyncio.Event().wait()

    return Act(play=play)


def held(act: Act) -> tuple[Act, asyncio.Event]:
    """The same answer, once the test lets it go."""
    release = asyncio.Event()

    async def play(writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await act.play(writer)

    return replace(act, play=play), release


def dripping(body: object) -> Act:
    """One byte after the other, each soon enough to keep a reader waiting."""

    async def play(writer: asyncio.StreamWriter) -> None:
        for byte in _framed(body, 200, {}):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(DRIP_S)

    return Act(play=play)


def reset(body: object = None) -> Act:
    """The connection is torn down; with a body after its first half."""

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(_first_half(body))
        await writer.drain()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        writer.transport.abort()

    return Act(play=play)


def flood(total_bytes: int, sent: list[int]) -> Act:
    """So many bytes in pieces; every piece that left is taken down in `sent`."""

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(total_bytes // len(CHUNK)):
            writer.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))
            await writer.drain()
            sent.append(len(CHUNK))
        writer.write(b"0\r\n\r\n")

    return Act(play=play)


def _head(head: bytes) -> Captured:
    line, *rest = head.decode("latin-1").rstrip().split("\r\n")
    method, target, _ = line.split(" ")
    pairs = (header.partition(":") for header in rest)
    return Captured(
        method=method,
        target=target,
        headers={name.strip().lower(): value.strip() for name, _, value in pairs},
        body=b"",
    )


def _framed(body: object, status: int, headers: Mapping[str, str]) -> bytes:
    content = _content(body)
    fields = {
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        "Connection": "close",
        **{name.replace("_", "-").title(): value for name, value in headers.items()},
    }
    lines = [f"HTTP/1.1 {status} Told", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def _first_half(body: object) -> bytes:
    if body is None:
        return b""
    return _framed(body, 200, {})[: -len(_content(body)) // 2]


def _content(body: object) -> bytes:
    """Python's own JSON writes numbers of any size."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()
