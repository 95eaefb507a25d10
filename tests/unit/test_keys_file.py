"""Keys change while the service runs, by their file; a file that cannot be read takes no key away."""

import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from implementations.access import keys_file
from implementations.access.key_ring import KeyRing, digest_of
from implementations.access.keys_file import KeysFile
from tests.fakes import new_metrics, sample
from tools import caller_key

FIRST, SECOND = "llmp_first-key", "llmp_second-key"


def written(**keys: list[str]) -> str:
    listed = ", ".join(
        f'"{name}": [{", ".join(f"{chr(34)}{digest_of(key).hex()}{chr(34)}" for key in owned)}]'
        for name, owned in keys.items()
    )
    return f"{{{listed}}}"


class Harness:
    """A file of keys, and what polls it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.json"
        self.path.write_text(written(one=[FIRST]))
        self.ring = KeyRing({"one": frozenset({digest_of(FIRST)})})
        self.metrics = new_metrics()
        self.file = KeysFile(self.path, self.ring, metrics=self.metrics)

    def owners(self) -> list[str | None]:
        return [self.ring.owner_of(key) for key in (FIRST, SECOND)]

    def reloads(self, result: str) -> float | None:
        return sample(self.metrics, "llm_provider_caller_key_reloads_total", result=result)

    def is_refused(self) -> float | None:
        return sample(self.metrics, "llm_provider_caller_keys_refused")


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


async def test_a_key_is_rotated_in_two_steps(harness: Harness) -> None:
    await harness.file.reload()
    assert harness.reloads("taken") == 0.0
    harness.path.write_text(written(one=[FIRST, SECOND]))
    await harness.file.reload()
    assert harness.owners() == ["one", "one"]
    harness.path.write_text(written(one=[SECOND]))
    await harness.file.reload()
    assert harness.owners() == [None, "one"]
    assert (harness.reloads("taken"), harness.reloads("refused")) == (2.0, 0.0)


async def test_a_new_caller_has_series_before_it_asks(harness: Harness) -> None:
    harness.path.write_text(written(one=[FIRST], two=[SECOND]))
    with capture_logs() as lines:
        await harness.file.reload()
    assert harness.owners() == ["one", "two"]
    assert sample(harness.metrics, "llm_provider_caller_requests_total", caller="two", status="success") == 0.0
    assert lines == [{"event": "caller_keys_changed", "log_level": "warning", "callers": ["one", "two"]}]


@pytest.mark.parametrize(
    "content", ["", "{", "{}", "[]", '{"one": []}', '{"one": ["llmp_first-key"]}', "\xff", "x" * 70_000]
)
async def test_what_cannot_be_read_is_told_once_and_changes_nothing(content: str, harness: Harness) -> None:
    harness.path.write_text(content, encoding="latin-1")
    with capture_logs() as lines:
        await harness.file.reload()
        await harness.file.reload()
    assert harness.owners() == ["one", None]
    assert (harness.reloads("taken"), harness.reloads("refused")) == (0.0, 1.0)
    assert harness.is_refused() == 1.0
    assert [line["event"] for line in lines] == ["caller_keys_refused"]
    assert not [private for private in (FIRST, "xx", "\xff") if private in str(lines)]


async def test_a_file_that_is_gone_takes_no_key_away_and_one_that_is_back_is_read(harness: Harness) -> None:
    harness.path.unlink()
    await harness.file.reload()
    assert harness.owners() == ["one", None]
    harness.path.write_text(written(one=[SECOND]))
    assert harness.is_refused() == 1.0
    await harness.file.reload()
    assert (harness.owners(), harness.is_refused()) == ([None, "one"], 0.0)


async def test_a_volume_that_hangs_is_told_once_and_takes_one_thread_until_it_answers(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings, answers = [], threading.Event()

    def hanging(path: Path) -> str:
        readings.append(path)
        answers.wait()
        return written(one=[SECOND])

    monkeypatch.setattr(keys_file, "secret_in", hanging)
    monkeypatch.setattr(keys_file, "READ_TIMEOUT_S", 0.01)
    with capture_logs() as lines:
        await harness.file.reload()
        await harness.file.reload()
    assert [line["event"] for line in lines] == ["caller_keys_refused"]
    assert (len(readings), harness.owners(), harness.is_refused()) == (1, ["one", None], 1.0)
    monkeypatch.setattr(keys_file, "READ_TIMEOUT_S", 30.0)
    answers.set()
    await harness.file.reload()
    assert (len(readings), harness.owners(), harness.is_refused()) == (1, [None, "one"], 0.0)


async def test_a_link_that_is_swapped_is_noticed(harness: Harness, tmp_path: Path) -> None:
    """As a Kubernetes volume does it; size and times may be those of the file before."""
    other = tmp_path / "..data"
    other.write_text(written(one=[SECOND]))
    harness.path.unlink()
    harness.path.symlink_to(other)
    await harness.file.reload()
    assert harness.owners() == [None, "one"]


def test_the_key_that_the_tool_makes_opens_with_the_digest_that_it_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert caller_key.main(["cj-assessment"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith(" ")]
    key, entry = lines
    assert len(key) == len("llmp_") + 43
    assert entry == f'{{"cj-assessment":["{digest_of(key).hex()}"]}}'


@pytest.mark.parametrize("name", ["Admin", "admin", "anonymous", "a b", "ä", "x" * 65, ""])
def test_the_tool_refuses_a_name_that_the_service_would(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert caller_key.main([name]) == 2
    assert "llmp_" not in capsys.readouterr().out


def test_every_key_is_another(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(10):
        caller_key.main(["one"])
    keys = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("llmp_")]
    assert len(set(keys)) == 10
