"""Quart as this service uses it: around each request a scope in the place of hooks, and one container for all."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from typing import Any, Self, cast

from dishka import AsyncContainer
from quart import Quart, Request
from quart.ctx import RequestContext
from quart.globals import _cv_app, _cv_request
from quart.sessions import NullSession
from quart.typing import ResponseReturnValue, ResponseTypes
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter

from api.body import UnlimitedMemory
from api.connection import Connection, ServiceRequest
from protocols import MemoryProtocol

Finish = Callable[[ResponseTypes], None]
NO_SESSION = NullSession()
KEPT_PATHS, LONGEST_KEPT_PATH = 64, 100


class KeptMatch(MapAdapter):
    """Of one method and path: the route is looked for once, and only Quart's own question is answered by it."""

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
        """The rule and its arguments. Raises what werkzeug raises when there is none, which is not kept."""
        if given or named != {"return_rule": True}:
            return super().match(*given, **named)
        if self._found is None:
            self._found = super().match(return_rule=True)
        rule, arguments = self._found
        return rule, dict(arguments)


class Context(RequestContext):
    """Inside of `with`, `request` and `current_app` mean this request and its application. `async with` is Quart's.

    All requests share the application's one context, of which Quart makes one for each, with signals that it is there.
    """

    app: "Application"

    def __enter__(self) -> Self:
        """Find the route as well."""
        self._tokens = _cv_app.set(self.app.context), _cv_request.set(self)
        self.match_request()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what was current before."""
        of_application, of_request = self._tokens
        _cv_app.reset(of_application)
        _cv_request.reset(of_request)


class Application(Quart):
    """scoped: what every request is in; it gives what is called with the answer. traced: what is inside of that.

    checked: before anything is done with it; may raise. memory: for bodies. Every handler is a coroutine function.
    Quart's hooks, sessions and signals of a request are not used, and what is registered for them is not called. `g`
    lives as long as this.
    """

    asgi_http_class = Connection
    request_class = ServiceRequest
    scoped: Callable[[ServiceRequest], AbstractContextManager[Finish]]
    traced: Callable[[ServiceRequest], AbstractContextManager[None]]
    checked: Callable[[ServiceRequest], None]
    memory: MemoryProtocol

    def __init__(self, name: str) -> None:
        super().__init__(name, static_folder=None)
        self.scoped = lambda _: nullcontext(lambda _: None)
        self.traced = lambda _: nullcontext()
        self.checked = lambda _: None
        self.memory = UnlimitedMemory()
        self._bound = partial(KeptMatch, self.url_map)  # to a method, a path and a root path
        self._kept = lru_cache(maxsize=KEPT_PATHS)(self._bound)
        self.context = self.app_context()

    def provide_from(self, container: AsyncContainer) -> None:
        """Handlers find it where quart-dishka looks for one of their request: nothing lives that short."""
        self.context.g.dishka_container = container

    def request_context(self, request: Request) -> Context:
        """Nothing is remembered between two requests."""
        return Context(self, request, session=NO_SESSION)

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Routes do not depend on the host, so it is not looked for; callers ask for the same few paths."""
        if request is None:
            return None
        bound = self._kept if len(request.path) <= LONGEST_KEPT_PATH else self._bound
        return bound(request.method, request.path, request.root_path)

    def ensure_async(self, func: Any) -> Any:
        """Quart would ask every handler at every request."""
        return func

    async def handle_request(self, request: Request) -> ResponseTypes:
        """The handler and what renders errors, both of them in the request's scope."""
        asked = cast("ServiceRequest", request)
        asked.body.memory = self.memory
        with self.request_context(request) as context, self.scoped(asked) as finish, self.traced(asked):
            try:
                response = await self._answer(asked, context)
            except Exception as error:  # noqa: BLE001  what no handler rendered; Quart logs and answers it
                response = await self.handle_exception(error)
            finish(response)
            return response

    async def _answer(self, asked: ServiceRequest, context: RequestContext) -> ResponseTypes:
        """What the check raises is rendered like what a handler raises."""
        answer: ResponseReturnValue | HTTPException
        try:
            self.checked(asked)
            answer = await self.dispatch_request(context)
        except Exception as error:  # noqa: BLE001  raised again when nobody renders it
            answer = await self.handle_user_exception(error)
            error.__traceback__ = error.__context__ = None  # the frames hold the question, and some of them the error
        return await self.make_response(answer)
