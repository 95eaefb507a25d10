"""A test client that holds every answer against the published document."""

from functools import cache
from typing import Any

from quart import Quart, Response
from quart.testing import QuartClient
from werkzeug.datastructures import Headers

from api.documentation_routes import routes_of
from api.openapi.document import Route, document
from tests.openapi import Answered, Described


class DescribedClient(QuartClient):
    """Raises AssertionError or jsonschema.ValidationError for an answer that the document does not promise."""

    async def open(self, path: str, *, method: str = "GET", **asked: Any) -> Response:
        """Ask as usual."""
        response: Response = await super().open(path, method=method, **asked)
        answer = Answered(
            method=method,
            path=path,
            status=response.status_code,
            headers=lower_case(response.headers),
            body=await response.get_data(as_text=False),
        )
        described(routes_of(self.app)).fits(answer)
        return response


def lower_case(headers: Headers) -> dict[str, str]:
    """With names that can be compared."""
    return {name.lower(): value for name, value in headers.items()}


@cache
def described(routes: frozenset[Route]) -> Described:
    """Built once for each set of routes."""
    return Described(document(routes))


def hold_to_the_document(app: Quart) -> Quart:
    """Let its test clients look at every answer."""
    app.test_client_class = DescribedClient  # type: ignore[assignment]  # as Quart itself has it
    return app
