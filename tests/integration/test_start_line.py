"""The one line that a start leaves in the log says who judges and where to ask."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from config import PREFIX, Settings
from startup_setup import create_app

Lines = list[dict[str, Any]]


async def start_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: Mapping[str, str]
) -> dict[str, Any]:
    """Start and stop a service in production, where a line is a JSON object."""
    for name, value in {"ENVIRONMENT": "production", **variables}.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    async with create_app(Settings.from_environment()).test_app():
        pass
    lines: Lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    (started,) = [line for line in lines if line["event"] == "service_started"]
    return started


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("0.0.0.0", "localhost"),  # noqa: S104  nothing listens here
        ("::", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("10.1.2.3", "10.1.2.3"),
        ("::1", "[::1]"),
        ("judge.internal", "judge.internal"),
    ],
)
async def test_the_start_line_says_where_to_ask(
    host: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = await start_line(monkeypatch, capsys, {"USE_MOCK_LLM": "true", "HOST": host, "PORT": "9090"})
    assert line["ask"] == f"POST http://{shown}:9090/api/v1/comparison"
