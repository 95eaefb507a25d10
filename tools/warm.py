"""Warms the cache: sends a file of comparison requests, one JSON object per line, to the running service.

It can be interrupted at any time and resumes where it stopped: what is done is in PAIRS.done, and is sent again only
when you delete that. Failed requests are written to PAIRS.failed, which can be used as input again. It prints a cost
forecast and asks for confirmation unless --yes is given. Where callers need a key, it sends the one in
LLM_PROVIDER_KEY.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from yarl import URL

from tools.warming import Fate, Forecast, Journal, Outcome, Price, Tally, warm

TIMEOUT_S = 60.0
MOST_AT_ONCE = 1000
EXIT_FAILURES, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 130


def main() -> int:
    """Return the exit code: 0 when every request has its answer."""
    parser = argparse.ArgumentParser(prog="python -m tools.warm", description=__doc__)
    parser.add_argument("pairs", type=_text_file, help="comparison requests, one JSON object per line")
    parser.add_argument("--url", type=_base_url, default="http://localhost:8080", help="the service's base URL")
    parser.add_argument("--concurrency", type=_concurrency, default=4, help=f"concurrent requests, 1 to {MOST_AT_ONCE}")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation before spending")
    wishes = parser.parse_args()
    console = Console(markup=False, emoji=False)  # paths may hold brackets and colons
    try:
        return asyncio.run(_run(wishes, console))
    except KeyboardInterrupt:
        console.print("Interrupted. The same command resumes where it stopped.")
        return EXIT_INTERRUPTED
    except (aiohttp.ClientError, OSError, LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        console.print(f"The service at {wishes.url}, or the file, cannot be read ({reason}).")
        return EXIT_REFUSED


def _text_file(argument: str) -> Path:
    path = Path(argument)
    if not path.is_file():
        raise argparse.ArgumentTypeError("is no file")
    with path.open("rb") as lines:
        if not all(map(_is_text, lines)):
            raise argparse.ArgumentTypeError("is no UTF-8 text")
    return path


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _base_url(argument: str) -> str:
    try:
        url = URL(argument)
        if url.scheme in {"http", "https"} and url.host and url.path_qs == "/":
            return argument
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("must be http(s)://host[:port]")


def _concurrency(argument: str) -> int:
    if not argument.isdecimal() or not 1 <= int(argument) <= MOST_AT_ONCE:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {MOST_AT_ONCE}")
    return int(argument)


async def _run(wishes: argparse.Namespace, console: Console) -> int:
    journal, tally = Journal(wishes.pairs), Tally()
    key, timeout = os.environ.get("LLM_PROVIDER_KEY"), aiohttp.ClientTimeout(total=TIMEOUT_S)
    shown = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(wishes.url, headers=shown, timeout=timeout) as session:
        forecast = await _forecast(session, journal)
        if journal.done_path.exists():
            told = f"What an earlier run has done is left out. To send it again, delete {journal.done_path}"
            console.print(told, soft_wrap=True)
        console.print(_forecast_line(forecast))
        if forecast.requests == 0:
            return 0
        if not wishes.yes and not _agreed(console):
            return EXIT_REFUSED
        try:
            whole = await _warm(session, journal, tally, forecast.requests, wishes.concurrency, console)
        finally:
            console.print(_summary(tally))
    if not whole:
        console.print("Too many consecutive failures: the remaining requests were not sent.")
    if tally.counts[Fate.FAILED]:
        console.print(f"The failed requests can be used as input again: {journal.failed_path}", soft_wrap=True)
        return EXIT_FAILURES
    return 0


async def _warm(
    session: aiohttp.ClientSession, journal: Journal, tally: Tally, total: int, concurrency: int, console: Console
) -> bool:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    journal.begin()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=total)

        def show(line: str, outcome: Outcome) -> None:
            journal.note(line, outcome)
            progress.update(bar, advance=1, description=f"{tally.cost_usd:.4f} USD")

        return await warm(
            journal.open_lines(),
            ask=lambda line: _ask(session, line),
            concurrency=concurrency,
            tally=tally,
            show=show,
        )


async def _ask(session: aiohttp.ClientSession, line: str) -> Outcome:
    """What became of one request. An answer that is not the service's own, but a proxy's, is a failure like others."""
    began_s = time.monotonic()
    try:
        async with session.post(
            "/api/v1/comparison",
            data=line,
            headers={"Content-Type": "application/json"},
            allow_redirects=False,  # the essays are for this service
        ) as answer:
            body = orjson.loads(await answer.read())
        elapsed_s = time.monotonic() - began_s
        if answer.status != 200:  # noqa: PLR2004  the one status that means a verdict
            return Outcome(fate=Fate.FAILED, elapsed_s=elapsed_s, error=str(body["error_type"]))
        fate = Fate.HIT if body["cached"] else Fate.BOUGHT
        return Outcome(fate=fate, elapsed_s=elapsed_s, cost_usd=body["cost_estimate"])
    except (aiohttp.ClientError, OSError, orjson.JSONDecodeError, LookupError, TypeError) as error:
        return Outcome(fate=Fate.FAILED, elapsed_s=time.monotonic() - began_s, error=type(error).__name__)


async def _forecast(session: aiohttp.ClientSession, journal: Journal) -> Forecast:
    price = await _price(session)
    forecast = Forecast()
    for line in journal.open_lines():
        forecast.add(line, price)
    return forecast


async def _price(session: aiohttp.ClientSession) -> Price:
    """Prices by the provider and model that a request names, else by the defaults."""
    async with session.get("/api/v1/providers", raise_for_status=True) as answer:
        providers = orjson.loads(await answer.read())
    async with session.get("/api/v1/models", raise_for_status=True) as answer:
        models = orjson.loads(await answer.read())["models"]
    defaults = {known["name"]: known["default_model"] for known in providers["providers"]}
    rates = {(model["provider"], model["id"]): model["prices_usd_per_million_tokens"] for model in models}

    def price(overrides: Mapping[str, Any]) -> Mapping[str, float] | None:
        first = providers["default_provider"]
        if first == "mock":
            return {"input": 0.0, "output": 0.0}
        provider = overrides.get("provider_override") or first
        found: Mapping[str, float] | None = rates.get(
            (provider, overrides.get("model_override") or defaults.get(provider))
        )
        return found

    return price


def _forecast_line(forecast: Forecast) -> str:
    unknown = f", and {forecast.unpriced} of unknown price" if forecast.unpriced else ""
    return f"{forecast.requests} requests, about {forecast.cost_usd:.4f} USD if none is cached{unknown}."


def _agreed(console: Console) -> bool:
    if not sys.stdin.isatty():
        console.print("No terminal to ask for confirmation: use --yes.")
        return False
    return console.input("Continue? [y/N] ", markup=False).strip().lower() in {"y", "yes"}


def _summary(tally: Tally) -> Table:
    table = Table("", "", show_header=False)
    for fate in Fate:
        table.add_row(fate, str(tally.counts[fate]))
    unknown = f" (and {tally.unpriced} of unknown price)" if tally.unpriced else ""
    table.add_row("cost", f"{tally.cost_usd:.4f} USD{unknown}")
    table.add_row("p50 / p95", f"{tally.percentile_s(0.5):.3f} s / {tally.percentile_s(0.95):.3f} s")
    for error, count in sorted(tally.errors.items()):
        table.add_row(error, str(count))
    return table


if __name__ == "__main__":
    sys.exit(main())
