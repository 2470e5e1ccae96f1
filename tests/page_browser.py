"""What the chat page's tests share: a headless Chromium, and the page opened in it under watch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.page_server import PageServer

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 60_000
"""A machine may be busy with something else; a test that passes waits for nothing."""
expect.set_options(timeout=PATIENCE_MS)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=options, timeout=4 * PATIENCE_MS)
        yield started
        started.close()


@contextmanager
def watched(browser: Browser, address: str, *, ready: bool = True, **options: Any) -> Iterator[Page]:
    """The page, opened; a script's error or a broken policy fails the test at the end, whatever else it saw."""
    given = {"viewport": {"width": 1280, "height": 860}, "locale": "en-US"} | options
    context = browser.new_context(**given)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(f"{error}"))
    page.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    page.on("request", lambda asked: None if asked.url.startswith((address, "blob:")) else wrong.append(asked.url))
    page.goto(address)
    if ready:
        page.wait_for_selector("html[data-ready]")
    yield page
    context.close()
    assert wrong == []


CHAT = "/v1/chat/completions"


def say(page: Page, text: str) -> None:
    """Send a message and wait for the end of its answer."""
    begin(page, text)
    expect(page.locator("#send[data-busy=false]")).to_be_attached()


def begin(page: Page, text: str) -> None:
    page.fill("#draft", text)
    page.press("#draft", "Enter")
    expect(page.locator(".user .plain").last).to_have_text(text)


def button(where: Page | Locator, name: str) -> Locator:
    return where.get_by_role("button", name=name, exact=True)


def reload(page: Page) -> None:
    page.reload()
    page.wait_for_selector("html[data-ready]")


TOP = "document.getElementById('scroll').scrollTop"
AT_END = """(({scrollHeight, scrollTop, clientHeight}) => scrollHeight - scrollTop - clientHeight < 4)(
  document.getElementById("scroll"))"""


def wait_until(page: Page, script: str) -> None:
    """Wait for what a script says. Playwright's own way compiles text inside the page, which the policy forbids."""
    for _ in range(600):
        if page.evaluate(script):
            return
        page.wait_for_timeout(100)
    raise AssertionError(script)


def told(server: PageServer, place: int = -1) -> list[list[str]]:
    """Roles and texts of a request."""
    return [[message["role"], message["content"]] for message in server.asked(CHAT)[place]["messages"]]


SHOW = """async (text) => {
  const {MarkdownView} = await import("/markdown/render.js");
  const view = new MarkdownView();
  view.update(text);
  return view.element.innerHTML;
}"""


FORMULA = """async ([source, display]) => {
  const {maths} = await import("/maths/mathml.js");
  return maths(source, display).outerHTML;
}"""


def shown(page: Page, text: str) -> str:
    return page.evaluate(SHOW, text)


def formula(page: Page, source: str, display: bool = False) -> str:
    """The inside of the <math> element, without the attribute that repeats the source."""
    made = page.evaluate(FORMULA, [source, display])
    return made[made.index(">") + 1 : made.rindex("</math>")]
