"""The operations page in a real browser, looking at a real service: what it shows, what it does, what it never does."""

import asyncio
import os
import re
import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect

from tests.browser.scene import ADMIN_KEY, Scene, Seen, looking_at, scene
from tests.integration.stand_in import NOBODY

pytestmark = [pytest.mark.asyncio(loop_scope="session")]
quietly = pytest.mark.usefixtures("faultless")

LEFT_OF = """(element, word) => {
  const text = element.firstChild, at = text.data.indexOf(word), range = document.createRange();
  range.setStart(text, at);
  range.setEnd(text, at + word.length);
  return range.getBoundingClientRect().left;
}"""
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def judge(page: Page, name: str) -> Locator:
    """Its row, as somebody hears it who does not see it."""
    return (
        page.get_by_role("table", name="Judges")
        .get_by_role("row")
        .filter(has=page.get_by_role("rowheader", name=re.compile(f"^{name}")))
    )


async def unlock(page: Page, key: str = ADMIN_KEY) -> None:
    await page.get_by_role("button", name="Act…").click()
    await page.get_by_role("textbox", name="Key").fill(key)
    await page.get_by_role("button", name="Use it").click()


async def act(page: Page, button: str, confirm: str) -> Locator:
    """Press and confirm; the place where the outcome is told."""
    await page.get_by_role("button", name=button).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name=confirm, exact=True).click()
    return dialog.get_by_role("status")


# --- What it shows ----------------------------------------------------------------------------------------------------


