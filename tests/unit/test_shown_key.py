"""A key is read from a request as it was sent."""

import pytest
from quart import Quart

from api.shown_key import shown_key

app = Quart("test")


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
@pytest.mark.parametrize("key", ["a plain key", "ends in \u00c5", "ends in \u00e0", "\u9375 \U0001f511"])
async def test_whatever_its_last_letter_is(key: str, header: str) -> None:
    text = f"Bearer {key}" if header == "Authorization" else key
    async with app.test_request_context("/", headers={header: text.encode().decode("latin-1")}) as context:
        assert shown_key(context.request) == key


@pytest.mark.parametrize("headers", [{}, {"Authorization": "a-plain-key"}, {"Authorization": "Basic a-plain-key"}])
async def test_nothing_else_is_a_key(headers: dict[str, str]) -> None:
    async with app.test_request_context("/", headers=headers) as context:
        assert shown_key(context.request) is None
