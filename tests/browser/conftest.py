"""The one browser of a run."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.scene import Scene, Seen, browser, looking_at, scene


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Started once; every test gets a context of its own."""
    async with browser() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def stage(tmp_path: Path) -> AsyncIterator[Scene]:
    """A service with two providers that work and a third that is not set up."""
    async with scene(tmp_path, COST_LIMIT_USD_PER_DAY="10") as built:
        yield built


@pytest_asyncio.fixture(loop_scope="session")
async def seen(stage: Scene, chromium: Browser) -> AsyncIterator[Seen]:
    """A blank page of the usual size."""
    async with looking_at(stage.process, chromium) as looked:
        yield looked


@pytest.fixture
def faultless(seen: Seen) -> Iterator[None]:
    """In the end the page has done nothing that it must not do."""
    yield
    seen.is_faultless()
