"""The documentation page in a real browser: it shows every operation, asks nobody else and fits on a phone."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.integration.service_process import ServiceProcess, mocked, service

WINDOWS = {"desk": (1280, 900), "phone": (360, 740), "narrow": (320, 740)}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service with every route."""
    with service(tmp_path, mocked(ADMIN_API_KEY="only-for-this-one-test-run")) as process:
        yield process


@pytest.fixture
async def page(request: pytest.FixtureRequest, running: ServiceProcess) -> AsyncIterator[Page]:
    """The page, loaded; the test fails for whatever it asks of others and for every complaint of the browser."""
    width, height = WINDOWS[getattr(request, "param", "desk")]
    complaints: list[str] = []
    chromium = shutil.which("chromium")
    assert chromium is not None, "Chromium is missing: install your system's package `chromium`"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        context = await browser.new_context(
            viewport={"width": width, "height": height}, permissions=["clipboard-read", "clipboard-write"]
        )
        opened = await context.new_page()
        here = f"http://127.0.0.1:{running.port}/"
        opened.on(
            "request", lambda asked: None if asked.url.startswith((here, "data:")) else complaints.append(asked.url)
        )
        opened.on("console", lambda told: complaints.append(told.text) if told.type in {"error", "warning"} else None)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        await opened.goto(f"{here}docs")
        await expect(opened.locator("#compare")).to_be_visible()
        yield opened
        await browser.close()
    assert complaints == []


async def test_every_operation_and_model_of_the_document_is_shown(page: Page, running: ServiceProcess) -> None:
    document = running.ask("/openapi.json").json()
    operations = {operation["operationId"] for item in document["paths"].values() for operation in item.values()}
    shown = await page.locator("article").evaluate_all("found => found.map(one => one.id)")
    assert set(shown) == operations | set(document["components"]["schemas"])
    assert len(shown) == len(set(shown))
    links = await page.locator("nav a").evaluate_all("found => found.map(one => one.hash.slice(1))")
    assert operations <= set(links)
    ids = await page.locator("[id]").evaluate_all("found => found.map(one => one.id)")
    targets = await page.locator("a[href^='#']").evaluate_all("found => found.map(one => one.hash.slice(1))")
    assert set(targets) <= set(ids)


@pytest.mark.parametrize("page", WINDOWS, indirect=True)
async def test_it_is_read_without_scrolling_sideways(page: Page) -> None:
    await page.locator("details").evaluate_all("found => found.forEach(one => { one.open = true; })")
    wide, window = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window


@pytest.mark.parametrize("page", ["narrow"], indirect=True)
async def test_what_an_example_is_about_has_room_beside_or_below_its_name(page: Page) -> None:
    await page.locator("details").evaluate_all("found => found.forEach(one => { one.open = true; })")
    widths = await page.locator(".gist:not(:empty)").evaluate_all("found => found.map(one => one.offsetWidth)")
    assert min(widths) > 130


async def test_no_markup_of_the_document_is_left_in_the_text(page: Page) -> None:
    assert "`" not in (await page.locator("main").text_content() or "")


async def test_a_link_is_told_from_the_text_around_it_not_by_its_colour_alone(page: Page) -> None:
    lines = "found => [...new Set(found.map(one => getComputedStyle(one).textDecorationLine))]"
    assert await page.locator("a:not(nav a)").evaluate_all(lines) == ["underline"]


async def test_no_level_of_headings_is_left_out(page: Page) -> None:
    levels = await page.locator(":is(h1, h2, h3, h4):visible").evaluate_all(
        "found => found.map(one => Number(one.tagName[1]))"
    )
    assert [pair for pair in pairwise(levels) if pair[1] > pair[0] + 1] == []


async def test_each_operation_says_whose_key_it_needs_and_when(page: Page) -> None:
    locks = {"compare": ["needs a key if AUTH_MODE is api_key"], "clear_cache": ["needs the administrator's key"]}
    for operation, told in {**locks, "show_health": []}.items():
        assert await page.locator(f"#{operation} .lock").all_inner_texts() == told


async def test_the_service_can_be_asked_from_the_page(page: Page) -> None:
    card = page.locator("#show_health")
    await page.get_by_role("button", name="Ask this service: /healthz").click()
    await expect(card.get_by_role("status")).to_have_text(re.compile(r"^200 in \d+ ms$"))  # no listener wants it all
    await expect(card.locator(".reply pre")).to_contain_text('"status": "healthy"')


async def test_a_service_that_does_not_answer_is_waited_for_in_sight_and_not_for_ever(page: Page) -> None:
    await page.evaluate(
        "AbortSignal.timeout = waitMs => (window.waitMs = waitMs, (window.waiting = new AbortController()).signal)"
    )
    await page.route("**/healthz", lambda _: None)
    told = page.locator("#show_health").get_by_role("status")
    await page.get_by_role("button", name="Ask this service: /healthz").click()
    await expect(told).to_have_text("Asking …")
    assert await page.evaluate("waitMs") == 10_000
    await page.evaluate("waiting.abort()")
    await expect(told).to_have_text("The service did not answer.")


async def test_the_command_that_is_copied_is_answered(page: Page) -> None:
    await page.evaluate("window.setTimeout = () => 0")  # after a second and a half it would say "Copy" again
    await page.locator("#compare > .code > button").click()
    await expect(page.locator("#compare > .code > button")).to_have_text("Copied")
    await expect(page.locator("#copied")).to_have_text("Copied")
    command: str = await page.evaluate("navigator.clipboard.readText()")
    told = await asyncio.to_thread(subprocess.check_output, ["/bin/sh", "-c", command], timeout=30)
    assert orjson.loads(told)["winner"] == "Essay A"


async def test_what_the_document_holds_never_becomes_markup(page: Page) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    await page.evaluate("text => { document.body.replaceChildren(prose(text), code(text)); }", hostile)
    assert await page.locator("img").count() == 0
    assert await page.locator("body").inner_text() == f"{hostile}\n\n{hostile}\nCopy"
