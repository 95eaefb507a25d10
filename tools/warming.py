"""Asks a list of comparison requests with bounded concurrency, and keeps account of what became of each."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

MOST_FAILURES_IN_A_ROW = 20
CHARACTERS_PER_TOKEN = 4  # of English prose, as the service estimates
INSTRUCTION_TOKENS = 500
VERDICT_TOKENS = 400


class Fate(StrEnum):
    """What became of one request."""

    HIT = "hit"
    BOUGHT = "bought"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """cost_usd: None when the service does not know it. error: the service's own words."""

    fate: Fate
    elapsed_s: float
    cost_usd: float | None = 0.0
    error: str | None = None


@dataclass(slots=True)
class Account:
    """What happened so far."""

    counts: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(Fate, 0))
    cost_usd: float = 0.0
    unpriced: int = 0
    seconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    failures_in_a_row: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count it."""
        self.counts[outcome.fate] += 1
        self.cost_usd += outcome.cost_usd or 0.0
        self.unpriced += outcome.cost_usd is None
        if outcome.error is None:
            self.seconds.append(outcome.elapsed_s)
            self.failures_in_a_row = 0
        else:
            self.errors[outcome.error] = self.errors.get(outcome.error, 0) + 1
            self.failures_in_a_row += 1

    def percentile_s(self, share: float) -> float:
        """Seconds within which that share of the answers came; 0 without any."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Ledger:
    """Beside the list: which lines are done, so that a second run goes on, and which failed, to be fed again."""

    def __init__(self, pairs: Path) -> None:
        self._pairs = pairs
        self._done_path = pairs.with_name(pairs.name + ".done")
        self.failed_path = pairs.with_name(pairs.name + ".failed")
        self._done = set(self._done_path.read_text().split()) if self._done_path.exists() else set[str]()

    def begin(self) -> None:
        """A new run: the failures of the last one are asked for again, or were fed to another."""
        self.failed_path.unlink(missing_ok=True)

    def open_lines(self) -> Iterator[str]:
        """The lines that are not done, read as they are needed."""
        with self._pairs.open() as lines:
            for line in lines:
                if line.strip() and _digest(line) not in self._done:
                    yield line.strip()

    def note(self, line: str, outcome: Outcome) -> None:
        """Written at once: the next moment may be an interrupt."""
        if outcome.fate is Fate.FAILED:
            with self.failed_path.open("a") as failed:
                failed.write(line + "\n")
            return
        self._done.add(_digest(line))
        with self._done_path.open("a") as done:
            done.write(_digest(line) + "\n")


async def warm(
    lines: Iterator[str],
    *,
    ask: Callable[[str], Awaitable[Outcome]],
    concurrency: int,
    account: Account,
    tell: Callable[[str, Outcome], None],
) -> bool:
    """Ask all of them; False when so many failed in a row that going on makes no sense. tell: hears of each."""

    async def work() -> None:
        while account.failures_in_a_row < MOST_FAILURES_IN_A_ROW:
            line = next(lines, None)
            if line is None:
                return
            outcome = await ask(line)
            account.add(outcome)
            tell(line, outcome)

    async with asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(work())
    return account.failures_in_a_row < MOST_FAILURES_IN_A_ROW


@dataclass(slots=True)
class Forecast:
    """What a list would cost if nothing of it were known: about four characters a token."""

    requests: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0

    def add(self, line: str, price: Callable[[Mapping[str, Any]], Mapping[str, float] | None]) -> None:
        """price: US dollars for a million tokens of the model that a request's overrides choose, None if unknown."""
        self.requests += 1
        overrides = _overrides(line)
        rates = None if overrides is None else price(overrides)
        if rates is None:
            self.unpriced += 1
            return
        prompt = INSTRUCTION_TOKENS + len(line) / CHARACTERS_PER_TOKEN
        self.cost_usd += (prompt * rates["input"] + VERDICT_TOKENS * rates["output"]) / 1e6


def _overrides(line: str) -> Mapping[str, Any] | None:
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    overrides = fields.get("llm_config_overrides") if isinstance(fields, dict) else None
    return overrides if isinstance(overrides, dict) else {}


def _digest(line: str) -> str:
    return hashlib.sha256(line.strip().encode()).hexdigest()
