"""The chat page in a real browser: what it sends, what it shows, what it keeps, and what it never runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.page_server import PageServer

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH")
pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer() as server:
        yield server
        server.shutdown()


@pytest.fixture
def page(browser: Browser, server: PageServer, tmp_path: Path) -> Iterator[Page]:
    """The page, opened; a script error or a broken policy anywhere in a test fails it."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, locale="en-US")
    context.set_default_timeout(60_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    opened(page, server)
    yield page
    context.close()
    assert wrong == []


def opened(page: Page, server: PageServer) -> None:
    page.goto(server.address)
    page.wait_for_selector("html[data-ready]")


def say(page: Page, text: str) -> None:
    page.fill("#draft", text)
    page.keyboard.press("Enter")


def test_an_answer_streams_and_says_what_it_cost(page: Page, server: PageServer) -> None:
    say(page, "hello")
    expect(page.locator(".assistant .markdown")).to_have_text("furnace-small heard: hello")
    expect(page.locator(".measures")).to_contain_text("tokens")
    (asked,) = server.asked("/v1/chat/completions")
    assert asked["messages"] == [{"role": "user", "content": "hello"}]
    assert asked["stream"] is True and set(asked) == {"model", "messages", "stream", "stream_options"}
