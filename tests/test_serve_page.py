"""The chat page in a real browser: what it sends, shows and keeps; keyboard, screen readers, phones, two languages."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests import serve_cases
from tests.page_browser import chromium, needs_browser, watched
from tests.page_server import PAGE, PageServer

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer() as server:
        yield server
        server.shutdown()


@pytest.fixture
def page(browser: Browser, server: PageServer) -> Iterator[Page]:
    with watched(browser, server.address) as page:
        yield page


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


@needs_browser
def test_an_answer_streams_and_says_what_it_cost(page: Page, server: PageServer) -> None:
    say(page, "hello")
    expect(page.locator(".assistant .markdown")).to_have_text("furnace-small heard: hello")
    expect(page.locator(".measures")).to_contain_text("4 tokens · ")
    expect(page.locator("#context-text")).to_have_text("Context: 13 of 4,096 tokens (0%)")
    (asked,) = server.asked(CHAT)
    assert asked["messages"] == [{"role": "user", "content": "hello"}]
    assert asked["stream"] is True and set(asked) == {"model", "messages", "stream", "stream_options"}
    say(page, "again")
    assert told(server) == [["user", "hello"], ["assistant", "furnace-small heard: hello"], ["user", "again"]]
    expect(page.locator("#announce")).to_have_text("furnace-small answered: furnace-small heard: again")


@needs_browser
@pytest.mark.parametrize("how", ["button", "escape"])
def test_stopping_keeps_what_came_and_tells_the_server(page: Page, server: PageServer, how: str) -> None:
    server.answers["long"] = [
        {"content": "begun "},
        *[piece for _ in range(400) for piece in (0.05, {"content": "x"})],
    ]
    begin(page, "long")
    expect(page.locator(".assistant .markdown")).to_contain_text("begun x")
    expect(page.locator(".needs-idle").first).not_to_be_visible()
    if how == "button":
        button(page, "Stop").click()
    else:
        page.keyboard.press("Escape")
    expect(page.locator(".ending")).to_have_text("Stopped.")
    expect(page.locator(".assistant .markdown")).to_contain_text("begun x")
    page.wait_for_timeout(300)
    assert server.gone == 1
    reload(page)
    page.locator("#conversations .open").click()
    expect(page.locator(".assistant .markdown")).to_contain_text("begun x")


@needs_browser
def test_editing_a_message_makes_a_branch_and_both_are_kept(page: Page, server: PageServer) -> None:
    say(page, "first")
    say(page, "second")
    page.locator(".user").first.hover()
    button(page.locator(".user").first, "Edit and send again").click()
    field = page.locator(".edit-field")
    expect(field).to_have_value("first")
    field.fill("changed")
    field.press("Enter")
    expect(page.locator(".assistant .markdown")).to_have_text("furnace-small heard: changed")
    assert told(server) == [["user", "changed"]]
    expect(page.locator(".user .place")).to_have_text("2/2")
    button(page.locator(".user"), "Previous version").click()
    expect(page.locator(".user .plain")).to_have_text(["first", "second"])
    expect(button(page, "Next version")).to_be_focused()
    reload(page)
    page.locator("#conversations .open").click()
    expect(page.locator(".user .plain")).to_have_text(["first", "second"])


@needs_browser
def test_answering_again_keeps_the_other_answers(page: Page, server: PageServer) -> None:
    server.answers["joke"] = "one"
    say(page, "joke")
    server.answers["joke"] = "two"
    button(page.locator(".assistant"), "Answer again").click()
    expect(page.locator(".assistant .markdown")).to_have_text("two")
    expect(page.locator(".assistant .place")).to_have_text("2/2")
    assert told(server) == [["user", "joke"]]
    button(page, "Previous version").click()
    expect(page.locator(".assistant .markdown")).to_have_text("one")
    say(page, "more")
    assert told(server)[1] == ["assistant", "one"]


@needs_browser
def test_deleting_a_message_deletes_what_follows(page: Page, server: PageServer) -> None:
    say(page, "keep")
    say(page, "drop")
    last = page.locator(".user").last
    last.hover()
    button(last, "Delete from here").click()
    button(page.locator("dialog"), "Delete").click()
    expect(page.locator(".user .plain")).to_have_text(["keep"])
    expect(page.locator(".assistant")).to_have_count(1)


@needs_browser
def test_conversations_stay_and_can_be_found_renamed_and_deleted(page: Page, server: PageServer) -> None:
    for text in ("about stoves", "about rivers"):
        say(page, text)
        button(page, "New conversation").click()
        expect(page.locator(".empty")).to_be_visible()
    reload(page)
    listed = page.locator("#conversations .open")
    expect(listed).to_have_text(["about rivers", "about stoves"])
    page.fill("#search", "HEARD: about S")
    expect(listed).to_have_text(["about stoves"])
    page.fill("#search", "nowhere")
    expect(page.locator("#conversations")).to_have_text("Nothing found for “nowhere”.")
    page.fill("#search", "")
    listed.last.hover()
    button(page.locator("#conversations li").last, "Rename").click()
    page.locator("dialog input").fill("Furnaces 炉")
    page.keyboard.press("Enter")
    expect(listed).to_have_text(["about rivers", "Furnaces 炉"])
    listed.last.click()
    expect(page.locator("#title")).to_have_text("Furnaces 炉")
    button(page.locator("#conversations li").last, "Delete").click()
    page.keyboard.press("Escape")
    expect(listed).to_have_count(2)
    button(page.locator("#conversations li").last, "Delete").click()
    button(page.locator("dialog"), "Delete").click()
    expect(listed).to_have_text(["about rivers"])
    expect(page.locator(".empty")).to_be_visible()
    button(page, "Delete all").click()
    button(page.locator("dialog"), "Delete all").click()
    expect(listed).to_have_count(0)
    reload(page)
    expect(listed).to_have_count(0)


@needs_browser
def test_an_export_read_back_is_the_same_conversation(page: Page, server: PageServer, tmp_path: Path) -> None:
    server.answers["q"] = [{"reasoning_content": "why"}, {"content": "an *answer*"}]
    say(page, "q")
    button(page.locator(".assistant"), "Answer again").click()
    expect(page.locator(".assistant .place")).to_have_text("2/2")
    with page.expect_download() as download:
        button(page, "Export all").click()
    file = tmp_path / "export.json"
    download.value.save_as(file)
    written = json.loads(file.read_text(encoding="utf-8"))
    button(page, "Delete all").click()
    button(page.locator("dialog"), "Delete all").click()
    expect(page.locator("#conversations .open")).to_have_count(0)
    page.set_input_files("#file", file)
    expect(page.locator(".notice")).to_have_text("1 conversations imported.")
    page.locator("#conversations .open").click()
    expect(page.locator(".assistant .markdown em")).to_have_text("answer")
    expect(page.locator(".assistant .place")).to_have_text("2/2")
    with page.expect_download() as download:
        button(page, "Export all").click()
    download.value.save_as(file)
    same = [{**conversation, "id": ""} for conversation in json.loads(file.read_text())["conversations"]]
    assert same == [{**conversation, "id": ""} for conversation in written["conversations"]]


CIRCLE = {"a": {"role": "user", "content": "x", "parent": "b"}, "b": {"role": "user", "content": "y", "parent": "a"}}
FILES = [
    ("no json {", "This file is not JSON."),
    ("[]", "This file was not exported from this page."),
    ('{"format": "luhuo-chat", "version": 99, "conversations": []}', "This file comes from a newer version."),
    ('{"format": "luhuo-chat", "version": 1, "conversations": [null]}', "This file is damaged."),
    (
        '{"format": "luhuo-chat", "version": 1, "conversations": [{"nodes": 5, "chosen": [1], "sampling": "x"}]}',
        "1 conv",
    ),
    (
        json.dumps({"format": "luhuo-chat", "version": 1, "conversations": [{"nodes": CIRCLE}]}),
        "This file is damaged.",
    ),
]


@needs_browser
def test_a_file_that_is_no_export_is_refused_in_words(page: Page, tmp_path: Path) -> None:
    for text, message in FILES:
        file = tmp_path / "file.json"
        file.write_text(text)
        page.set_input_files("#file", file)
        expect(page.locator(".notice").last).to_contain_text(message)


@needs_browser
def test_settings_belong_to_a_conversation_and_are_checked(page: Page, server: PageServer) -> None:
    button(page, "Settings of this conversation").click()
    dialog = page.locator("dialog")
    dialog.get_by_label("System prompt").fill("Be brief.")
    dialog.get_by_label("Temperature").fill("3")
    dialog.get_by_label("Tools (JSON)").fill("{")
    button(dialog, "Save").click()
    expect(dialog.locator(".field-error", has_text="Between 0 and 2")).to_be_visible()
    expect(dialog.locator(".field-error", has_text="not a JSON list")).to_be_visible()
    dialog.get_by_label("Temperature").fill("0,5")
    dialog.get_by_label("Top k").fill("40")
    dialog.get_by_label("Seed").fill("7")
    dialog.get_by_label("Stop texts").fill("END\n###")
    dialog.get_by_label("Tools (JSON)").fill("")
    button(dialog, "Save").click()
    expect(dialog).to_have_count(0)
    say(page, "x")
    (asked,) = server.asked(CHAT)
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (asked["temperature"], asked["top_k"], asked["seed"], asked["stop"]) == (0.5, 40, 7, ["END", "###"])
    assert "top_p" not in asked and "max_tokens" not in asked
    button(page, "New conversation").click()
    say(page, "y")
    assert server.asked(CHAT)[-1]["temperature"] == 0.5, "a new conversation begins with the settings of the last one"


@needs_browser
def test_two_models_answer_side_by_side_and_the_choice_is_paired_data(page: Page, server: PageServer) -> None:
    button(page, "Compare two models side by side").click()
    begin(page, "which?")
    expect(page.locator(".side-by-side .markdown")).to_have_text(
        ["furnace-small heard: which?", "furnace-large heard: which?"]
    )
    assert sorted(asked["model"] for asked in server.asked(CHAT)) == ["furnace-large", "furnace-small"]
    page.locator(".better").last.click()
    expect(page.locator(".better").last).to_have_text("Your choice")
    expect(page.locator(".notice")).to_contain_text("preference data")
    large, small = ([{"role": "assistant", "content": f"furnace-{name} heard: which?"}] for name in ("large", "small"))
    assert server.asked("/feedback") == [
        {
            "prompt": [{"role": "user", "content": "which?"}],
            "chosen": large,
            "rejected": small,
            "chosen_model": "furnace-large",
            "rejected_model": "furnace-small",
        }
    ]
    button(page, "Compare two models side by side").click()
    say(page, "next")
    assert told(server) == [["user", "which?"], ["assistant", large[0]["content"]], ["user", "next"]]


@needs_browser
def test_thumbs_are_unpaired_data_and_can_be_taken_back(page: Page, server: PageServer) -> None:
    say(page, "x")
    good = button(page, "Good answer")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    expect(good).to_be_focused()
    answer = [{"role": "assistant", "content": "furnace-small heard: x"}]
    prompt = [{"role": "user", "content": "x"}]
    thumb = {"prompt": prompt, "completion": answer, "label": True, "model": "furnace-small"}
    assert server.asked("/feedback") == [thumb]
    good.click()
    expect(good).to_have_attribute("aria-pressed", "false")
    button(page, "Bad answer").click()
    expect(button(page, "Bad answer")).to_have_attribute("aria-pressed", "true")
    assert server.asked("/feedback") == [thumb, thumb | {"label": False}]


@needs_browser
def test_a_server_without_feedback_shows_no_thumbs(page: Page, server: PageServer) -> None:
    server.feedback = False
    reload(page)
    say(page, "x")
    expect(button(page, "Answer again")).to_be_visible()
    expect(button(page, "Good answer")).to_have_count(0)


@needs_browser
@pytest.mark.parametrize("form", ["field", "tags"])
def test_reasoning_is_folded_away_and_not_sent_back(page: Page, server: PageServer, form: str) -> None:
    field = [{"reasoning_content": "step "}, {"reasoning_content": "by step"}, {"content": "42"}]
    tags = [{"content": "<thi"}, {"content": "nk>step by"}, {"content": " step</think>\n\n"}, {"content": "42"}]
    server.answers["why"] = field if form == "field" else tags
    say(page, "why")
    expect(page.locator(".assistant .markdown")).to_have_text("42")
    expect(page.locator(".thought-text")).not_to_be_visible()
    page.locator(".thought summary").click()
    expect(page.locator(".thought-text")).to_have_text("step by step")
    say(page, "go on")
    assert told(server)[1] == ["assistant", "42"]


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@needs_browser
def test_a_tool_call_is_shown_and_its_result_sent(page: Page, server: PageServer) -> None:
    button(page, "Settings of this conversation").click()
    page.locator("dialog").get_by_label("Tools (JSON)").fill(json.dumps(TOOLS))
    button(page.locator("dialog"), "Save").click()
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    rest = [{"index": 0, "function": {"arguments": piece}} for piece in ('{"city"', ': "Xi\'an"}')]
    server.answers["weather?"] = [{"tool_calls": [piece]} for piece in (call, *rest)]
    server.answers["22 °C"] = "It is 22 °C."
    say(page, "weather?")
    expect(page.locator(".tool-name")).to_have_text("Calls weather")
    expect(page.locator(".tool-call code")).to_contain_text('"city": "Xi\'an"')
    page.get_by_label("Result of weather").fill("22 °C")
    button(page, "Send results").click()
    expect(page.locator(".assistant .markdown").last).to_have_text("It is 22 °C.")
    messages = server.asked(CHAT)[-1]["messages"]
    assert server.asked(CHAT)[-1]["tools"] == TOOLS
    assert messages[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Xi\'an"}'}
    assert messages[2] == {"role": "tool", "tool_call_id": "c1", "content": "22 °C"}


@needs_browser
def test_a_history_that_is_too_long_is_trimmed_and_the_page_says_so(page: Page, server: PageServer) -> None:
    server.models = {"furnace-small": 640}
    reload(page)
    for place in range(3):
        say(page, f"{place}" + "x" * 60)
    expect(page.locator(".trimmed")).to_have_text("To fit the context, the model was not shown the 2 oldest messages.")
    assert len(told(server)) == 3 and told(server)[0][1].startswith("1")
    assert len(server.asked("/tokenize")) >= 2
    page.locator("#conversations .open").click()
    expect(page.locator(".user")).to_have_count(3)


def refusal(
    status: int, code: str, message: str = "words", **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    return status, {"message": message, "type": "error", "code": code}, headers


@needs_browser
def test_errors_are_said_in_plain_words(page: Page, server: PageServer) -> None:
    cases = [
        (refusal(400, "context_length_exceeded", "context is 400 and the prompt has 900"), "too long for the model"),
        (refusal(404, "model_not_found"), "does not have this model"),
        (refusal(500, "x", "a bug"), "The server says: a bug"),
        (refusal(503, "shutting_down"), "shutting down"),
        (refusal(400, "x", "<img src=x onerror=alert(1)>"), "<img src=x onerror=alert(1)>"),
    ]
    for case, words in cases:
        server.refusals = [case]
        say(page, f"to {case[0]}")
        expect(page.locator(".problem").last).to_contain_text(words)
    button(page.locator(".problem").last, "Try again").click()
    expect(page.locator(".assistant .markdown").last).to_have_text("furnace-small heard: to 400")
    assert page.locator(".assistant").count() == len(cases), "the failed answer made room for the good one"


@needs_browser
def test_a_busy_server_is_asked_again_after_the_time_it_names(page: Page, server: PageServer) -> None:
    server.refusals = [refusal(429, "rate_limit_exceeded", **{"Retry-After": "1"})]
    begin(page, "x")
    expect(page.locator(".note.busy")).to_have_text("The server is busy. Trying again in 1 s.")
    expect(page.locator(".assistant .markdown")).to_have_text("furnace-small heard: x")
    server.refusals = [refusal(429, "x", **{"Retry-After": "60"})]
    begin(page, "y")
    expect(page.locator(".note.busy")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".ending")).to_have_text("Stopped.")


@needs_browser
def test_a_broken_connection_and_a_server_that_is_gone_are_told_apart(page: Page, server: PageServer) -> None:
    server.cut = True
    say(page, "x")
    expect(page.locator(".problem")).to_contain_text("The connection broke before the answer was complete.")
    expect(page.locator(".assistant .markdown")).to_have_text("furnace-small heard: x")
    server.down = True
    say(page, "y")
    expect(page.locator(".problem").last).to_contain_text("The server does not answer.")


@needs_browser
def test_a_key_is_asked_for_kept_for_the_tab_and_never_on_disk(browser: Browser, server: PageServer) -> None:
    server.key = "secret"
    with watched(browser, server.address, ready=False) as page:
        dialog = page.locator("dialog")
        expect(dialog).to_contain_text("The server asks for an API key.")
        dialog.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("does not accept this API key")
        dialog.get_by_label("API key").fill("secret")
        page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        page.wait_for_selector("html[data-ready]")
        say(page, "x")
        expect(page.locator(".assistant .markdown")).to_have_text("furnace-small heard: x")
        assert "secret" not in page.evaluate("JSON.stringify([localStorage, document.cookie])")
        server.key = "changed"
        say(page, "y")
        page.locator("dialog").get_by_label("API key").fill("changed")
        page.keyboard.press("Enter")
        expect(page.locator(".assistant .markdown").last).to_have_text("furnace-small heard: y")


@needs_browser
def test_a_full_browser_is_said_and_the_conversation_goes_on(page: Page, server: PageServer) -> None:
    session = page.context.new_cdp_session(page)
    session.send("Storage.overrideQuotaForOrigin", {"origin": server.address.rstrip("/"), "quotaSize": 1000})
    say(page, "x" * 20_000)
    expect(page.locator(".notice")).to_contain_text("The browser's storage is full.")
    expect(page.locator(".assistant .markdown")).to_contain_text("furnace-small heard: x")


@needs_browser
def test_a_page_closed_in_mid_answer_keeps_what_came(page: Page, server: PageServer) -> None:
    server.answers["long"] = [{"content": "begun"}, 2.5, {"content": " on"}, 30.0]
    begin(page, "long")
    expect(page.locator(".assistant .markdown")).to_have_text("begun on")
    page.wait_for_timeout(2200)
    reload(page)
    page.locator("#conversations .open").click()
    expect(page.locator(".ending")).to_contain_text("The page was closed before the answer was complete.")
    expect(page.locator(".assistant .markdown")).to_have_text("begun on")


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


PICTURE_MOST = 300_000
ANSWER_EN = """The quadratic formula follows from **completing the square**. For $a \\neq 0$:

