"""The operations page. It contains no figures: it fetches them, with a key where one is required."""

from quart import Blueprint, Response, request

from api.static_texts import page

PAGE = page("operations.html")

blueprint = Blueprint("page", __name__)


@blueprint.get("/")
async def show() -> Response:
    """The page, or 304."""
    return PAGE.answer(request)
