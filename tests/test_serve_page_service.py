"""The chat page and its server: two models, feedback, reasoning, tools, long histories, errors, keys, lost lines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page_browser import CHAT, begin, button, needs_browser, reload, say, told, watched
from tests.page_server import PageServer


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
