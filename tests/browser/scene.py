"""A real service process with two providers that tests steer, and a browser that looks at it.

The browser is Debian's Chromium, driven headless. Whatever the page asks of anybody but the service is refused and
taken down, and so is everything that it complains of.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.async_api import Browser, ConsoleMessage, Page, Request, Route, async_playwright

from tests.integration.dialects import ANTHROPIC, OPENAI, Dialect
from tests.integration.service_process import Answer, ServiceProcess, prefixed, service
from tests.integration.stand_in import Act, StandIn, answer, standing_in

ADMIN_KEY = "kanarienvogel-of-the-administrator"
PATIENCE_MS = 10_000
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(slots=True)
class Provider:
    """One stand-in, and the dialect that it speaks."""

    dialect: Dialect
    stand_in: StandIn

    def plays(self, act: Act) -> None:
        """From now on it answers like this."""
        self.stand_in.script[:] = [act]

    def fails(self, case: str = "failed") -> None:
        """From now on it has this trouble."""
        self.plays(self.dialect.fails(case))

    def works(self) -> None:
        """From now on it judges."""
        self.plays(answer(self.dialect.good()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The service and its providers. Anthropic is asked first."""

    process: ServiceProcess
    anthropic: Provider
    openai: Provider

    async def compare(self, essay_b: str, **overrides: object) -> Answer:
        """Ask for a verdict; the providers answer from this event loop meanwhile."""
        return await asyncio.to_thread(
            self.process.compare, essay_b=essay_b, llm_config_overrides=overrides or None, essay_a="Phones ring."
        )

    async def open_circuit(self) -> None:
        """Let Anthropic fail until it is left alone."""
        self.anthropic.fails()
        for number in range(2):
            await self.compare(f"Phones fail, says number {number}.")


@dataclass(slots=True)
class Seen:
    """What a page did. foreign: whom it asked besides the service; complaints: its console's errors and warnings."""

    page: Page
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def text_of(self, selector: str) -> "asyncio.Future[str]":
        """What stands there."""
        return asyncio.ensure_future(self.page.locator(selector).inner_text())


def chromium() -> str:
    """Raises FileNotFoundError: a missing browser is no reason to skip."""
    found = shutil.which("chromium")
    if found is None:
        raise FileNotFoundError("Chromium is missing: install your system's package `chromium`")
    return found


@asynccontextmanager
async def scene(directory: Path, **settings: str) -> AsyncIterator[Scene]:
    """Run the service with two providers that work; settings are further ones of it."""
    async with standing_in(answer(ANTHROPIC.good())) as anthropic, standing_in(answer(OPENAI.good())) as openai:
        variables = {
            "ENVIRONMENT": "testing",
            "ADMIN_API_KEY": ADMIN_KEY,
            **ANTHROPIC.variables(anthropic.url),
            **OPENAI.variables(openai.url),
            **settings,
        }
        with service(directory, prefixed(**variables)) as process:
            yield Scene(process=process, anthropic=Provider(ANTHROPIC, anthropic), openai=Provider(OPENAI, openai))


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser without any memory."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        try:
            yield started
        finally:
            await started.close()


@asynccontextmanager
async def looking_at(
    process: ServiceProcess, *, width: int = 1280, height: int = 900, dark: bool = False, scale: float = 1.0
) -> AsyncIterator[Seen]:
    """Open the page in a window of that size, in CSS pixels, and close the browser when the block ends."""
    async with browser() as started:
        context = await started.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            device_scale_factor=scale,
        )
        context.set_default_timeout(PATIENCE_MS)
        page = await context.new_page()
        seen = Seen(page)
        origin = f"http://127.0.0.1:{process.port}/"

        async def guard(route: Route, request: Request) -> None:
            if request.url.startswith(origin):
                await route.continue_()
            else:
                seen.foreign.append(request.url)
                await route.abort()

        def complain(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                seen.complaints.append(message.text)

        await context.route("**/*", guard)
        page.on("console", complain)
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        await page.goto(origin)
        yield seen
