"""The README's example answer is what the service answers to the example request."""

import re
from pathlib import Path

import orjson
import pytest

from config import Settings
from startup_setup import create_app

ROOT = Path(__file__).parents[2]
SHOWN = re.search(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
EXAMPLE = ROOT / "examples" / "comparison.json"
CHANGING = {"correlation_id", "response_time_ms"}


def assert_alike(shown: object, real: object) -> None:
    """Equal, but for a text that the README cuts off at the dots, and for what changes with each call."""
    if isinstance(shown, dict) and isinstance(real, dict):
        assert shown.keys() == real.keys()
        for key in shown.keys() - CHANGING - {"duration_ms"}:
            assert_alike(shown[key], real[key])
    elif isinstance(shown, list) and isinstance(real, list):
        assert len(shown) == len(real)
        for one, other in zip(shown, real, strict=True):
            assert_alike(one, other)
    elif isinstance(shown, str) and shown.endswith("…"):
        assert str(real).startswith(shown.rstrip("… "))
    else:
        assert shown == real


async def test_the_readme_shows_the_answer_to_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PROVIDER_SERVICE_USE_MOCK_LLM", "true")
    monkeypatch.setenv("LLM_PROVIDER_SERVICE_MOCK_ERROR_RATE", "0")
    assert SHOWN is not None
    async with create_app(Settings.from_environment()).test_app() as running:
        response = await running.test_client().post(
            "/api/v1/comparison", data=EXAMPLE.read_bytes(), headers={"Content-Type": "application/json"}
        )
        real = orjson.loads(await response.get_data())
    assert_alike(orjson.loads(SHOWN[1]), real)


@pytest.mark.parametrize(("letter", "name"), [("a", "fair"), ("b", "strong")])
def test_the_example_request_holds_the_example_essays(letter: str, name: str) -> None:
    request = orjson.loads(EXAMPLE.read_bytes())
    assert request[f"essay_{letter}"] == (ROOT / "examples" / "essays" / f"{name}.txt").read_text()
