"""Takes the pictures of the operations page: a real service under traffic, whose first judge goes down on the way.

The browser's clock is driven by hand, so that ten minutes of watching take half a minute; the service's own is not.
"""

import asyncio
import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from playwright.async_api import Page

from tests.browser.scene import Scene, Seen, browser, looking_at, scene

ROUNDS = 150
DOWN_AFTER = 95
POLL_MS = 2000


async def main(directory: Path) -> None:
    """Write the pictures there."""
    limits = {"COST_LIMIT_USD_PER_DAY": "0.5", "COST_LIMIT_USD_PER_MONTH": "10", "ENVIRONMENT": "production"}
    with TemporaryDirectory() as scratch:
        async with (
            scene(Path(scratch), **limits) as stage,
            browser() as by,
            looking_at(stage.process, by, width=1280, height=1000) as seen,
        ):
            await watch(stage, seen)
            await take(seen.page, directory)


async def watch(stage: Scene, seen: Seen) -> None:
    """Let callers come in waves, and let the first judge fail after a while."""
    chance = Random(7)
    await seen.page.clock.install()
    page = await seen.opened()
    for number in range(ROUNDS):
        if number == DOWN_AFTER:
            stage.anthropic.fails()
        callers = 2 + chance.randrange(3) + (number // 12) % 3
        await asyncio.gather(*(ask(stage, chance, number) for _ in range(callers)))
        async with page.expect_response("**/api/v1/operations"):
            await page.clock.run_for(POLL_MS)
    await asyncio.sleep(1)  # the last answer is drawn


async def ask(stage: Scene, chance: Random, number: int) -> None:
    """One caller in four asks what was asked before; once the judge is down, some insist on it."""
    known = f"Phones are good, says number {chance.randrange(12) if chance.random() < 0.25 else number}."
    pinned = number > DOWN_AFTER and chance.random() < 0.03
    await stage.compare(known, **({"provider_override": "anthropic"} if pinned else {}))


async def take(page: Page, directory: Path) -> None:
    """Light, dark, and as a phone shows it."""
    await page.screenshot(path=directory / "operations-light.png", full_page=True)
    await page.emulate_media(color_scheme="dark")
    await page.screenshot(path=directory / "operations-dark.png", full_page=True)
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.screenshot(path=directory / "operations-phone.png")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