$$
ax^2 + bx + c = 0 \\;\\Longrightarrow\\; \\left(x + \\frac{b}{2a}\\right)^2 = \\frac{b^2 - 4ac}{4a^2}
\\;\\Longrightarrow\\; x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}
$$

In code, with the case of no real root:

```python
from math import sqrt

def roots(a: float, b: float, c: float) -> tuple[float, ...]:
    \"\"\"The real roots of a·x² + b·x + c, smallest first.\"\"\"
    d = b * b - 4 * a * c
    if d < 0:
        return ()  # no real root
    return tuple(sorted({(-b - sqrt(d)) / (2 * a), (-b + sqrt(d)) / (2 * a)}))
```

| discriminant | real roots |
|:--|--:|
| $d > 0$ | 2 |
| $d = 0$ | 1 |
| $d < 0$ | 0 |
"""
ANSWER_ZH = """绿茶和红茶来自同一种植物，差别在**发酵程度**。

| | 绿茶 | 红茶 |
|:--|:--|:--|
| 发酵 | 不发酵 | 全发酵 |
| 水温 | 约 80 ℃ | 约 95 ℃ |
| 口味 | 清爽、略带青草香 | 醇厚、甜香 |

1. 绿茶先**杀青**，高温使酶失去活性。
2. 红茶先*萎凋*、揉捻，再让茶叶充分氧化。

