"""Takes the pictures of the operations page: a real service under traffic, whose first judge goes down on the way.

The browser's clock is driven by hand, so that five minutes of watching take less than one. What the service tells is
real: its own clock is not touched.
"""

import asyncio
import math
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from playwright.async_api import Page

from tests.browser.scene import Provider, Scene, Seen, browser, looking_at, scene
from tests.integration.stand_in import Act, answer

POLL_MS = 2000
POLLS = 150
DOWN_AFTER = 95
ROUND_S = 0.3
LIMITS = {"COST_LIMIT_USD_PER_DAY": "0.5", "COST_LIMIT_USD_PER_MONTH": "10", "ENVIRONMENT": "production"}


async def main(directory: Path) -> None:
    """Write the pictures there."""
    with TemporaryDirectory() as scratch:
        async with (
            scene(Path(scratch), **LIMITS) as stage,
            browser() as by,
            looking_at(stage.process, by, width=1200, height=1020) as seen,
        ):
            await watch(stage, seen)
            await take(seen.page, directory)


async def watch(stage: Scene, seen: Seen) -> None:
    """Let callers come in waves, and let the first judge fail after a while."""
    chance = Random(7)
    for provider in (stage.anthropic, stage.openai):
        provider.plays(thinking(provider, chance))
    await seen.page.clock.install()
    page = await seen.opened()
    for number in range(POLLS):
        if number == DOWN_AFTER:
            stage.anthropic.fails()
        callers = round(4 + 2 * math.sin(number / 11) + chance.random())
        pause = asyncio.create_task(asyncio.sleep(ROUND_S))
        await asyncio.gather(*(ask(stage, chance, number) for _ in range(callers)))
        await pause
        async with page.expect_response("**/api/v1/operations"):
            await page.clock.run_for(POLL_MS)


async def ask(stage: Scene, chance: Random, number: int) -> None:
    """One caller in five asks what was asked before; once the judge is down, some insist on it."""
    essay = chance.randrange(40) if chance.random() < 0.2 else 1000 * number + chance.randrange(1000)
    insists = number > DOWN_AFTER and chance.random() < 0.04
    await stage.compare(
        f"Phones are good, says number {essay}.", **({"provider_override": "anthropic"} if insists else {})
    )


def thinking(provider: Provider, chance: Random) -> Act:
    """A verdict that takes its time."""
    told = answer(provider.dialect.good())

    async def play(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(chance.uniform(0.06, 0.2))
        await told.play(writer)

    return replace(told, play=play)


async def take(page: Page, directory: Path) -> None:
    """Light, dark, and as a phone shows it."""
    await page.get_by_role("heading", level=1).wait_for()
    await page.screenshot(path=directory / "operations-light.png")
    await page.emulate_media(color_scheme="dark")
    await page.screenshot(path=directory / "operations-dark.png")
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.screenshot(path=directory / "operations-phone.png")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
