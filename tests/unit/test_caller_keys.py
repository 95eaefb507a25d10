"""Callers are known by the digests of their keys; what is none stops the start and is not shown."""

import hashlib
from pathlib import Path

import pytest

from caller_keys import CALLER_KEYS_FORM
from config import Settings, secret_file
from environment import PREFIX
from tests.unit.refusals import CANARY, Refused

DIGEST, ANOTHER_DIGEST = "ab" * 32, "cd" * 32


def test_callers_are_known_by_the_digests_of_their_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f'{{"cj-assessment": ["{DIGEST}", "{DIGEST.upper()}"], "two": ["{ANOTHER_DIGEST}"]}}\n')
    monkeypatch.setenv(f"{PREFIX}CALLER_API_KEYS_FILE", str(file))
    assert Settings.from_environment().access.callers == {}
    monkeypatch.setenv(f"{PREFIX}AUTH_MODE", "api_key")
    settings = Settings.from_environment()
    assert settings.access.callers == {
        "cj-assessment": {bytes.fromhex(DIGEST)},
        "two": {bytes.fromhex(ANOTHER_DIGEST)},
    }
    assert secret_file("access", "caller_keys") == file
    assert DIGEST not in repr(settings)


def test_a_secret_that_stands_in_the_environment_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert secret_file("access", "caller_keys") is None
    monkeypatch.setenv(f"{PREFIX}CALLER_API_KEYS", f'{{"one": ["{DIGEST}"]}}')
    monkeypatch.setenv(f"{PREFIX}CALLER_API_KEYS_FILE", "/nowhere")
    assert secret_file("access", "caller_keys") is None


@pytest.mark.parametrize(
    "text",
    [
        CANARY,
        f'["{CANARY}"]',
        "{}",
        "[" * 100_000,
        "1" * 5_000,
        f'{{"{CANARY}": "{DIGEST}"}}',
        f'{{"{CANARY}": []}}',
        f'{{"{CANARY}": [7]}}',
        f'{{"{CANARY}": 7}}',
        f'{{"{CANARY}": {{"{DIGEST}": 1}}}}',
        f'{{"one": ["{DIGEST}", "{ANOTHER_DIGEST[:-2]}"]}}',
        f'{{"one": ["{CANARY}"]}}',
        f'{{"one": ["{DIGEST}0"]}}',
        f'{{"one": ["{DIGEST} "]}}',
        f'{{"one": ["{DIGEST}", "{hashlib.sha256().hexdigest().upper()}"]}}',
        f'{{"{CANARY} x": ["{DIGEST}"]}}',
        f'{{"{CANARY.upper()}": ["{DIGEST}"]}}',
        f'{{"admin": ["{DIGEST}"], "{CANARY}": ["{ANOTHER_DIGEST}"]}}',
        f'{{"anonymous": ["{DIGEST}"]}}',
        f'{{"{CANARY}": ["{DIGEST}"], "{CANARY}": ["{ANOTHER_DIGEST}"]}}',
        f'{{"{CANARY}": ["{DIGEST}"], "two": ["{DIGEST}"]}}',
    ],
)
def test_keys_of_callers_that_are_none_stop_the_start_and_are_not_shown(text: str, refused: Refused) -> None:
    (told,) = refused(AUTH_MODE="api_key", CALLER_API_KEYS=text).splitlines()
    assert told.startswith(f"{PREFIX}CALLER_API_KEYS: ")
    assert DIGEST not in told


@pytest.mark.parametrize("text", [CANARY, "[" * 100_000, "{}", f'["{CANARY}"]'])
def test_keys_of_callers_that_are_no_such_json_are_told_their_form(text: str, refused: Refused) -> None:
    assert refused(AUTH_MODE="api_key", CALLER_API_KEYS=text) == f"{PREFIX}CALLER_API_KEYS: {CALLER_KEYS_FORM}."


def test_a_service_that_would_let_nobody_in_does_not_start(refused: Refused) -> None:
    assert refused(AUTH_MODE="api_key").startswith(f"{PREFIX}AUTH_MODE: api_key needs CALLER_API_KEYS")
