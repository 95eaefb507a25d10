"""Filling the cache from a file: what is asked, how much at once, what is noted, and when it gives up."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tools.warming import MOST_FAILURES_IN_A_ROW, Fate, Forecast, Journal, Outcome, Tally, warm

ROOT = Path(__file__).parents[2]
PRICED = '{"essay_a":"word after word","llm_config_overrides":{"model_override":"priced"}}'
BOUGHT = Outcome(fate=Fate.BOUGHT, elapsed_s=1.0, cost_usd=0.5)
HIT = Outcome(fate=Fate.HIT, elapsed_s=0.1)
FAILED = Outcome(fate=Fate.FAILED, elapsed_s=0.1, error="RATE_LIMIT")


def listed(directory: Path, count: int) -> Path:
    path = directory / "pairs.jsonl"
    path.write_text("".join(f'{{"user_prompt": "{number}"}}\n\n' for number in range(count)))
    return path


class Service:
    """Answers as told and knows how many asked at once."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.asked: list[str] = []
        self.most_at_once = 0
        self._outcomes = outcomes
        self._now = 0

    async def ask(self, line: str) -> Outcome:
        self.asked.append(line)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        return self._outcomes[(len(self.asked) - 1) % len(self._outcomes)]


async def run(journal: Journal, service: Service, *, concurrency: int = 1) -> tuple[bool, Tally]:
    tally = Tally()
    journal.begin()
    whole = await warm(journal.open_lines(), ask=service.ask, concurrency=concurrency, tally=tally, show=journal.note)
    return whole, tally


async def test_every_line_is_asked_once_and_never_more_than_so_many_at_once(tmp_path: Path) -> None:
    service = Service(BOUGHT)
    whole, tally = await run(Journal(listed(tmp_path, 20)), service, concurrency=3)

    assert whole
    assert (len(set(service.asked)), len(service.asked), service.most_at_once) == (20, 20, 3)
    assert (tally.counts[Fate.BOUGHT], tally.cost_usd) == (20, 10.0)


async def test_a_second_run_asks_only_for_what_is_not_done(tmp_path: Path) -> None:
    pairs = listed(tmp_path, 3)
    await run(Journal(pairs), Service(BOUGHT, FAILED, HIT))
    again = Service(BOUGHT)
    await run(Journal(pairs), again)

    assert again.asked == ['{"user_prompt": "1"}']


def test_a_byte_order_mark_is_no_part_of_the_first_request(tmp_path: Path) -> None:
    pairs = listed(tmp_path, 2)
    pairs.write_text(pairs.read_text(), encoding="utf-8-sig")
    assert list(Journal(pairs).open_lines()) == ['{"user_prompt": "0"}', '{"user_prompt": "1"}']


def test_what_may_separate_lines_elsewhere_stays_inside_a_request(tmp_path: Path) -> None:
    pairs, line = listed(tmp_path, 0), '{"essay_a": "\u2028 \u2029 \u0085 \x0c"}'
    pairs.write_text(f"{line}\r\n", encoding="utf-8")
    assert list(Journal(pairs).open_lines()) == [line]


async def test_an_interrupt_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    pairs, answered = listed(tmp_path, 5), asyncio.Event()

    class Hanging(Service):
        async def ask(self, line: str) -> Outcome:
            if len(self.asked) == 2:
                answered.set()
                await asyncio.Event().wait()
            return await super().ask(line)

    running = asyncio.create_task(run(Journal(pairs), Hanging(BOUGHT)))
    await answered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert len(list(Journal(pairs).open_lines())) == 3


async def test_what_failed_can_be_fed_again(tmp_path: Path) -> None:
    journal = Journal(listed(tmp_path, 4))
    _, tally = await run(journal, Service(BOUGHT, FAILED))
    fed = Service(BOUGHT)
    await run(Journal(journal.failed_path), fed)

    assert tally.errors == {"RATE_LIMIT": 2}
    assert fed.asked == ['{"user_prompt": "1"}', '{"user_prompt": "3"}']


async def test_its_files_are_for_those_who_may_read_the_list_even_a_write_protected_one(tmp_path: Path) -> None:
    pairs = listed(tmp_path, 2)
    pairs.chmod(0o400)
    await run(Journal(pairs), Service(BOUGHT, FAILED))

    beside = (pairs.with_name(f"{pairs.name}.{end}") for end in ("done", "failed"))
    assert [oct(path.stat().st_mode & 0o777) for path in beside] == ["0o600", "0o600"]


def test_the_essays_are_read_as_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"essay_a": "Où est Noël ?"}\n', encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from tools.warming import *; journal = Journal(Path(sys.argv[1]));"
        "[journal.note(line, Outcome(fate=Fate.FAILED, elapsed_s=0.0)) for line in journal.open_lines()]"
    )
    strictly = ("-X", "warn_default_encoding", "-W", "error::EncodingWarning")
    subprocess.run([sys.executable, *strictly, "-c", code, pairs], cwd=ROOT, check=True)
    assert Journal(pairs).failed_path.read_bytes() == pairs.read_bytes()


async def test_it_gives_up_when_everything_fails(tmp_path: Path) -> None:
    service = Service(FAILED)
    whole, tally = await run(Journal(listed(tmp_path, 100)), service)

    assert not whole
    assert tally.counts[Fate.FAILED] == len(service.asked) == MOST_FAILURES_IN_A_ROW


def test_the_account_tells_percentiles_of_answers_and_prices_that_are_unknown() -> None:
    tally = Tally()
    assert tally.percentile_s(0.95) == 0.0
    for number in range(1, 101):
        tally.add(Outcome(fate=Fate.BOUGHT, elapsed_s=float(number), cost_usd=None))
    tally.add(Outcome(fate=Fate.FAILED, elapsed_s=1e6, error="TIMEOUT"))

    assert (tally.percentile_s(0.5), tally.percentile_s(0.95), tally.unpriced) == (50.0, 95.0, 100)


def test_the_forecast_prices_every_request_by_the_model_it_chooses() -> None:
    def price(overrides: Mapping[str, Any]) -> Mapping[str, float] | None:
        return {"input": 1.0, "output": 10.0} if overrides.get("model_override") == "priced" else None

    forecast = Forecast()
    forecast.add(PRICED, price)
    forecast.add("{}", price)
    forecast.add("garbage", price)

    prompt = 500 + len(PRICED) / 4
    assert (forecast.requests, forecast.unpriced, forecast.cost_usd) == (3, 2, (prompt * 1.0 + 400 * 10.0) / 1e6)


def test_the_forecast_counts_bytes_of_the_text_however_the_line_writes_it() -> None:
    def cost_usd(line: str) -> float:
        forecast = Forecast()
        forecast.add(line, lambda _: {"input": 1.0, "output": 0.0})
        return forecast.cost_usd

    thai = {"essay_a": "\u0e01" * 4_000}
    plain, escaped = (json.dumps(thai, ensure_ascii=escapes, separators=(",", ":")) for escapes in (False, True))
    assert cost_usd(plain) == cost_usd(escaped) == (500 + len(plain.encode()) / 4) / 1e6
