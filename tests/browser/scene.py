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

from playwright.async_api import Browser, ConsoleMessage, Page, Request, Route, async_playwright, expect

from tests.integration.dialects import ANTHROPIC, OPENAI, Dialect
from tests.integration.service_process import Answer, ServiceProcess, prefixed, service
from tests.integration.stand_in import Act, StandIn, answer, standing_in

ADMIN_KEY = "kanarienvogel-of-the-administrator"
PATIENCE_MS = 30_000  # on a busy machine
expect.set_options(timeout=PATIENCE_MS)
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

    async def open_circuit(self, of: Provider | None = None) -> None:
        """Let a provider, or else Anthropic, fail until it is left alone."""
        failing = of or self.anthropic
        failing.fails()
        for number in range(2):
            await self.compare(f"Phones fail, says number {number}.", provider_override=failing.dialect.name)


@dataclass(kw_only=True)
class Seen:
    """A page and what it did. foreign: whom it asked besides the service; complaints: its console's errors."""

    page: Page
    url: str
    requests: list[Request] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def is_faultless(self) -> None:
        """Nobody else was asked, and the browser holds nothing against the page."""
        assert (self.foreign, self.complaints) == ([], [])

    async def opened(self) -> Page:
        """The page of operations, once the service has answered it."""
        await self.page.goto(self.url)
        await expect(self.page.locator("#live")).to_have_text("live")
        return self.page

    async def refuse(self, route: Route) -> None:
        """Nobody but the service is asked."""
        self.foreign.append(route.request.url)
        await route.abort()

    def note_request(self, request: Request) -> None:
        """Every request, those of the page itself among them."""
        self.requests.append(request)

    def note_message(self, message: ConsoleMessage) -> None:
        """What the browser holds against the page: a breach of its policy is one of them."""
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


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
    """One that remembers nothing."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        try:
            yield started
        finally:
            await started.close()


@asynccontextmanager
async def looking_at(
    process: ServiceProcess, by: Browser, *, width: int = 1280, height: int = 900, dark: bool = False
) -> AsyncIterator[Seen]:
    """A blank page in a window of that size, in CSS pixels; `opened` loads the service's page into it."""
    context = await by.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE_MS)
    try:
        page = await context.new_page()
        seen = Seen(page=page, url=f"http://127.0.0.1:{process.port}/")
        await context.route(lambda url: not url.startswith(seen.url), seen.refuse)
        page.on("request", seen.note_request)
        page.on("console", seen.note_message)
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        yield seen
    finally:
        for page in context.pages:
            await page.unroute_all(behavior="ignoreErrors")  # what a test alters may be on its way
        await context.close()
