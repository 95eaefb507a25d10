"""The locks that a fresh machine installs from are exports of pdm.lock, hashes included, and name no registry."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = {
    "requirements.lock": {"default"},
    "requirements-dev.lock": {"default", "dev"},
    "requirements-bench.lock": {"bench"},
}
BUILT_FOR = {
    "x86_64": r"any|manylinux(1|2014|_2_(\d|1\d|2[0-8]))_x86_64",
    "aarch64": r"any|manylinux(2014|_2_(\d|1\d|2[0-8]))_aarch64",
    "macOS": r"any|macosx_1[0-4]_\d+_(arm64|universal2)",
}


def exported(name: str) -> dict[tuple[str, str], set[str]]:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    packages = {}
    for line in text.splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", line)
        if match:
            packages[match[1].lower(), match[2]] = set(re.findall(r"--hash=(sha256:[0-9a-f]+)", line))
    return packages


def locked(groups: set[str]) -> dict[tuple[str, str], set[str]]:
    packages: dict[tuple[str, str], set[str]] = {}
    for package in tomllib.loads((ROOT / "pdm.lock").read_text())["package"]:
        if groups & set(package["groups"]):
            hashes = {file["hash"] for file in package["files"]}
            packages.setdefault((package["name"].lower(), package["version"]), set()).update(hashes)
    return packages


@pytest.mark.parametrize(("name", "groups"), LOCKS.items())
def test_the_requirements_are_what_the_project_lock_says(name: str, groups: set[str]) -> None:
    assert exported(name) == locked(groups)


@pytest.mark.parametrize("name", [*LOCKS, "pdm.lock", "pyproject.toml"])
def test_no_lock_names_a_registry(name: str) -> None:
    assert not re.search(r"https?://(?!github\.com/hadolint)", (ROOT / name).read_text())


def test_what_the_benchmark_measures_beside_us_is_pinned_and_hashed() -> None:
    peers = ROOT / "bench" / "peers"
    python = exported("bench/peers/litellm.lock")
    node = json.loads((peers / "package-lock.json").read_text())["packages"]
    assert len(python) > 100
    assert all(python.values())
    assert all("integrity" in package for name, package in node.items() if name)
    assert not [name for name, package in node.items() if "resolved" in package]
    assert "://" not in (peers / "litellm.lock").read_text()


@pytest.mark.parametrize("minor", range(11, 15))
@pytest.mark.parametrize("system", BUILT_FOR)
def test_no_compiler_is_needed_where_the_readme_says_so(system: str, minor: int) -> None:
    def is_built_for_it(file: dict[str, str]) -> bool:
        name, _, kind = file["file"].rpartition(".")
        if kind != "whl":
            return False
        python, abi, systems = name.split("-")[-3:]
        oldest = 2 if abi == "abi3" else minor
        usable = {"py3", *(f"cp3{version}" for version in range(oldest, minor + 1))}
        return bool(usable & {*python.split(".")}) and any(
            re.fullmatch(BUILT_FOR[system], one) for one in systems.split(".")
        )

    missing = [
        package["name"]
        for package in tomllib.loads((ROOT / "pdm.lock").read_text())["package"]
        if {"default", "dev"} & {*package["groups"]}
        and "sys_platform ==" not in package.get("marker", "")
        and not any(map(is_built_for_it, package["files"]))
    ]
    assert missing == []
