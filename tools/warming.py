"""Sends a list of comparison requests with bounded concurrency and records the outcome of each."""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from pathlib import Path
from typing import Any

import orjson

from protocols import BYTES_PER_TOKEN

MOST_FAILURES_IN_A_ROW = 20
INSTRUCTION_TOKENS = 500
VERDICT_TOKENS = 400

# US dollars per million tokens for the overrides of a request, None if unknown.
Price = Callable[[Mapping[str, Any]], Mapping[str, float] | None]


class Fate(StrEnum):
    """The kind of outcome of one request."""

    HIT = "hit"
    BOUGHT = "bought"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one request. cost_usd: None when unknown to the service. error: its error type, or ours."""

    fate: Fate
    elapsed_s: float
    cost_usd: float | None = 0.0
    error: str | None = None


@dataclass(slots=True)
class Tally:
    """The totals so far."""

    counts: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(Fate, 0))
    cost_usd: float = 0.0
    unpriced: int = 0
    seconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    failures_in_a_row: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
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
        """Seconds within which this share of the answers arrived; 0 without any."""
        ordered = sorted(self.seconds)
        return ordered[ceil(share * len(ordered)) - 1] if ordered else 0.0


class Journal:
    """Files next to the list: the lines done, so that a second run resumes, and those failed, as input for another."""

    def __init__(self, pairs: Path) -> None:
        self._pairs = pairs
        self.done_path = pairs.with_name(pairs.name + ".done")
        self.failed_path = pairs.with_name(pairs.name + ".failed")
        self._done = set(self.done_path.read_text().split()) if self.done_path.exists() else set[str]()

    def begin(self) -> None:
        """Start a run: drop the failures of the last one, which this run sends again."""
        self.failed_path.unlink(missing_ok=True)

    def open_lines(self) -> Iterator[str]:
        """The lines not done yet, read lazily."""
        with self._pairs.open(encoding="utf-8-sig") as lines:  # some editors begin a file with a byte order mark
            for line in lines:
                if line.strip() and _digest(line) not in self._done:
                    yield line.strip()

    def note(self, line: str, outcome: Outcome) -> None:
        """Record the outcome at once, because an interrupt may follow."""
        if outcome.fate is Fate.FAILED:
            self._append(self.failed_path, line)
            return
        self._done.add(_digest(line))
        self._append(self.done_path, _digest(line))

    def _append(self, path: Path, line: str) -> None:
        with open(path, "a", encoding="utf-8", opener=self._as_private) as file:
            file.write(line + "\n")

    def _as_private(self, path: str, flags: int) -> int:
        """Open a file that, if it is new, only those may read who may read the list, which may be write-protected."""
        return os.open(path, flags, self._pairs.stat().st_mode & 0o777 | 0o200)


async def warm(
    lines: Iterator[str],
    *,
    ask: Callable[[str], Awaitable[Outcome]],
    concurrency: int,
    tally: Tally,
    show: Callable[[str, Outcome], None],
) -> bool:
    """Send all lines; False after too many consecutive failures. show: called with each outcome."""

    async def work() -> None:
        while tally.failures_in_a_row < MOST_FAILURES_IN_A_ROW:
            line = next(lines, None)
            if line is None:
                return
            outcome = await ask(line)
            tally.add(outcome)
            show(line, outcome)

    async with asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(work())
    return tally.failures_in_a_row < MOST_FAILURES_IN_A_ROW


@dataclass(slots=True)
class Forecast:
    """The cost of a list if nothing is cached, at about four bytes of UTF-8 per token."""

    requests: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0

    def add(self, line: str, price: Price) -> None:
        """Add one request."""
        self.requests += 1
        fields = _fields(line)
        rates = None if fields is None else price(_overrides(fields))
        if rates is None:
            self.unpriced += 1
            return
        prompt = INSTRUCTION_TOKENS + len(orjson.dumps(fields)) / BYTES_PER_TOKEN  # the line may hold \u escapes
        self.cost_usd += (prompt * rates["input"] + VERDICT_TOKENS * rates["output"]) / 1e6


def _fields(line: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _overrides(fields: Any) -> Mapping[str, Any]:
    overrides = fields.get("llm_config_overrides") if isinstance(fields, dict) else None
    return overrides if isinstance(overrides, dict) else {}


def _digest(line: str) -> str:
    return hashlib.sha256(line.strip().encode()).hexdigest()
