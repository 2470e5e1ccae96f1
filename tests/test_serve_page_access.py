"""The chat page for everyone: keyboard, screen readers, contrast, two languages, phones, long conversations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import serve_cases
from tests.page_browser import AT_END, CHAT, TOP, begin, button, needs_browser, reload, say, wait_until, watched
from tests.page_server import PageServer


@needs_browser
def test_enter_takes_a_candidate_of_an_input_method_and_does_not_send(page: Page, server: PageServer) -> None:
    page.fill("#draft", "nihao")
    composing = """(type) => {
      const press = {key: "Enter", bubbles: true, cancelable: true, ...type};
      return draft.dispatchEvent(new KeyboardEvent("keydown", press));
    }"""
    assert page.evaluate(composing, {"isComposing": True}) is True
    assert page.evaluate(composing, {"keyCode": 229}) is True
    assert server.asked(CHAT) == []
    session = page.context.new_cdp_session(page)
    page.focus("#draft")
    session.send("Input.imeSetComposition", {"text": "你", "selectionStart": 1, "selectionEnd": 1})
    page.evaluate("draft.addEventListener('keydown', (event) => (window.composed = event.isComposing), {once: true})")
    page.keyboard.press("Enter")
    assert page.evaluate("window.composed") is True and server.asked(CHAT) == []


@needs_browser
def test_the_key_that_sends_can_be_chosen(page: Page, server: PageServer) -> None:
    page.fill("#draft", "one")
    page.press("#draft", "Shift+Enter")
    expect(page.locator("#draft")).to_have_value("one\n")
    button(page, "Page settings").click()
    page.get_by_label("Send with").select_option("ctrl-enter")
    button(page.locator("dialog"), "Close").click()
    page.fill("#draft", "two")
    page.press("#draft", "Enter")
    expect(page.locator("#draft")).to_have_value("two\n")
    page.press("#draft", "Control+Enter")
    expect(page.locator(".user .plain")).to_have_text("two")
    reload(page)
    expect(page.locator("#hint")).to_have_text("Ctrl+Enter sends · Enter for a new line")


@needs_browser
def test_the_keyboard_reaches_everything(page: Page, server: PageServer) -> None:
    say(page, "hello")
    page.focus("#model")
    page.keyboard.press("/")
    expect(page.locator("#draft")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.locator(".edit-field")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#draft")).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator("#draft")).to_have_value("/")
    page.keyboard.press("Control+Shift+O")
    expect(page.locator(".empty")).to_be_visible()
    page.locator("#conversations .open").click()
    page.focus("body")
    page.evaluate("document.activeElement.blur()")
    order = []
    for _ in range(80):  # once around from the first element, wherever it begins
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent")
        order.append(name)
        if order.count("Skip to the conversation") == 2:
            break
    order = order[order.index("Skip to the conversation") :]
    wanted = ["Skip to the conversation", "New conversation", "Search conversations", "Import", "Export all", "Model"]
    wanted += ["Settings of this conversation", "Copy", "Answer again", "Good answer", "Message"]
    places = [order.index(name) for name in wanted]
    assert places == sorted(places)


NAMELESS = """() => {
  const named = (element) => (element.getAttribute("aria-label") || element.textContent.trim()
    || element.labels?.length || element.closest("[aria-hidden]"));
  return [...document.querySelectorAll("button, select, input:not([hidden]), textarea, a, dialog, [role=meter], nav")]
    .filter((element) => !named(element)).map((element) => element.outerHTML);
}"""


@needs_browser
def test_everything_has_a_name_for_screen_readers(page: Page, server: PageServer) -> None:
    server.answers["all"] = [{"reasoning_content": "r"}, {"content": "- [x] t\n\n```py\nx\n```\n[a](https://b.org)"}]
    say(page, "all")
    assert page.evaluate(NAMELESS) == []
    button(page, "Settings of this conversation").click()
    assert page.evaluate(NAMELESS) == []
    page.keyboard.press("Escape")
    button(page, "Page settings").click()
    assert page.evaluate(NAMELESS) == []
    page.keyboard.press("Escape")
    expect(page.locator("#thread")).to_have_attribute("role", "log")
    expect(page.locator("#announce")).to_have_attribute("aria-live", "polite")
    assert page.evaluate("document.documentElement.lang") == "en"


CONTRAST = """() => {
  const probe = document.createElement("span");
  document.body.append(probe);
  const light = (name) => {
    probe.style.color = `var(--${name})`;
    const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const grounds = ["ground", "raised", "sunk", "hover", "soft", "bubble"];
  const pairs = grounds.flatMap((ground) => ["text", "muted"].map((ink) => [ink, ground]));
  for (const ink of ["keyword", "string", "number", "comment", "function", "type", "meta", "key", "bad"]) {
    pairs.push([ink, "code-ground"]);
  }
  pairs.push(["muted", "code-head"], ["accent", "ground"], ["accent", "soft"], ["on-accent", "accent"]);
  pairs.push(["bad", "bad-ground"], ["note", "note-ground"], ["good", "ground"], ["on-accent", "accent-hover"]);
  const found = pairs.map(([ink, ground]) => [ink, ground, ratio(ink, ground)]);
  probe.remove();
  return found;
}"""


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_enough_contrast(browser: Browser, server: PageServer, theme: str) -> None:
    with watched(browser, server.address, color_scheme=theme) as page:
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        weak = [entry for entry in page.evaluate(CONTRAST) if entry[2] < 4.5]
        assert weak == []


@needs_browser
def test_language_and_theme_follow_the_browser_and_can_be_chosen(browser: Browser, server: PageServer) -> None:
    with watched(browser, server.address, locale="zh-CN", color_scheme="dark") as page:
        expect(page.locator("#new-chat")).to_have_text("新对话")
        assert page.evaluate("document.documentElement.lang") == "zh-Hans"
        say(page, "你好")
        button(page, "页面设置").click()
        page.get_by_label("语言").select_option("en")
        expect(page.locator("#new-chat")).to_have_text("New conversation")
        page.locator("dialog select").nth(1).select_option("light")
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        page.keyboard.press("Escape")
        expect(button(page, "Answer again")).to_be_visible()
        reload(page)
        expect(page.locator("#new-chat")).to_have_text("New conversation")
        assert page.evaluate("document.documentElement.dataset.theme") == "light"


@needs_browser
def test_a_phone_gets_a_drawer_and_never_scrolls_sideways(browser: Browser, server: PageServer) -> None:
    wide = "| " + " | ".join("column" for _ in range(12)) + " |\n" + "|--" * 12 + "|\n\n```\n" + "x" * 300 + "\n```\n"
    server.answers["wide"] = wide + "$$" + "x + " * 80 + "$$\n\n" + "w" * 200
    with watched(browser, server.address, viewport={"width": 375, "height": 700}, has_touch=True) as page:
        say(page, "wide")
        assert page.evaluate("document.documentElement.scrollWidth") == 375
        over = "(id) => document.getElementById(id).scrollWidth - document.getElementById(id).clientWidth"
        assert [page.evaluate(over, name) for name in ("scroll", "thread")] == [0, 0]
        expect(page.locator("#new-chat")).not_to_be_visible()
        button(page, "Open the list of conversations").click()
        expect(page.locator("#drawer-close")).to_be_focused()
        expect(page.locator("#drawer-open")).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("Escape")
        expect(page.locator("#drawer-open")).to_be_focused()
        button(page, "Open the list of conversations").click()
        page.locator("#conversations .open").click()
        expect(page.locator("#new-chat")).not_to_be_visible()
        sizes = "[...document.querySelectorAll('header button, #send')].map((one) => one.offsetWidth).filter(Boolean)"
        assert min(page.evaluate(sizes)) >= 36


@needs_browser
def test_a_conversation_of_500_messages_opens_at_its_end_and_grows_at_its_end_only(
    page: Page, server: PageServer, tmp_path: Path
) -> None:
    nodes = {}
    for place in range(500):
        text = f"message {place}\n\n```py\nx = {place}\n```\n\n| a | b |\n|--|--|\n| **{place}** | $x^2$ |"
        parent = f"n{place - 1}" if place else "root"
        role = "assistant" if place % 2 else "user"
        nodes[f"n{place}"] = {"id": f"n{place}", "parent": parent, "role": role, "content": text, "created": place}
    chosen = {"root": "n0"} | {f"n{place}": f"n{place + 1}" for place in range(499)}
    whole = {
        "format": "luhuo-chat",
        "version": 1,
        "conversations": [{"title": "long", "nodes": nodes, "chosen": chosen}],
    }
    file = tmp_path / "long.json"
    file.write_text(json.dumps(whole))
    page.set_input_files("#file", file)
    page.locator("#conversations .open").click()
    expect(page.locator(".message")).to_have_count(500)
    wait_until(page, AT_END)
    expect(page.locator(".message").last.locator("td strong")).to_have_text("499")
    expect(page.locator(".message").nth(1).locator("td strong")).to_have_text("1")
    script = """() => {
      window.touched = new Set();
      new MutationObserver((changes) => {
        for (const {target} of changes) touched.add(target.closest?.(".message")?.dataset.id ?? "");
      }).observe(thread, {childList: true, subtree: true, characterData: true, attributes: true});
    }"""
    page.evaluate(script)
    server.models = {"furnace-small": 10_000_000}
    reload(page)
    page.locator("#conversations .open").click()
    expect(page.locator(".message").nth(1).locator("td strong")).to_have_text("1")
    page.evaluate(script)
    server.answers["more"] = [{"content": f"word{place} "} for place in range(60)]
    say(page, "more")
    expect(page.locator(".message").last.locator(".markdown")).to_contain_text("word59")
    touched = set(page.evaluate("[...touched]"))
    assert not touched & (set(nodes) - {"n499"}), "nothing but the end of the conversation was drawn again"
    expect(page.locator(".message").last).to_be_in_viewport()


@needs_browser
def test_scrolling_up_while_an_answer_grows_is_respected(page: Page, server: PageServer) -> None:
    server.answers["long"] = [piece for place in range(150) for piece in (0.02, {"content": f"line {place}\n\n"})]
    begin(page, "long")
    expect(page.locator(".assistant .markdown")).to_contain_text("line 40")
    page.locator("#scroll").hover()
    page.mouse.wheel(0, -600)
    expect(page.locator("#to-bottom")).to_be_visible()
    top = page.evaluate(TOP)
    expect(page.locator(".assistant .markdown")).to_contain_text("line 149")
    assert abs(page.evaluate(TOP) - top) < 5
    button(page, "To the newest message").click()
    wait_until(page, AT_END)


@needs_browser
def test_code_is_copied_as_it_was_written(page: Page, server: PageServer) -> None:
    server.answers["code"] = "```py\nif a < b:\n    print('&amp;')\n```"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    say(page, "code")
    button(page, "Copy code").click()
    expect(page.locator(".code-head .done")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "if a < b:\n    print('&amp;')"


@needs_browser
def test_two_windows_show_the_same_conversation(page: Page, server: PageServer) -> None:
    say(page, "first")
    other = page.context.new_page()
    other.goto(server.address)
    other.locator("#conversations .open").click()
    expect(other.locator(".user .plain")).to_have_text(["first"])
    say(page, "second")
    expect(other.locator(".user .plain")).to_have_text(["first", "second"])


@needs_browser
def test_the_page_talks_to_the_real_server(browser: Browser, tmp_path: Path) -> None:
    with serve_cases.running(data=tmp_path) as running, watched(browser, running.url + "/") as page:
        expect(page.locator("#model option")).to_have_text(["small"], use_inner_text=False)
        button(page, "Settings of this conversation").click()
        page.locator("dialog").get_by_label("Longest answer").fill("12")
        page.locator("dialog").get_by_label("Temperature").fill("0")
        button(page.locator("dialog"), "Save").click()
        say(page, "hello")
        expect(page.locator(".measures")).to_contain_text("tokens")
        expect(page.locator("#context-text")).to_contain_text("Context: ")
        button(page, "Good answer").click()
        expect(page.locator(".notice")).to_contain_text("preference data")
        (line,) = (tmp_path / "unpaired_preference.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(line)["label"] is True and json.loads(line)["prompt"][0]["content"] == "hello"
        say(page, "x" * 5000)
        expect(page.locator(".problem")).to_contain_text("too long for the model")
