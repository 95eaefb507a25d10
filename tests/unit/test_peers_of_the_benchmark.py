"""The peers of the benchmark are installed by others' tools, which fail without a network."""

from pathlib import Path

import pytest

from bench import peers
from bench.stage import Stage


def test_a_peer_that_cannot_be_installed_ends_the_run_with_the_command_that_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stage = Stage(server_core=0, other_core=0, directory=tmp_path, say=print)
    with pytest.raises(SystemExit, match="npm ci"), peers.portkey(stage):
        pass
