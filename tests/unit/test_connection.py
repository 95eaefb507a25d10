"""One request over ASGI: what Quart's own connection does, ours does too; what only ours promises stands below."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from typing import Any, cast

import pytest
from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent
from quart import Quart, Response, request
from quart.asgi import ASGIHTTPConnection
from werkzeug.wrappers import Response as WerkzeugResponse

from api import body, connection
from api.application import Application
from api.connection import Connection
from exceptions import ServiceOverloadedError
from implementations.resilience.memory_limit import MemoryLimit
from tests.fakes import begun, settle

LEFT: ASGIReceiveEvent = {"type": "http.disconnect"}
END: ASGISendEvent = {"type": "http.response.body", "body": b"", "more_body": False}
MOST_BYTES = 100

LONG_S = 30.0


def part(body: bytes, *, more: bool = False) -> ASGIReceiveEvent:
    return {"type": "http.request", "body": body, "more_body": more}


class Caller:
    """Sends its messages one after the other and then waits, as a server does, until it is told to leave."""

    def __init__(self, *messages: ASGIReceiveEvent) -> None:
        self._messages = asyncio.Queue[ASGIReceiveEvent]()
        self.got: list[ASGISendEvent] = []
        for message in messages:
            self.sends(message)

    def sends(self, message: ASGIReceiveEvent) -> None:
        self._messages.put_nowait(message)

    async def receive(self) -> ASGIReceiveEvent:
        return await self._messages.get()

    async def send(self, message: ASGISendEvent) -> None:
        await asyncio.sleep(0)
        self.got.append(message)

    @property
    def status(self) -> int:
        return next(message["status"] for message in self.got if message["type"] == "http.response.start")

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            header for message in self.got if message["type"] == "http.response.start" for header in message["headers"]
        ]

    @property
    def is_owed_more(self) -> bool:
        """Whether the server would still hold the connection open for this answer."""
        return any(message["type"] == "http.response.body" and message["more_body"] for message in self.got[-1:])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.got if message["type"] == "http.response.body")


@pytest.fixture(autouse=True)
def _waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WATCH_AFTER_S", 0.0)
    monkeypatch.setattr(body, "DISCARD_S", 0.0)


@pytest.fixture
def app() -> Application:
    """Says what it read."""
    app = Application("test")
    app.config.update(MAX_CONTENT_LENGTH=MOST_BYTES, BODY_TIMEOUT=60)

    @app.post("/")
    async def echo() -> Response:
        return Response(await request.get_data(cache=False))

    return app


@pytest.fixture(params=[ASGIHTTPConnection, Connection], ids=["Quart's", "ours"])
def either(request: pytest.FixtureRequest, app: Quart) -> Quart:
    """With one connection or the other."""
    app.asgi_http_class = request.param
    if request.param is ASGIHTTPConnection:
        app.request_class = Quart.request_class
    return app


async def ask(app: Quart, caller: Caller, **headers: str) -> None:
    told = [(name.encode().replace(b"_", b"-"), value.encode()) for name, value in headers.items()]
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": told,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }
    await app(scope, caller.receive, caller.send)


def that(app: Quart, does: Callable[[], Awaitable[Any]]) -> list[str]:
    """Replaces the only handler; the list tells how it ended."""
    ended: list[str] = []

    async def handler() -> Any:
        try:
            answer = await does()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        ended.append("finished")
        return answer

    app.view_functions["echo"] = handler
    return ended


async def test_a_body_in_pieces_arrives_whole(either: Quart) -> None:
    caller = Caller(part(b"one ", more=True), part(b"", more=True), part(b"two"))
    await ask(either, caller)

    assert (caller.status, caller.body) == (200, b"one two")


async def test_a_caller_without_a_body_is_answered(either: Quart) -> None:
    caller = Caller(part(b""))
    await ask(either, caller)

    assert (caller.status, caller.body) == (200, b"")


@pytest.mark.parametrize(
    "announced",
    [
        {},
        {"content_length": str(MOST_BYTES)},
        {"content_length": str(MOST_BYTES + 1), "transfer_encoding": "chunked"},  # of which the latter counts
    ],
)
async def test_as_much_as_is_allowed_is_read(either: Quart, announced: dict[str, str]) -> None:
    caller = Caller(part(b"x" * MOST_BYTES))
    await ask(either, caller, **announced)

    assert (caller.status, len(caller.body)) == (200, MOST_BYTES)


async def test_more_than_is_allowed_is_refused_before_it_came(either: Quart) -> None:
    caller = Caller()
    await ask(either, caller, content_length=str(MOST_BYTES + 1))

    assert caller.status == 413


async def test_more_than_was_announced_is_refused_when_it_comes(either: Quart) -> None:
    caller = Caller(part(b"x" * MOST_BYTES, more=True), part(b"x", more=True))
    await ask(either, caller)

    assert caller.status == 413


async def test_a_large_body_takes_its_memory_until_it_is_read_or_given_up(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "SMALL_BYTES", len(b"o"))
    app.memory = memory = MemoryLimit(MOST_BYTES)
    caller = Caller(part(b"o", more=True), part(b"ne ", more=True))
    reading = await begun(ask(app, caller))

    assert memory.taken_bytes == len(b"ne ")
    caller.sends(part(b"two"))
    await reading
    assert memory.taken_bytes == 0
    await ask(app, Caller(part(b"one ", more=True), LEFT))
    await ask(app, Caller(part(b"x" * MOST_BYTES, more=True), part(b"x")))
    assert memory.taken_bytes == 0


async def test_what_was_read_is_forgotten_with_its_memory() -> None:
    read = body.Body(None, MOST_BYTES)
    read.set_result(b"one")
    assert await read == b"one"
    read.clear()
    assert await read == b""


async def test_a_small_body_takes_no_memory_and_gives_none_away(app: Application) -> None:
    app.memory = memory = MemoryLimit(MOST_BYTES)
    caller = Caller(part(b"one ", more=True))
    reading = await begun(ask(app, caller))

    assert memory.taken_bytes == 0
    caller.sends(part(b"two"))
    await reading


async def test_a_large_body_for_which_there_is_no_memory_is_refused_until_there_is(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "SMALL_BYTES", len(b"small"))
    app.memory = memory = MemoryLimit(len(b"t large, and one"))
    refusals: list[Exception] = []

    @app.errorhandler(ServiceOverloadedError)
    async def turned_away(refusal: ServiceOverloadedError) -> tuple[str, int]:
        refusals.append(refusal)
        return "", refusal.status

    first, second, third, small = (
        Caller(part(body, more=True)) for body in (b"somewhat large, and", b"too large", b"large again", b"small")
    )
    reading = await begun(ask(app, first))
    await ask(app, second)
    small.sends(part(b""))
    await ask(app, small)
    first.sends(part(b"!"))
    await reading
    third.sends(part(b"!"))
    await ask(app, third)

    assert [caller.status for caller in (first, second, small, third)] == [200, 503, 200, 200]
    assert memory.taken_bytes == 0
    dropped = weakref.ref(refusals.pop())
    assert dropped() is None


async def test_a_body_that_does_not_end_is_given_up(either: Quart) -> None:
    either.config["BODY_TIMEOUT"] = 0.01
    caller = Caller(part(b"one ", more=True))
    await ask(either, caller)

    assert caller.status == 408


async def test_work_for_a_caller_who_left_is_cancelled(either: Quart) -> None:
    ended = that(either, asyncio.Event().wait)
    caller = Caller(part(b""), LEFT)
    await ask(either, caller)

    assert ended == ["cancelled"]
    assert caller.got == []


async def test_who_leaves_in_the_middle_of_a_body_is_not_answered(either: Quart) -> None:
    ended = that(either, lambda: request.get_data(cache=False))
    caller = Caller(part(b"one ", more=True), LEFT)
    await ask(either, caller)

    assert ended == ["cancelled"]
    assert caller.got == []


async def test_an_answer_in_pieces_arrives_whole(either: Quart) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    async def answer() -> Response:
        return Response(pieces())

    that(either, answer)
    caller = Caller(part(b""))
    await ask(either, caller)

    assert caller.body == b"one two"


async def test_an_answer_of_another_kind_arrives_whole(either: Quart) -> None:
    async def answer() -> WerkzeugResponse:
        return WerkzeugResponse(["one ", "two"])

    that(either, answer)
    caller = Caller(part(b""))
    await ask(either, caller)

    assert (caller.status, caller.body) == (200, b"one two")


async def test_a_failure_that_nobody_renders_is_answered(either: Quart) -> None:
    async def fail() -> None:
        raise ValueError

    that(either, fail)
    caller = Caller(part(b""))
    await ask(either, caller)

    assert caller.status == 500


async def read_late_from(caller: Caller, app: Quart) -> asyncio.Task[None]:
    """A request of this caller, whose body is read only when he has been watched for a while."""
    watched = asyncio.Event()

    async def read_late() -> Response:
        await watched.wait()
        return Response(await request.get_data(cache=False))

    that(app, read_late)
    asked = await begun(ask(app, caller))
    watched.set()
    return asked


@pytest.mark.parametrize(("parts", "later"), [([b"one "], [b"two"]), ([b"one two"], []), ([b"one ", b"two"], [])])
async def test_what_comes_while_the_caller_is_watched_is_kept_for_who_reads_it(
    parts: list[bytes], later: list[bytes], app: Quart
) -> None:
    count = len(parts) + len(later)
    messages = [part(text, more=number < count) for number, text in enumerate((*parts, *later), start=1)]
    caller = Caller(*messages[: len(parts)])
    asked = await read_late_from(caller, app)
    await settle()
    for message in messages[len(parts) :]:
        caller.sends(message)
    await asyncio.wait_for(asked, LONG_S)

    assert caller.body == b"one two"


async def test_a_part_too_many_stays_refused_when_the_rest_comes_before_it_is_read(app: Quart) -> None:
    caller = Caller(part(b"1" * (MOST_BYTES + 1), more=True), part(b"2"))
    asked = await read_late_from(caller, app)
    await asyncio.wait_for(asked, LONG_S)

    assert caller.status == 413


async def test_a_cancellation_by_somebody_else_passes(app: Quart) -> None:
    ended = that(app, asyncio.Event().wait)
    asked = await begun(ask(app, Caller(part(b""))))
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked

    assert ended == ["cancelled"]


async def test_nobody_watches_when_the_answer_is_there(app: Quart) -> None:
    watched: list[int] = []

    async def slowly() -> Response:
        await settle()
        watched.append(len(asyncio.all_tasks()))
        return Response("")

    that(app, slowly)
    await ask(app, Caller(part(b"one")))
    await asyncio.sleep(0)

    assert watched == [2]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_quick_request_begins_no_task(app: Quart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WATCH_AFTER_S", 60.0)
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Any]] = []

    def begin(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        tasks.append(asyncio.Task(work, loop=loop, **more))
        return tasks[-1]

    loop.set_task_factory(begin)
    try:
        await ask(app, Caller(part(b"one")))
    finally:
        loop.set_task_factory(None)

    assert tasks == []


async def test_an_answer_is_two_messages(app: Quart) -> None:
    caller = Caller(part(b"one"))
    await ask(app, caller, content_length="3")

    assert [message["type"] for message in caller.got] == ["http.response.start", "http.response.body"]
    assert not caller.is_owed_more


@pytest.mark.parametrize("text", ["unable to perform operation on <TCPTransport>; the handler is closed", "a defect"])
async def test_a_connection_that_closes_in_the_turn_of_the_answer_is_no_defect(
    app: Quart, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    caller = Caller(part(b"one"))

    async def send(_: ASGISendEvent) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(caller, "send", send)
    with nullcontext() if connection.GONE in text else pytest.raises(RuntimeError):
        await ask(app, caller)


async def test_who_leaves_while_the_body_is_read_beside_the_watcher_is_not_answered(app: Quart) -> None:
    caller = Caller(part(b"one ", more=True))
    ended = that(app, lambda: request.get_data(cache=False))
    asked = await begun(ask(app, caller))
    caller.sends(LEFT)
    await asked

    assert ended == ["cancelled"]
    assert caller.got == []


@pytest.mark.parametrize("reads", [True, False])
async def test_who_would_send_a_body_that_nobody_reads_must_connect_again(app: Quart, *, reads: bool) -> None:
    async def answer() -> Response:
        return Response(await request.get_data(cache=False) if reads else "")

    that(app, answer)
    caller = Caller(part(b"one"))
    await ask(app, caller, expect="100-continue")

    assert ((b"connection", b"close") in caller.headers) is not reads


async def test_whoever_waits_to_send_too_much_is_told_to_close(app: Quart) -> None:
    caller = Caller()
    await ask(app, caller, **{"content-length": str(MOST_BYTES + 1)}, expect="100-continue")

    assert caller.status == 413
    assert (b"connection", b"close") in caller.headers


@pytest.mark.parametrize(
    "told",
    [
        {"content-length": str(2 * MOST_BYTES)},
        {"content-length": str(2 * MOST_BYTES), "expect": "100-continue"},
        {"transfer-encoding": "chunked"},
    ],
    ids=["announced", "announced, to be asked for", "in chunks"],
)
async def test_who_sends_too_much_has_the_answer_before_the_rest_is_received(
    app: Application, monkeypatch: pytest.MonkeyPatch, told: dict[str, str]
) -> None:
    monkeypatch.setattr(body, "DISCARD_S", LONG_S)
    monkeypatch.setattr(body, "SMALL_BYTES", 0)
    app.memory = memory = MemoryLimit(MOST_BYTES)
    sent = part(b"x" * MOST_BYTES, more=True)
    caller = Caller(sent, sent)
    asked = await begun(ask(app, caller, **told))

    assert caller.status == 413
    assert len(caller.body) == int(dict(caller.headers)[b"content-length"])
    assert memory.taken_bytes == 0
    assert caller.is_owed_more
    caller.sends(part(b"x"))
    await asked
    assert caller.got[2:] == [END]


async def test_who_leaves_after_a_refusal_is_not_waited_for(app: Quart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "DISCARD_S", LONG_S)
    caller = Caller(part(b"x", more=True), LEFT)
    await ask(app, caller, **{"content-length": str(2 * MOST_BYTES)})

    assert caller.status == 413


@pytest.mark.parametrize(("announced_bytes", "status"), [(2 * MOST_BYTES, 413), (MOST_BYTES, 408)])
async def test_the_rest_that_never_comes_is_not_waited_for(app: Quart, announced_bytes: int, status: int) -> None:
    app.config["BODY_TIMEOUT"] = 0.01
    caller = Caller(part(b"x", more=True))
    async with asyncio.timeout(LONG_S):
        await ask(app, caller, **{"content-length": str(announced_bytes)})

    assert caller.status == status
    assert caller.got[2:] == [END]
    assert ((b"connection", b"close") in caller.headers) is (status == 408)  # when the rest comes, if ever, is unknown


async def test_where_no_body_was_announced_none_is_waited_for(app: Quart) -> None:
    async def answer() -> str:
        return "one"

    that(app, answer)
    caller = Caller()
    async with asyncio.timeout(LONG_S):
        await ask(app, caller)

    assert caller.body == b"one"
    assert len(caller.got) == 2


async def test_messages_may_leave_out_what_is_usual(app: Quart) -> None:
    caller = Caller(cast("ASGIReceiveEvent", {"type": "http.request"}))
    await ask(app, caller)

    assert (caller.status, caller.body) == (200, b"")
