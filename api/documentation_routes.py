"""The description of this interface: for programs at /openapi.json, for people at /docs."""

import asyncio
import re
from functools import cache

import orjson
from quart import Blueprint, Quart, Response, current_app, request

from api.kept_texts import Kept, page
from api.openapi.document import Route, document

PLACEHOLDER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
EXTENSION = "openapi"
PAGE = page("documentation.html")

blueprint = Blueprint("documentation", __name__)


def install(app: Quart) -> None:
    """Describe the routes, once; making it takes some tenths of a second."""

    @cache
    def described() -> Kept:
        return Kept(text=orjson.dumps(document(routes_of(app))), content_type="application/json")

    app.extensions[EXTENSION] = described


def routes_of(app: Quart) -> frozenset[Route]:
    """Method and path as OpenAPI writes it; HEAD goes without saying."""
    return frozenset(
        (method, PLACEHOLDER.sub(r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    )


@blueprint.get("/openapi.json")
async def describe() -> Response:
    """The OpenAPI document of the service as it runs."""
    kept: Kept = await asyncio.to_thread(current_app.extensions[EXTENSION])
    return kept.answer(request)


@blueprint.get("/docs")
async def show() -> Response:
    """The page that reads it."""
    return PAGE.answer(request)
