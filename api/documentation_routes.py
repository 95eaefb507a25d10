"""The documentation of this API: /openapi.json for programs, /docs for people."""

import asyncio
import re

import orjson
from quart import Blueprint, Quart, Response, current_app, request

from api.openapi.document import Route, document
from api.static_texts import StaticText, page

PLACEHOLDER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
EXTENSION = "openapi"
PAGE = page("documentation.html")

blueprint = Blueprint("documentation", __name__)


class Description:
    """The OpenAPI document of an application's routes, built on first use in a thread, because it takes a while."""

    def __init__(self, app: Quart) -> None:
        self._app = app
        self._turn = asyncio.Lock()
        self._text: StaticText | None = None

    async def text(self) -> StaticText:
        """The document; concurrent requests wait for the same one."""
        async with self._turn:
            if self._text is None:
                self._text = await asyncio.to_thread(self._made)
        return self._text

    def _made(self) -> StaticText:
        return StaticText(text=orjson.dumps(document(routes_of(self._app))), content_type="application/json")


def install(app: Quart) -> None:
    """Describe the routes registered at the time of the first request."""
    app.extensions[EXTENSION] = Description(app)


def routes_of(app: Quart) -> frozenset[Route]:
    """Methods and paths in OpenAPI notation; HEAD is implied by GET."""
    return frozenset(
        (method, PLACEHOLDER.sub(r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    )


@blueprint.get("/openapi.json")
async def describe() -> Response:
    """The OpenAPI document of the service as it runs."""
    description: Description = current_app.extensions[EXTENSION]
    return (await description.text()).answer(request)


@blueprint.get("/docs")
async def show() -> Response:
    """The page that displays it."""
    return PAGE.answer(request)
