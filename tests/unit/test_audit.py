"""The audit fails for a known weakness, and says so when nobody answered."""

import json
import subprocess

import pytest

from tools import audit


def answering(monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str = "") -> None:
    done = subprocess.CompletedProcess[str](args=[], returncode=1, stdout=stdout, stderr=stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)


@pytest.mark.parametrize(("weaknesses", "code"), [([], 0), ([{"id": "PYSEC-1"}], 1)])
def test_a_known_weakness_fails_and_none_passes(
    weaknesses: list[dict[str, str]], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, json.dumps({"dependencies": [{"name": "quart", "vulns": weaknesses}]}))
    assert audit.main([]) == code
    printed = capsys.readouterr()
    assert f"{len(weaknesses)} known vulnerabilities" in printed.out
    assert ("quart: PYSEC-1" in printed.err) is bool(weaknesses)


def test_an_index_without_advisories_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, "", "first\nnot found")
    assert audit.main([]) == 0
    assert "NOT AUDITED" in (out := capsys.readouterr().out)
    assert "not found" in out


def test_an_index_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("pip_audit", audit.LONGEST_S)

    monkeypatch.setattr(subprocess, "run", hang)
    assert audit.main([]) == 0
    assert "in time" in capsys.readouterr().out