@quietly
async def test_every_judge_is_shown_with_its_state_in_words(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await expect(page.get_by_role("heading", level=1)).to_have_text("All is well.")
    await expect(judge(page, "anthropic")).to_contain_text("Ready")
    await expect(judge(page, "openai")).to_contain_text("circuit closed")
    await expect(judge(page, "google")).to_contain_text("Not set up")
    await expect(judge(page, "internal")).to_contain_text("Off")
    await expect(page.locator("#lead")).to_contain_text("2 of 2 judges can be asked.")


@quietly
async def test_traffic_cache_and_money_are_shown_as_they_happen(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    for number in (1, 2, 2):
        await stage.compare(f"Phones are good, says number {number}.")
    await expect(page.locator("#rate-note")).to_contain_text("3 since the start")
    await expect(judge(page, "anthropic")).to_contain_text("2 calls")
    await expect(page.get_by_role("table", name="Cache").get_by_role("row").nth(1)).to_contain_text("33\u00a0%")
    await expect(page.get_by_role("meter", name="Today")).to_have_attribute(
        "aria-valuetext", re.compile(r"of \$10\.00")
    )
    await expect(page.locator("#lead")).to_contain_text("3 answers in the last minute")


@quietly
async def test_the_last_minutes_of_traffic_and_latency_are_drawn(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await stage.compare("Phones are good.")
    for name, lines in {"Answers": 1, "Median and 95th": 2, "Average time to answer of anthropic": 1}.items():
        drawn = page.get_by_role("img", name=re.compile(f"^{name}")).locator("path:not(.area)")
        await expect(drawn).to_have_count(lines)
        for line in await drawn.all():
            await expect(line).to_have_attribute("d", re.compile(r"^M.*L"))


@quietly
async def test_the_lines_are_the_last_five_minutes_also_when_nobody_looked(stage: Scene, seen: Seen) -> None:
    await seen.page.clock.install()
    await seen.page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => true})")
    page = await seen.opened()
    for _ in range(14):
        async with page.expect_response("**/api/v1/operations"):
            await page.clock.run_for(30_000)
    line = await page.locator("#spark-money path:not(.area)").get_attribute("d")
    half_minutes = [round(float(x) / 15) for x in re.findall(r"[ML]([\d.]+) ", line or "")]
    assert half_minutes == list(range(1, 11))  # of 150 units for five minutes


@quietly
async def test_the_lines_stay_in_their_frame_when_the_browser_s_clock_is_set_back(stage: Scene, seen: Seen) -> None:
    await seen.page.add_init_script("const now = Date.now; window.aheadMs = 3600000; Date.now = () => now() + aheadMs")
    page = await seen.opened()
    await page.evaluate("window.aheadMs = 0")
    for _ in range(2):  # the second is asked for when the first is drawn
        async with page.expect_response("**/api/v1/operations"):
            pass
    line = await page.locator("#spark-money path:not(.area)").get_attribute("d")
    assert max(float(x) for x in re.findall(r"[ML]([\d.]+) ", line or "")) == 150


@quietly
async def test_ages_are_right_also_after_the_service_s_clock_was_set(stage: Scene, seen: Seen) -> None:
    async def set_back(route: Route) -> None:
        response = await route.fetch()
        told = await response.json()
        began = datetime.fromisoformat(told["started_at"]) + timedelta(hours=1)
        await route.fulfill(response=response, json={**told, "started_at": began.isoformat()})

    await stage.compare("Phones are good.")
    await seen.page.route("**/api/v1/operations", set_back)
    page = await seen.opened()
    await expect(judge(page, "anthropic")).to_contain_text(re.compile(r"answered \d+\s+s ago"))


@quietly
async def test_a_judge_that_goes_down_is_told_within_seconds_and_so_is_its_return(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await stage.open_circuit()
    headline = page.get_by_role("heading", level=1)
    await expect(headline).to_have_text("It answers, but anthropic is left alone.")
    await expect(judge(page, "anthropic")).to_contain_text("Left alone")
    await expect(judge(page, "anthropic")).to_contain_text("circuit open")
    await expect(page.get_by_role("list", name="What is not well")).to_contain_text(
        "anthropic is not asked: circuit open"
    )
    await stage.open_circuit(stage.openai)
    await expect(headline).to_have_text("No judge can be asked.")


async def test_a_judge_that_the_next_call_tries_is_not_called_well(tmp_path: Path, chromium: Browser) -> None:
    settings = {"LLM_CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "0.1", "OPENAI_API_KEY": ""}
    async with scene(tmp_path, **settings) as stage, looking_at(stage.process, chromium) as looked:
        await stage.open_circuit()
        page = await looked.opened()
        await expect(judge(page, "anthropic")).to_contain_text("Tried next")
        await expect(page.get_by_role("heading", level=1)).to_have_text("It answers, but anthropic is tried again.")
        await expect(page.get_by_role("list", name="What is not well")).to_contain_text(
            "anthropic was left alone, and the next call tries it. It has not answered since the start."
        )


async def test_that_no_judge_is_left_for_those_who_name_none_is_told_first(tmp_path: Path, chromium: Browser) -> None:
    settings = {"REDIS_URL": NOBODY.replace("http", "redis"), "PROVIDER_PRIORITY_ORDER": "google"}
    async with scene(tmp_path, **settings) as stage, looking_at(stage.process, chromium) as looked:
        await stage.open_circuit()
        page = await looked.opened()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Who names no judge is refused.")
        told = page.get_by_role("list", name="What is not well").get_by_role("listitem")
        await expect(told).to_contain_text(["No default provider", "anthropic is not asked", "Redis is away"])
        assert (await stage.compare("Phones are good.")).status == 503


@quietly
async def test_errors_are_listed_with_what_finds_them_again_in_the_log(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await stage.open_circuit()
    told = (await stage.compare("Phones fail.", provider_override="anthropic")).json()
    row = page.get_by_role("table", name="Recent errors").get_by_role("row").filter(has_text=told["correlation_id"])
    await expect(row).to_contain_text("503 CIRCUIT_BREAKER_OPEN")
    await expect(row).to_contain_text("anthropic")
    await expect(page.get_by_role("meter", name="CIRCUIT_BREAKER_OPEN")).to_have_attribute("aria-valuetext", "1")


@quietly
async def test_an_error_of_another_day_bears_its_date(stage: Scene, seen: Seen) -> None:
    async def long_ago(route: Route) -> None:
        response = await route.fetch()
        told = await response.json()
        latest, *others = told["recent_errors"]
        aged = [{**error, "at": "2026-02-03T04:05:06Z"} for error in others]
        await route.fulfill(response=response, json={**told, "recent_errors": [latest, *aged]})

    await stage.open_circuit()
    await seen.page.route("**/api/v1/operations", long_ago)
    page = await seen.opened()
    times = page.get_by_role("table", name="Recent errors").locator("[data-label^=Time]")
    await expect(times).to_have_text([re.compile(r"^\d\d:\d\d:\d\d$"), "04:05:062026-02-03"])


@quietly
async def test_money_that_was_spent_is_never_shown_as_zero(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    for amount, told in {
        0: "$0.00",
        0.000041: "$0.000041",
        0.00046: "$0.00046",
        0.0954: "$0.0954",
        1234.5: "$1,234.50",
    }.items():
        assert await page.evaluate(f"usd({amount})") == told


async def test_what_else_is_missing_is_told_in_a_sentence_each(tmp_path: Path, chromium: Browser) -> None:
    away = NOBODY.removeprefix("http://")
    trouble = {"REDIS_URL": f"redis://{away}/0", "KAFKA_BOOTSTRAP_SERVERS": away, "COST_LIMIT_USD_PER_DAY": "0.00001"}
    async with scene(tmp_path, **trouble) as stage, looking_at(stage.process, chromium) as looked:
        page = await looked.opened()
        await stage.compare("Phones are good.")
        told = page.get_by_role("list", name="What is not well")
        for sentence in (
            "Paid calls were refused in the last minute",
            "Redis is away: each replica answers from its own cache",
            "Redis does not keep the cost limits: each replica keeps to its own part of them.",
            "No caller waits for",
        ):
            await expect(told).to_contain_text(sentence)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Paid calls are refused.")
        await expect(page.get_by_role("region", name="Events")).to_contain_text("Kafka takes none")
        looked.is_faultless()


# --- What it does -----------------------------------------------------------------------------------------------------


@quietly
async def test_with_the_key_a_judge_is_tested_and_the_cache_cleared(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await expect(page.get_by_role("button", name="Clear…")).to_be_hidden()
    await unlock(page)
    told = await act(page, "Test: anthropic", "Test")
    await expect(told).to_contain_text(re.compile("anthropic (works|does not work)"))
    await page.get_by_role("button", name="Close", exact=True).click()
    told = await act(page, "Clear…", "Clear")
    await expect(told).to_contain_text("Every kept answer is forgotten, in all replicas.")
    await expect(page.locator("#log li")).to_have_count(2)
    assert (await asyncio.to_thread(stage.process.ask, "/api/v1/cache/stats")).json()["generation"] == 1


@quietly
async def test_with_the_key_a_circuit_is_held_open_and_reset(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await unlock(page)
    await page.get_by_role("button", name="Hold open: anthropic").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Hold open").click()
    assert [request.url for request in seen.requests if request.method != "GET"] == []  # a reason is wanted
    await dialog.get_by_role("textbox", name="Why").fill(f"maintenance {MARKUP}")
    await dialog.get_by_role("button", name="Hold open").click()
    await expect(dialog.get_by_role("status")).to_contain_text(
        "anthropic is held open in this replica for 10\u00a0min."
    )
    await dialog.get_by_role("button", name="Close").click()
    await expect(judge(page, "anthropic")).to_contain_text(f"circuit held open: \u2068maintenance {MARKUP}\u2069")
    assert (await stage.compare("Phones are good.")).json()["provider"] == "openai"
    told = await act(page, "Reset: anthropic", "Reset")
    await expect(told).to_contain_text("The circuit of anthropic is reset in this replica: closed.")
    await expect(judge(page, "anthropic")).to_contain_text("Ready")
    await page.get_by_role("button", name="Close", exact=True).click()
    await page.get_by_role("button", name="Hold closed: anthropic").click()
    await dialog.get_by_role("textbox", name="Why").fill("it must not stop")
    await dialog.get_by_role("combobox", name="For").select_option("until somebody resets it")
    await dialog.get_by_role("button", name="Hold closed").click()
    await expect(dialog.get_by_role("status")).to_contain_text(
        "anthropic is held closed in this replica until it is reset."
    )
    await expect(judge(page, "anthropic")).to_contain_text("circuit held closed")
    await expect(page.get_by_role("list", name="What is not well")).to_have_text(
        "anthropic: circuit held closed: \u2068it must not stop\u2069."
    )


@quietly
async def test_a_reason_that_runs_from_right_to_left_is_shown_in_its_own_order(stage: Scene, seen: Seen) -> None:
    first, last = "תקלה", "בדיקה"
    page = await seen.opened()
    await unlock(page)
    await page.get_by_role("button", name="Hold open: anthropic").click()
    why = page.get_by_role("textbox", name="Why")
    await why.fill(f"{first} OpenAI {last}")
    await why.press("Enter")
    for shown in (judge(page, "anthropic").locator("small"), page.locator("#problems span")):
        told = shown.filter(has_text=first)
        assert await told.evaluate(LEFT_OF, first) > await told.evaluate(LEFT_OF, last)


@quietly
async def test_what_is_done_is_not_done_again_by_a_key_press(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await unlock(page)
    await page.get_by_role("button", name="Hold open: anthropic").click()
    why = page.get_by_role("textbox", name="Why")
    await why.fill("maintenance")
    await why.press("Enter")
    await expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("is held open")
    await why.press("Enter")
    await page.get_by_role("button", name="Close", exact=True).click()
    assert [request.method for request in seen.requests if request.method != "GET"] == ["PUT"]


@quietly
async def test_whoever_gives_the_key_by_keyboard_goes_on_where_they_were(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await page.get_by_role("button", name="Act…").press("Enter")
    await page.keyboard.type(ADMIN_KEY)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Forget the key")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Act…")).to_be_focused()


@pytest.mark.parametrize(
    ("answered", "told"),
    [
        (None, "No answer that can be read; it may have been done all the same."),
        ((200, "<h1>Sign in</h1>"), "No answer that can be read; it may have been done all the same."),
        (
            (502, "<h1>Bad Gateway</h1>"),
            "Something before the service answered 502; it may have been done all the same.",
        ),
    ],
    ids=["none", "a proxy's page", "a proxy's error"],
)
async def test_what_may_not_have_been_done_is_not_called_done(
    stage: Scene, seen: Seen, answered: tuple[int, str] | None, told: str
) -> None:
    async def come_between(route: Route) -> None:
        if answered is None:
            await route.abort()
        else:
            await route.fulfill(status=answered[0], body=answered[1], content_type="text/html")

    page = await seen.opened()
    await unlock(page)
    await page.route("**/api/v1/admin/cache/clear", come_between)
    await expect(await act(page, "Clear…", "Clear")).to_have_text(f" {told}")
    await expect(page.locator("#log .icon")).to_have_class("icon bad")


async def test_a_clear_that_the_other_replicas_do_not_hear_of_is_told_so(tmp_path: Path, chromium: Browser) -> None:
    async with scene(tmp_path, REPLICAS="3") as stage, looking_at(stage.process, chromium) as looked:
        page = await looked.opened()
        await unlock(page)
        told = await act(page, "Clear…", "Clear")
        await expect(told).to_contain_text("Forgotten in this replica; the others share no Redis and keep theirs.")


@quietly
async def test_an_outcome_is_told_where_it_was_asked_for_and_not_in_the_next_dialog(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await unlock(page)
    go_on = asyncio.Event()

    async def linger(route: Route) -> None:
        await go_on.wait()
        await route.continue_()

    await page.route("**/api/v1/providers/anthropic/test", linger)
    await act(page, "Test: anthropic", "Test")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Test: anthropic").click()
    go_on.set()
    await expect(page.locator("#log li")).to_have_count(1)
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_role("status")).to_be_empty()
    await expect(dialog.get_by_role("button", name="Test", exact=True)).to_be_enabled()


@quietly
async def test_what_is_not_confirmed_is_not_done(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await unlock(page)
    await page.get_by_role("button", name="Clear…").click()
    await expect(page.get_by_role("dialog", name="Clear the cache?")).to_have_accessible_description(
        re.compile("The next callers wait for a judge, and pay for it")
    )
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    assert [request.url for request in seen.requests if request.method != "GET"] == []


@quietly
async def test_a_double_click_confirms_nothing(stage: Scene, seen: Seen) -> None:
    await seen.page.set_viewport_size({"width": 390, "height": 700})
    page = await seen.opened()
    await unlock(page)
    clear, confirm = page.get_by_role("button", name="Clear…"), page.locator("#confirm")
    await clear.click()
    place = await confirm.bounding_box()
    assert place is not None
    await page.keyboard.press("Escape")
    await clear.evaluate("(one, y) => scrollBy(0, one.getBoundingClientRect().top - y)", place["y"])
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    assert await page.evaluate("([x, y]) => document.elementFromPoint(x, y).id", [x, y]) == "clear"
    await page.mouse.dblclick(x, y)
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await page.evaluate("([x, y]) => document.elementFromPoint(x, y).id", [x, y]) == "confirm"
    assert [request.url for request in seen.requests if request.method != "GET"] == []
    await confirm.click()
    await expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("Every kept answer is forgotten")


@quietly
async def test_the_key_is_shown_to_the_service_only_and_kept_in_no_storage(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await unlock(page)
    await expect(page.get_by_role("button", name="Forget the key")).to_be_visible()
    async with page.expect_request("**/api/v1/operations") as polled:
        pass
    assert (await (await polled.value).all_headers())["authorization"] == f"Bearer {ADMIN_KEY}"
    assert await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert ADMIN_KEY not in await page.content()
    await page.get_by_role("button", name="Forget the key").click()
    async with page.expect_request("**/api/v1/operations") as polled:
        pass
    assert "authorization" not in await (await polled.value).all_headers()
    await expect(page.get_by_role("button", name="Clear…")).to_be_hidden()


async def test_the_way_back_to_the_page_does_not_lead_to_its_key(stage: Scene, seen: Seen) -> None:
    """Browsers keep a page that was left as it was; the one of these tests is told not to."""
    page = await seen.opened()
    await unlock(page)
    await expect(page.get_by_role("button", name="Forget the key")).to_be_visible()
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    await expect(page.get_by_role("button", name="Act…")).to_be_visible()
    await page.get_by_role("button", name="Act…").click()
    await page.get_by_role("textbox", name="Key").fill(ADMIN_KEY)
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await expect(page.get_by_role("textbox", name="Key", include_hidden=True)).to_have_count(0)


async def test_a_wrong_key_is_refused_and_forgotten(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await unlock(page, "kanarienvogel-of-somebody-else")
    await expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("The key was refused.")
    await page.get_by_role("button", name="Close", exact=True).click()
    await expect(page.get_by_role("button", name="Act…")).to_be_visible()
    await expect(page.get_by_role("button", name="Clear…")).to_be_hidden()


async def test_where_nobody_administers_no_key_is_taken(tmp_path: Path, chromium: Browser) -> None:
    async with scene(tmp_path, ADMIN_API_KEY="") as stage, looking_at(stage.process, chromium) as looked:
        page = await looked.opened()
        await unlock(page)
        await expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text(
            "administration of this service is off"
        )
        await page.get_by_role("button", name="Close", exact=True).click()
        await expect(page.get_by_role("button", name="Clear…")).to_be_hidden()


@pytest.mark.parametrize(
    "key", ["a key of words with spaces", "Schlüssel für die Verwaltung", "ключ администратора службы 鍵"]
)
async def test_a_key_of_any_letters_is_sent_as_it_is(key: str, tmp_path: Path, chromium: Browser) -> None:
    async with scene(tmp_path, ADMIN_API_KEY=key) as stage, looking_at(stage.process, chromium) as looked:
        page = await looked.opened()
        await unlock(page, key)
        await expect(page.get_by_role("button", name="Forget the key")).to_be_visible()
        looked.is_faultless()


async def test_a_key_that_no_header_takes_is_told_and_not_sent(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await unlock(page, f"{ADMIN_KEY}\0")
    await expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("This key cannot be sent")
    assert not [request.url for request in seen.requests if "admin" in request.url]


async def test_where_callers_show_keys_the_administrator_s_opens_the_figures(tmp_path: Path, chromium: Browser) -> None:
    closed = {"AUTH_MODE": "api_key", "CALLER_API_KEYS": f'{{"a-caller": ["{"0" * 64}"]}}'}
    async with scene(tmp_path, **closed) as stage, looking_at(stage.process, chromium) as looked:
        page = looked.page
        await page.goto(looked.url)
        headline = page.get_by_role("heading", level=1)
        await expect(headline).to_have_text("The figures are behind a key.")
        await expect(page.locator("#stale")).to_be_hidden()
        await expect(page.get_by_text("No caller was told an error")).to_be_hidden()  # nobody knows
        await unlock(page)
        await expect(headline).to_have_text("All is well.")
        await expect(page.get_by_text("No caller was told an error")).to_be_visible()
        await expect(judge(page, "anthropic")).to_contain_text("Ready")


@quietly
async def test_a_key_is_taken_only_when_it_is_accepted_and_nobody_has_cancelled(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    checking, go_on = asyncio.Event(), asyncio.Event()

    async def linger(route: Route) -> None:
        checking.set()
        await go_on.wait()
        await route.continue_()

    await page.route("**/api/v1/admin/changes", linger)
    await unlock(page)
    await checking.wait()
    await expect(page.get_by_role("button", name="Clear…")).to_be_hidden()
    await page.keyboard.press("Escape")
    async with page.expect_response("**/api/v1/admin/changes"):
        go_on.set()
    async with page.expect_request("**/api/v1/operations") as polled:
        pass
    assert "authorization" not in await (await polled.value).all_headers()


async def test_a_key_that_is_no_longer_taken_is_forgotten_so_that_another_can_be_given(
    tmp_path: Path, chromium: Browser
) -> None:
    closed = {"AUTH_MODE": "api_key", "CALLER_API_KEYS": f'{{"a-caller": ["{"0" * 64}"]}}'}
    async with scene(tmp_path, **closed) as stage, looking_at(stage.process, chromium) as looked:
        page = looked.page
        await page.goto(looked.url)
        await unlock(page)
        await expect(page.get_by_role("heading", level=1)).to_have_text("All is well.")
        await page.route("**/api/v1/**", lambda route: route.fulfill(status=401, json={}))
        await expect(page.get_by_role("button", name="Act…")).to_be_visible()
        await expect(page.locator("#lead")).to_contain_text("Press “Act…”")


# --- When the service does not answer ---------------------------------------------------------------------------------


async def test_when_the_service_hangs_the_page_says_since_when_and_it_comes_back(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    os.kill(stage.process.process.pid, signal.SIGSTOP)
    stale = page.get_by_text(re.compile(r"Stale since \d\d:\d\d:\d\d UTC"))
    await expect(stale).to_be_visible()
    await expect(page.locator("#live")).to_have_text("stale")
    os.kill(stage.process.process.pid, signal.SIGCONT)
    await expect(stale).to_be_hidden()
    await expect(page.get_by_role("heading", level=1)).to_have_text("All is well.")


async def test_a_proxy_that_answers_for_the_service_is_told_by_its_status(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    for source in ("healthz", "api/v1/**"):
        await page.route(f"**/{source}", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    await expect(page.get_by_role("heading", level=1)).to_have_text("The service does not answer.")
    await expect(page.locator("#stale-since")).to_contain_text(
        "No figures from /healthz (502), /api/v1/providers (502)"
    )


async def test_a_service_that_stops_is_told_to_stop_and_not_yet_to_refuse(tmp_path: Path, chromium: Browser) -> None:
    async with scene(tmp_path, DRAIN_DELAY_S="30") as stage, looking_at(stage.process, chromium) as looked:
        page = await looked.opened()
        stage.process.terminate()
        await expect(page.get_by_role("heading", level=1)).to_have_text("It is stopping.")
        assert (await stage.compare("Phones are good.")).status == 200
        await expect(page.get_by_role("list", name="What is not well")).to_contain_text(
            "it finishes what is under way and, after DRAIN_DELAY_S, takes no new work."
        )


async def goes_on(page: Page, *, seconds: int) -> None:
    """Let time pass on the page, but for that in which it waits for answers: they come, or fail, in real time."""
    for _ in range(seconds):
        await page.clock.run_for(1000)
        while await page.evaluate("polling"):
            pass


async def test_when_the_service_is_gone_it_is_asked_less_and_less_often(stage: Scene, seen: Seen) -> None:
    await seen.page.clock.install()
    page = await seen.opened()
    stage.process.process.kill()
    stage.process.process.wait()
    await goes_on(page, seconds=60)
    await expect(page.get_by_role("heading", level=1)).to_have_text("The service does not answer.")
    await expect(page.locator("#stale-next")).to_contain_text("Trying again")
    rounds = sum(request.url.endswith("/healthz") for request in seen.requests)
    assert 4 <= rounds <= 8


async def test_a_page_that_nobody_looks_at_asks_seldom(stage: Scene, seen: Seen) -> None:
    await seen.page.clock.install()
    await seen.page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => true})")
    page = await seen.opened()
    await goes_on(page, seconds=60)
    assert sum(request.url.endswith("/healthz") for request in seen.requests) <= 4


@pytest.mark.parametrize("is_first", [True, False], ids=["from the start", "later"])
async def test_where_figures_are_missing_it_says_so_and_not_that_all_is_well(
    stage: Scene, seen: Seen, *, is_first: bool
) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=500, body="Internal Server Error")

    if not is_first:
        await seen.opened()
    await seen.page.route("**/api/v1/cache/stats", refuse)
    if is_first:
        await seen.page.goto(seen.url)
    headline = seen.page.get_by_role("heading", level=1)
    await expect(headline).to_contain_text("ome of its figures are missing.")
    await expect(seen.page.locator("#stale-since")).to_contain_text("No figures from /api/v1/cache/stats (500).")
    await expect(seen.page).to_have_title(re.compile("^Degraded"))
    await seen.page.unroute("**/api/v1/cache/stats")
    await expect(headline).to_have_text("All is well.")


@pytest.mark.parametrize(
    ("source", "answered"),
    [
        ("healthz", "{}"),
        ("api/v1/providers", "{}"),
        ("api/v1/cache/stats", "{}"),
        ("api/v1/operations", "{}"),
        ("api/v1/operations", "null"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_told_and_asked_for_again(
    stage: Scene, seen: Seen, source: str, answered: str
) -> None:
    async def garble(route: Route) -> None:
        await route.fulfill(body=answered, content_type="application/json")

    page = await seen.opened()
    await page.route(f"**/{source}", garble)
    headline = page.get_by_role("heading", level=1)
    await expect(headline).not_to_have_text("All is well.")
    await expect(page.locator("#live")).to_have_text("stale")
    await page.unroute(f"**/{source}")
    await expect(headline).to_have_text("All is well.")


# --- What it never does -----------------------------------------------------------------------------------------------


def defaced(told: Any) -> Any:
    """The same, with markup behind every text that is shown as it came."""
    if isinstance(told, dict):
        return {name: defaced(value) for name, value in told.items()}
    if isinstance(told, list):
        return [defaced(value) for value in told]
    return f"{told} {MARKUP}" if isinstance(told, str) and not re.match(r"\d{4}-\d\d-\d\d", told) else told


@quietly
async def test_markup_in_what_the_service_tells_is_shown_as_text(stage: Scene, seen: Seen) -> None:
    await stage.open_circuit()
    await stage.compare("Phones fail.", provider_override="anthropic")

    async def deface(route: Route) -> None:
        response = await route.fetch()
        await route.fulfill(response=response, json=defaced(await response.json()))

    await seen.page.route("**/api/v1/**", deface)
    await seen.page.route("**/healthz", deface)
    page = await seen.opened()
    await expect(judge(page, "anthropic")).to_contain_text(MARKUP)
    await expect(page.get_by_role("table", name="Recent errors")).to_contain_text(MARKUP)
    await expect(page.locator("#identity")).to_contain_text(MARKUP)
    assert await page.locator("img, script:not(body > script)").count() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_every_text_stands_out_from_its_ground(stage: Scene, chromium: Browser, *, dark: bool) -> None:
    await stage.open_circuit()
    await stage.compare("Phones fail.", provider_override="anthropic")
    async with looking_at(stage.process, chromium, dark=dark) as looked:
        page = await looked.opened()
        await unlock(page)
        await expect(page.get_by_role("button", name="Clear…")).to_be_visible()
        assert await page.evaluate(FAINT_TEXTS) == []
        looked.is_faultless()


FAINT_TEXTS = """
() => {
  const pixel = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const read = colour => { pixel.clearRect(0, 0, 1, 1); pixel.fillStyle = colour; pixel.fillRect(0, 0, 1, 1);
    return [...pixel.getImageData(0, 0, 1, 1).data]; };
  const luminance = rgb => rgb.slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = e => {
    const colour = read(getComputedStyle(e).backgroundColor);
    return colour[3] === 255 ? colour : ground(e.parentElement);
  };
  const faint = [];
  for (const e of document.body.querySelectorAll('*')) {
    const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join('');
    if (!text || e.tagName === 'SCRIPT' || !e.checkVisibility()) continue;
    const [a, b] = [luminance(read(getComputedStyle(e).color)), luminance(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(`${text}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return faint;
}
"""


@quietly
async def test_bars_are_seen_where_the_system_chooses_the_colours(stage: Scene, seen: Seen) -> None:
    await seen.page.emulate_media(forced_colors="active")
    page = await seen.opened()
    ground = "one => getComputedStyle(one).backgroundColor"
    bar = page.get_by_role("meter").first
    assert await bar.evaluate(ground) != await bar.locator("i").evaluate(ground)


@quietly
async def test_the_edge_of_a_field_stands_out_like_a_text(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await page.get_by_role("button", name="Act…").click()
    edge = await page.get_by_role("textbox", name="Key").evaluate("one => getComputedStyle(one).borderColor")
    assert edge == await page.locator("#dialog-text").evaluate("one => getComputedStyle(one).color")


@quietly
async def test_on_paper_there_is_nothing_to_press(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    await unlock(page)
    await expect(page.get_by_role("button", name="Clear…")).to_be_visible()
    await page.emulate_media(media="print")
    await expect(page.get_by_role("button")).to_have_count(0)
    await expect(page.get_by_role("columnheader", name="Act")).to_be_hidden()


@quietly
async def test_on_paper_the_page_is_light_and_whole(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    for number in range(8):
        await stage.compare(f"Phones ring, says number {number}.", provider_override="google")
    await expect(page.locator("#errors > tr")).to_have_count(8)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(ground)
    for theme in ("auto", "light"):
        await page.get_by_role("button", name=f"Theme: {theme}").click()
    assert await page.evaluate(ground) != light
    await page.emulate_media(media="print")
    assert await page.evaluate(ground) == light
    errors = page.get_by_role("region", name="Recent errors")
    assert await errors.evaluate("one => one.scrollHeight - one.clientHeight") == 0


async def test_the_stale_line_does_not_cover_what_has_the_focus(stage: Scene, seen: Seen) -> None:
    await seen.page.set_viewport_size({"width": 320, "height": 700})
    page = await seen.opened()
    await unlock(page)
    await expect(page.get_by_role("button", name="Clear…")).to_be_visible()
    for source in ("healthz", "api/v1/providers", "api/v1/cache/stats"):
        await page.route(f"**/{source}", lambda route: route.fulfill(status=502))
    await expect(page.locator("#stale-since")).to_contain_text("/api/v1/cache/stats (502)")
    for button in await page.locator(".actions button:visible").all():
        await button.evaluate(UNDER_THE_LINE)
        await button.focus()
        line, focused = await page.evaluate(
            "[$('stale').getBoundingClientRect().bottom, document.activeElement.getBoundingClientRect().top]"
        )
        assert line <= focused


UNDER_THE_LINE = """
one => scrollBy(0, one.getBoundingClientRect().bottom - $('stale').getBoundingClientRect().bottom)
"""


async def test_in_a_window_zoomed_to_400_percent_the_stale_line_leaves_room(stage: Scene, seen: Seen) -> None:
    await seen.page.set_viewport_size({"width": 320, "height": 256})
    page = await seen.opened()
    await page.route("**/healthz", lambda route: route.abort())
    await expect(page.locator("#stale")).to_be_visible()
    await page.evaluate("scrollTo(0, document.body.scrollHeight)")
    await expect(page.locator("#stale")).not_to_be_in_viewport()


@pytest.mark.parametrize("width", [320, 1000])
@quietly
async def test_with_the_text_spacing_of_wcag_no_card_is_too_small(stage: Scene, seen: Seen, width: int) -> None:
    await seen.page.set_viewport_size({"width": width, "height": 800})
    page = await seen.opened()
    await stage.open_circuit()
    await expect(page.get_by_role("meter", name="EXTERNAL_SERVICE_ERROR")).to_be_attached()
    await page.evaluate(SPACED)
    await every_card_holds_its_text(page)


async def every_card_holds_its_text(page: Page) -> None:
    """In the page's own font and in wider ones."""
    wide = "cards => cards.filter(card => card.scrollWidth > card.clientWidth).map(card => card.innerText)"
    for font in ("", "sans-serif", "serif"):
        await page.evaluate("font => document.body.style.fontFamily = font", font)
        assert await page.locator(".card").evaluate_all(wide) == [], font


SPACED = """
() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    * { line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important; }
    p { margin-bottom: 2em !important; }`);
  document.adoptedStyleSheets = [sheet];
}
"""


@pytest.mark.parametrize("path", ["", "docs"])
async def test_whoever_lets_the_browser_write_larger_reads_everything_larger(
    stage: Scene, seen: Seen, path: str
) -> None:
    await seen.page.goto(f"{seen.url}{path}")
    await expect(seen.page.locator("#judges .state, #compare").first).to_be_visible()
    if not path:
        await unlock(seen.page)
        await expect(seen.page.get_by_role("button", name="Clear…")).to_be_visible()
    usual: list[float] = await seen.page.evaluate(SIZES)
    browser = await seen.page.context.new_cdp_session(seen.page)
    await browser.send("Page.setFontSizes", {"fontSizes": {"standard": 24}})
    larger: list[float] = await seen.page.evaluate(SIZES)
    assert min(after / before for before, after in zip(usual, larger, strict=True)) > 1.1
    for width in (320, 768):
        await seen.page.set_viewport_size({"width": width, "height": 800})
        assert await seen.page.evaluate("document.documentElement.scrollWidth") == width


SIZES = "[...document.body.querySelectorAll('*')].map(one => parseFloat(getComputedStyle(one).fontSize))"


@quietly
async def test_the_theme_follows_the_system_until_somebody_chooses(stage: Scene, seen: Seen) -> None:
    page = await seen.opened()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(ground)
    await page.emulate_media(color_scheme="dark")
    dark = await page.evaluate(ground)
    assert light != dark
    await page.get_by_role("button", name="Theme: auto").click()
    assert await page.evaluate(ground) == light
    await page.get_by_role("button", name="Theme: light").click()
    await page.emulate_media(color_scheme="light")
    assert await page.evaluate(ground) == dark
    await expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()


def swollen(told: Any) -> Any:
    """The same, with every name, reason and count as long as the service allows it."""
    if isinstance(told, dict):
        return {name: "W" * 200 if name in {"reason", "default_model"} else swollen(it) for name, it in told.items()}
    if isinstance(told, list):
        return [swollen(value) for value in told]
    return 12_345_678 if type(told) is int else told


@pytest.mark.parametrize("width", [320, 390, 761, 865, 961, 1025, 1280])
@quietly
async def test_however_long_names_and_counts_are_nothing_is_wider_than_the_window(
    stage: Scene, seen: Seen, width: int
) -> None:
    await stage.open_circuit()

    async def swell(route: Route) -> None:
        response = await route.fetch()
        await route.fulfill(response=response, json=swollen(await response.json()))

    await seen.page.route("**/api/v1/**", swell)
    await seen.page.set_viewport_size({"width": width, "height": 800})
    page = await seen.opened()
    await expect(judge(page, "anthropic")).to_contain_text("W" * 200)
    await expect(page.get_by_role("table", name="Cache")).to_contain_text("12,345,678")
    await unlock(page)
    await expect(page.get_by_role("button", name="Clear…")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    await every_card_holds_its_text(page)


@pytest.mark.parametrize("width", [320, 768, 1280])
async def test_nothing_is_wider_than_the_window(stage: Scene, chromium: Browser, width: int) -> None:
    await stage.open_circuit()
    await stage.compare("Phones fail.", provider_override="anthropic")
    async with looking_at(stage.process, chromium, width=width, height=800) as looked:
        page = await looked.opened()
        await unlock(page)
        await expect(page.get_by_role("button", name="Clear…")).to_be_visible()
        await act(page, "Test: anthropic", "Test")
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        looked.is_faultless()