> 品质好的茶，冲泡三次仍有余香。

如果想知道咖啡因含量，可以用 $m = c \\times V$ 估算。
"""
SHORT = """All tea comes from **one plant**. Green tea is heated soon after picking; black tea is left to oxidise."""
LONGER = """It depends on *oxidation*:

- **Green**: the leaves are steamed or pan-fired at once, which stops the enzymes.
- **Oolong**: stopped halfway.
- **Black**: rolled, then oxidised for hours before drying.

The plant, *Camellia sinensis*, is the same."""


def paced(text: str) -> list[Any]:
    """A text in pieces, with a pause before each one."""
    return [piece for at in range(0, len(text), 9) for piece in (0.01, {"content": text[at : at + 9]})]


def picture(page: Page, folder: Path, name: str) -> None:
    """A screenshot, small enough for a README; LUHUO_SCREENSHOTS names another folder to keep it in."""
    file = folder / f"chat-{name}.png"
    page.screenshot(path=file)
    assert 20_000 < file.stat().st_size < PICTURE_MOST, "a blank page compresses to less"


@needs_browser
def test_the_page_looks_as_in_the_pictures(browser: Browser, server: PageServer, tmp_path: Path) -> None:
    folder = Path(os.environ.get("LUHUO_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    ask = "Derive the quadratic formula and show it in Python."
    server.answers |= {
        ask: paced(ANSWER_EN),
        "比较绿茶和红茶": [{"reasoning_content": "先说共同点，再说差别。"}, *paced(ANSWER_ZH)],
    }
    for model, text in (("small", SHORT), ("large", LONGER)):
        server.answers[f"furnace-{model}:Why is tea green or black?"] = paced(text)
    with watched(browser, server.address, viewport={"width": 1280, "height": 900}) as page:
        for earlier in ("What does a tokenizer do?", "Plan a week in Chengdu", "关于残差连接的问题"):
            say(page, earlier)
            button(page, "New conversation").click()
        page.mouse.move(700, 760)
        picture(page, folder, "empty")
        say(page, ask)
        page.mouse.move(700, 760)
        picture(page, folder, "light")
        page.emulate_media(color_scheme="dark")
        picture(page, folder, "dark")
        page.emulate_media(color_scheme="light")
        button(page, "New conversation").click()
        button(page, "Compare two models side by side").click()
        say(page, "Why is tea green or black?")
        page.locator(".better").last.click()
        expect(page.locator(".better").last).to_have_text("Your choice")
        button(page, "Dismiss").click()
        picture(page, folder, "side-by-side")
    with watched(browser, server.address, viewport={"width": 1280, "height": 900}, locale="zh-CN") as page:
        say(page, "比较绿茶和红茶")
        page.locator(".thought summary").click()
        picture(page, folder, "chinese")
    phone: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 2, "has_touch": True}
    with watched(browser, server.address, **phone) as page:
        say(page, ask)
        page.evaluate("document.getElementById('scroll').scrollTo(0, 0)")
        picture(page, folder, "phone")


SOURCES = sorted(PAGE.rglob("*.js"))


def test_every_text_of_the_interface_exists_in_both_languages_and_is_used() -> None:
    words = (PAGE / "words.js").read_text(encoding="utf-8")
    entries = re.findall(r'(\w+): \["((?:[^"\\]|\\.)*)", "((?:[^"\\]|\\.)*)"\]', words)
    assert len(entries) == len(dict.fromkeys(name for name, *_ in entries)) > 100
    holes = {name: [set(re.findall(r"\{\w+\}", text)) for text in texts] for name, *texts in entries}
    assert [name for name, (english, chinese) in holes.items() if english != chinese] == []
    same = {"top_p", "top_k", "min_p", "en", "zh", "sendEnter", "sendCtrl"}
    assert [
        name for name, english, chinese in entries if name not in same and not re.search(r"[\u4e00-\u9fff]", chinese)
    ] == []
    assert [
        name for name, english, chinese in entries if name not in same and re.search(r"[\u4e00-\u9fff]", english)
    ] == []
    code = "\n".join(file.read_text(encoding="utf-8") for file in SOURCES if file.name != "words.js")
    code += (PAGE / "index.html").read_text(encoding="utf-8")
    used = set(re.findall(r'["`](\w+?)["`]', code)) | set(re.findall(r'data-t(?:-\w+)?="(\w+)"', code))
    used |= {f"{name}Hint" for name in re.findall(r"^  (\w+): \{min:", code, re.MULTILINE)}
    used |= set(re.findall(r"^  (\w+): \{min:", code, re.MULTILINE))
    names = {name for name, *_ in entries}
    assert sorted(names - used) == [], "said nowhere"
    asked = set(re.findall(r'\bt\("(\w+)"', code)) | set(re.findall(r'data-t(?:-\w+)?="(\w+)"', code))
    assert sorted(asked - names) == [], "said but not written"


def test_the_page_is_plain_files_without_markup_from_strings_or_other_hosts() -> None:
    assert len(SOURCES) > 20
    for file in SOURCES:
        text = file.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function", text
        ), file
        assert set(re.findall(r"https?://[\w./]+", text)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1998/Math/MathML",
        }, file
        assert len(text.splitlines()) <= 300, f"{file.name} is about more than one thing"
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    assert "http" not in page and " style=" not in page and not re.search(r"\son\w+=", page)
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)
    for sheet in PAGE.rglob("*.css"):
        assert not re.search(r"url\(|@import|https?:", sheet.read_text(encoding="utf-8")), sheet
