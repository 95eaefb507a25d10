"""What a developer's service finds, and that the tool which shows the settings shows just that."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from environment import PREFIX
from tools.run import run_environment

ROOT = Path(__file__).parents[2]
MOCK, PORT, SEED = f"{PREFIX}USE_MOCK_LLM", f"{PREFIX}PORT", f"{PREFIX}MOCK_SEED"


@pytest.fixture(autouse=True)
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a .env of its own, and the Makefile by a path without spaces."""
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".env"


def test_the_mock_judges_when_nobody_says_otherwise(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_environment()[MOCK] == "true"
    env_file.write_text(f"{MOCK}=false\n")
    assert run_environment()[MOCK] == "false"
    monkeypatch.setenv(MOCK, "1")
    assert run_environment()[MOCK] == "1"


def test_the_environment_goes_before_the_file(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text(f"{PORT}=9001\n{SEED}=7\n")
    monkeypatch.setenv(PORT, "9002")
    found = run_environment()
    assert (found[PORT], found[SEED]) == ("9002", "7")
    assert found["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_a_blank_variable_hides_nothing_below_it(blank: str, env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text(f"{PORT}=9001\n{MOCK}='{blank}'\n{SEED}\n")
    for name in (PORT, MOCK):
        monkeypatch.setenv(name, blank)
    found = run_environment()
    assert (found[PORT], found[MOCK]) == ("9001", "true")
    assert SEED not in found


def test_a_file_that_is_no_text_is_refused_in_one_line(env_file: Path) -> None:
    env_file.write_text(f"{PORT}=9001\n", encoding="utf-16")
    with pytest.raises(SystemExit, match=r"\.env cannot be read"):
        run_environment()


def test_the_settings_are_shown_as_a_run_would_find_them(env_file: Path) -> None:
    env_file.write_text(f"{PORT}=9001\n{SEED}=7\n")
    shown = subprocess.run(
        [sys.executable, "-m", "tools.settings"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), PORT: "", SEED: "8"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    for expected in (f"{PORT} 9001 .env ", f"{MOCK} true make run ", f"{SEED} 8 the environment "):
        assert [line for line in lines if line.startswith(expected)]


def test_a_venv_that_was_left_without_pip_is_not_taken_for_a_good_one(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$2" = venv ] && mkdir -p .venv/bin && touch .venv/bin/python && exit 1\nexit 0\n')
    python.chmod(0o755)
    made = subprocess.run(["make", "PYTHON=./python", ".venv/bin/python"], capture_output=True, check=False)  # noqa: S607  found by its name
    assert made.returncode == 2
    assert not (tmp_path / ".venv/bin/python").exists()


@pytest.mark.parametrize("system", [None, sys.executable], ids=["gone", "newer"])
def test_a_venv_whose_python_is_gone_or_newer_is_made_anew(system: str | None, tmp_path: Path) -> None:
    found, stamp = tmp_path / ".venv/bin/python", tmp_path / ".venv/run.stamp"
    (tmp_path / ".venv/lib/python3.10/site-packages").mkdir(parents=True)
    (tmp_path / ".venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    found.parent.mkdir()
    found.symlink_to(system or tmp_path / "python3.10")
    stamp.touch()
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$2" = venv ] && mkdir -p .venv/bin && touch .venv/bin/python\nexit 0\n')
    python.chmod(0o755)
    subprocess.run(["make", "PYTHON=./python", ".venv/bin/python"], check=True)  # noqa: S607  found by its name
    assert found.is_file()
    assert not stamp.exists()


@pytest.mark.parametrize("made_so_far", ["lib/python3.11/site-packages", "Scripts"], ids=["by-another-make", "Windows"])
def test_a_venv_in_which_python_is_not_yet_is_left_alone(made_so_far: str, tmp_path: Path) -> None:
    found = tmp_path / ".venv" / made_so_far
    found.mkdir(parents=True)
    subprocess.run(["make", "help"], check=True, capture_output=True)  # noqa: S607  found by its name
    assert found.is_dir()


def test_a_venv_outlives_an_environment_in_which_no_python_starts(tmp_path: Path) -> None:
    venv.create(tmp_path / ".venv")
    subprocess.run(
        ["make", "help"],  # noqa: S607  found by its name
        env={**os.environ, "PYTHONHOME": "/nowhere"},
        check=True,
        capture_output=True,
    )
    assert (tmp_path / ".venv").is_dir()


@pytest.mark.parametrize("missing", ["_sqlite3", "_ssl"])
def test_a_python_that_was_built_without_what_the_service_needs_is_refused(missing: str, tmp_path: Path) -> None:
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError('{missing}')\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH=. exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    refused = subprocess.run(
        ["make", "PYTHON=./python", ".venv/bin/python"],  # noqa: S607  found by its name
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Python 3.11 or newer with sqlite3 and ssl is needed" in refused.stdout
    assert not (tmp_path / ".venv").exists()


def test_the_packages_are_installed_here_whatever_other_projects_set(tmp_path: Path) -> None:
    names = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_INDEX_URL")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\nenv\n')
    python.chmod(0o755)
    (tmp_path / "requirements.lock").touch()
    told = subprocess.run(
        ["make", ".venv/run.stamp"],  # noqa: S607  found by its name
        env={**os.environ, **dict.fromkeys(names, "elsewhere")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {line for line in told.stdout.splitlines() if line.endswith("=elsewhere")} == {"PIP_INDEX_URL=elsewhere"}
    assert " --no-user " in told.stdout
    assert "PYTHONUTF8=1" in told.stdout.splitlines(), "this repository's files are read as UTF-8, whatever the locale"


def test_a_venv_without_pip_is_reported_with_the_way_out(tmp_path: Path) -> None:
    venv.create(tmp_path / ".venv")
    (tmp_path / "requirements.lock").touch()
    failed = subprocess.run(["make", ".venv/run.stamp"], capture_output=True, text=True, check=False)  # noqa: S607  found by its name
    assert failed.returncode == 2
    assert "rm -rf .venv" in failed.stdout
