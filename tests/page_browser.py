"""What the chat page's tests share: a headless Chromium, and the page opened in it under watch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

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
