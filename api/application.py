"""Quart as this service uses it: one task for a request, and around each request a scope in the place of hooks."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from quart import Quart
from quart.ctx import RequestContext
from quart.globals import request_ctx
from quart.typing import ResponseReturnValue, ResponseTypes
from quart.wrappers import BaseRequestWebsocket
from werkzeug.routing import MapAdapter

from api.connection import Connection, ServiceRequest

Finish = Callable[[ResponseTypes], None]


class Application(Quart):
    """scoped: what every request is in; it gives what is called with the answer. traced: what is inside of that.

    checked: before anything is done with it; may raise. Every handler is a coroutine function.
    """

    asgi_http_class = Connection
    request_class = ServiceRequest
    scoped: Callable[[ServiceRequest], AbstractContextManager[Finish]]
    traced: Callable[[ServiceRequest], AbstractContextManager[None]]
    checked: Callable[[ServiceRequest], None]

    def __init__(self, name: str) -> None:
        super().__init__(name, static_folder=None)
        self.scoped = lambda _: nullcontext(lambda _: None)
        self.traced = lambda _: nullcontext()
        self.checked = lambda _: None

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Routes do not depend on the host, so it is not looked for."""
        if request is None:
            return None
        return self.url_map.bind(
            "", request.root_path, url_scheme=request.scheme, default_method=request.method, path_info=request.path
        )

    def ensure_async(self, func: Any) -> Any:
        """Quart would ask every handler at every request."""
        return func

    async def full_dispatch_request(self, request_context: RequestContext | None = None) -> ResponseTypes:
        """Hooks, handler and what renders errors, all of them in the request's scope."""
        asked = _asked(request_context)
        with self.scoped(asked) as finish, self.traced(asked):
            try:
                response = await super().full_dispatch_request(request_context)
            except Exception as error:  # noqa: BLE001  what no handler rendered; Quart logs and answers it
                response = await self.handle_exception(error)
            finish(response)
            return response

    async def preprocess_request(self, request_context: RequestContext | None = None) -> ResponseReturnValue | None:
        """What a check raises is rendered like what a handler raises."""
        self.checked(_asked(request_context))
        return await super().preprocess_request(request_context)


def _asked(context: RequestContext | None) -> ServiceRequest:
    return cast("ServiceRequest", (context or request_ctx).request)
