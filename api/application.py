"""Quart as used by this service: a scope around each request instead of hooks, and one container for all."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, lru_cache, partial
from typing import Any, Self, cast

from dishka import AsyncContainer
from quart import Quart, Request
from quart.ctx import RequestContext
from quart.globals import _cv_app, _cv_request
from quart.sessions import NullSession
from quart.typing import ResponseReturnValue, ResponseTypes
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map, MapAdapter

from api.body import UnlimitedMemory
from api.connection import Connection, ServiceRequest
from protocols import MemoryProtocol

Finish = Callable[[ResponseTypes], None]
NO_SESSION = NullSession()
KEPT_PATHS, LONGEST_KEPT_PATH = 64, 100
VALUE = re.compile("<[^>]*>")


@cache
def _spelled_like(rule: str) -> re.Pattern[bytes]:
    """The paths that differ from this rule in their values only."""
    return re.compile(b"[^/]+".join(re.escape(literal).encode() for literal in VALUE.split(rule)))


class KeptMatch(MapAdapter):
    """The route of one method and path: matched once, and reused only for Quart's own look-up."""

    def __init__(self, routes: Map, method: str, path: str, root_path: str) -> None:
        super().__init__(
            routes,
            server_name="",
            script_name=root_path,
            subdomain="",
            url_scheme="http",
            path_info=path,
            default_method=method,
        )
        self._found: Any = None

    def match(self, *given: Any, **named: Any) -> Any:
        """The rule and its arguments. Raises what werkzeug raises when there is none, which is not cached."""
        if given or named != {"return_rule": True}:
            return super().match(*given, **named)
        if self._found is None:
            self._found = super().match(return_rule=True)
        rule, arguments = self._found
        return rule, dict(arguments)


class Context(RequestContext):
    """Inside `with`, `request` and `current_app` refer to this request and its application. `async with` is Quart's.

    All requests share the application's one context; Quart itself makes one per request and sends signals about it.
    """

    app: "Application"

    def __enter__(self) -> Self:
        """Set the context and match the route."""
        self._tokens = _cv_app.set(self.app.context), _cv_request.set(self)
        self.match_request()
        return self

    def match_request(self) -> None:
        """Match; a path that is spelled otherwise than its route, with escapes or doubled slashes, is unknown.

        The rules of proxies compare paths as they are sent.
        """
        super().match_request()
        matched, path = self.request.url_rule, self.request.scope["raw_path"]
        rules = self.app.url_map.iter_rules() if matched is None else (matched,)
        if not any(_spelled_like(rule.rule).fullmatch(path) for rule in rules):
            self.request.url_rule, self.request.routing_exception = None, NotFound()

    def __exit__(self, *_: object) -> None:
        """Restore the previous context."""
        of_application, of_request = self._tokens
        _cv_app.reset(of_application)
        _cv_request.reset(of_request)


class Application(Quart):
    """scoped: context manager around every request and the sending of its response; yields a callback for the response.

    traced: nested inside it, around the handling. checked: called before a request is handled; may raise. memory:
    bounds the bodies. close_idle: closes the connections without a request; the server's, set before it starts. All
    handlers are coroutine functions. Quart's request hooks, sessions and signals are unsupported: what is registered
    for them is not called. `g` lives as long as the application.
    """

    asgi_http_class = Connection
    request_class = ServiceRequest
    scoped: Callable[[ServiceRequest], AbstractContextManager[Finish]]
    traced: Callable[[ServiceRequest], AbstractContextManager[None]]
    checked: Callable[[ServiceRequest], None]
    memory: MemoryProtocol
    close_idle: Callable[[], None]

    def __init__(self, name: str) -> None:
        super().__init__(name, static_folder=None)
        self.scoped = lambda _: nullcontext(lambda _: None)
        self.traced = lambda _: nullcontext()
        self.checked = lambda _: None
        self.memory = UnlimitedMemory()
        self.close_idle = lambda: None
        self._bound = partial(KeptMatch, self.url_map)  # to a method, a path and a root path
        self._kept = lru_cache(maxsize=KEPT_PATHS)(self._bound)
        self.context = self.app_context()

    def provide_from(self, container: AsyncContainer) -> None:
        """Put the container where quart-dishka looks for a request's own: nothing here is request-scoped."""
        self.context.g.dishka_container = container

    def request_context(self, request: Request) -> Context:
        """A context without a session."""
        return Context(self, request, session=NO_SESSION)

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """An adapter that ignores the host, on which no route depends; those of the usual few paths are cached."""
        if request is None:
            return None
        bound = self._kept if len(request.path) <= LONGEST_KEPT_PATH else self._bound
        return bound(request.method, request.path, request.root_path)

    def ensure_async(self, func: Any) -> Any:
        """Return func as it is; Quart would inspect every handler on every request."""
        return func

    async def handle_request(self, request: Request, finish: Finish = lambda _: None) -> ResponseTypes:
        """Run the handler and the error rendering. finish: called with the response."""
        ours = cast("ServiceRequest", request)  # our `request_class`, which Quart's signature does not know
        ours.body.memory = self.memory
        with self.request_context(request) as context, self.traced(ours):
            try:
                response = await self._answer(ours, context)
            except Exception as error:  # noqa: BLE001  no error handler rendered it; Quart logs and answers it
                response = await self.handle_exception(error)
            finish(response)
            return response

    async def _answer(self, request: ServiceRequest, context: RequestContext) -> ResponseTypes:
        """Exceptions from the check are rendered like those from a handler."""
        answer: ResponseReturnValue | HTTPException
        try:
            self.checked(request)
            answer = await self.dispatch_request(context)
        except Exception as error:  # noqa: BLE001  re-raised if no error handler renders it
            answer = await self.handle_user_exception(error)
            error.__traceback__ = error.__context__ = None  # frames hold essays; some, the error
        return await self.make_response(answer)
