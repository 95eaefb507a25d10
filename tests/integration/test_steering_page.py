"""Every command that docs/steering.md shows does what it says."""

import shlex
from pathlib import Path

import pytest

from tests.integration.contract import ADMIN, KEY, mocked, serving

PAGE = Path(__file__).parents[2] / "docs" / "steering.md"
SHOWN = {"$HOST": ADMIN, "$KEY": f"X-API-Key: {KEY}", "$JSON": "Content-Type: application/json"}
COMMANDS = [line for line in PAGE.read_text().splitlines() if line.startswith("curl ")]
MEANS_ANOTHER_VERSION = "If-Match"


def read(command: str) -> tuple[str, str, dict[str, str], str | None]:
    """Method, path, headers and body, as curl understands them."""
    for name, value in SHOWN.items():
        command = command.replace(name, value)
    words = iter(shlex.split(command, comments=True)[1:])
    method, path, headers, body = "GET", "", {}, None
    for word in words:
        match word:
            case "-X":
                method = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-d":
                body = next(words)
            case "-s":
                pass
            case _:
                path = word
    return method, path, headers, body


def test_the_page_shows_every_act() -> None:
    shown = {(method, path.split("/")[4]) for method, path, _, _ in map(read, COMMANDS)}
    assert shown == {
        *(("GET", name) for name in ("settings", "circuits", "changes")),
        ("PATCH", "settings"),
        ("DELETE", "settings"),
        ("PUT", "circuits"),
        ("DELETE", "circuits"),
        ("POST", "cache"),
        ("POST", "alerts"),
    }


@pytest.mark.parametrize("command", COMMANDS)
async def test_each_command_works(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, path, headers, body = read(command)
    async with serving(mocked(monkeypatch, ADMIN_API_KEY=KEY)) as client:
        response = await getattr(client, method.lower())(path, headers=headers, data=body)
        assert response.status_code == (412 if MEANS_ANOTHER_VERSION in command else 200)
