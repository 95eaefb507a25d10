"""Shared by the admin routes: the key, who acts, which version If-Match names, a small JSON body."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from api.request_reading import complaints, read_object
from api.request_scope import attribute_to, current_scope
from api.shown_key import shown_key
from api_models import ADMIN
from exceptions import InvalidQueryError
from protocols import AdminAccessProtocol, Administrator

T = TypeVar("T")
Body = TypeVar("Body", bound=BaseModel)


def check(access: AdminAccessProtocol) -> None:
    """Require the administrator's key. Every admin route starts with this."""
    scope = current_scope()
    access.check(shown_key(scope.request), peer=scope.peer())
    attribute_to(ADMIN)


def administrator() -> Administrator:
    """Who acts, identified by the client's address."""
    return Administrator(actor=f"{ADMIN}@{current_scope().peer()}", request_id=current_scope().correlation_id)


def meant_version() -> Callable[[int], bool]:
    """A predicate: whether If-Match names this version; always true without the header."""
    request = current_scope().request
    if "If-Match" not in request.headers:
        return lambda _: True
    return lambda version: request.if_match.contains(str(version))


async def json_object() -> dict[str, object]:
    """The body. Raises InvalidQueryError and UnsupportedContentTypeError."""
    return await read_object(current_scope().request)


async def read(model: type[Body]) -> Body:
    """The body, validated. Raises likewise."""
    try:
        return model.model_validate(await json_object())
    except ValidationError as error:
        raise InvalidQueryError(complaints(error)) from None


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which continues when the caller disconnects: no change is left unaudited."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    await asyncio.wait((task,))  # no `shield`, which logs its exception from Python 3.14 on if the caller has gone
    return task.result()
