"""The page of whoever looks after the service. It holds no figure: it asks for them, with a key where one is wanted."""

from quart import Blueprint, Response, request

from api.kept_texts import page

PAGE = page("operations.html")

blueprint = Blueprint("page", __name__)


@blueprint.get("/")
async def show() -> Response:
    """All of it, or that it is the same."""
    return PAGE.answer(request)
