"""An answer on its way to the chat page: no attack in it runs; reasoning, events, a history that fits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.page_attacks import ATTACKS, RUN
from tests.page_browser import needs_browser

pytestmark = needs_browser

CHECKED = """async (texts) => {
  const {MarkdownView} = await import("/markdown/render.js");
  const FORBIDDEN = "script iframe img style link meta form object embed base video audio template".split(" ");
  const wrong = [];
  const box = document.createElement("div");
  document.body.append(box);
  for (const text of texts) {
    for (let end = 1; end <= text.length; end += 7) {
      const view = new MarkdownView();
      view.update(text.slice(0, end + 7));
      box.replaceChildren(view.element);
      for (const element of view.element.querySelectorAll("*")) {
        const tag = element.localName;
        if (FORBIDDEN.includes(tag) || (tag === "svg" && !element.classList.contains("icon"))) wrong.push([text, tag]);
        for (const {name, value} of element.attributes) {
          if (/^(on.*|style|src|srcdoc)$/.test(name)) wrong.push([text, name]);
          if (/href/.test(name) && !/^(https?|mailto):/.test(value)) wrong.push([text, value]);
        }
      }
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  box.remove();
  return {wrong, attacked: window.attacked ?? null};
}"""


def test_no_answer_runs_script_or_loads_anything_or_links_to_a_program(module_page: Page) -> None:
    assert len(ATTACKS) >= 200
    assert module_page.evaluate(CHECKED, ATTACKS) == {"wrong": [], "attacked": None}


def test_the_attacks_would_work_on_a_page_that_trusts_them(browser: Browser) -> None:
    """Without this the corpus could be harmless by a mistake of its own."""
    page = browser.new_page()
    page.set_content(f"<div></div><img src=x onerror={RUN}>")
    page.wait_for_function("window.attacked === 1")
    page.close()


def split(page: Page, content: str) -> dict[str, Any]:
    return page.evaluate("async (text) => (await import('/reasoning.js')).splitReasoning(text)", content)


def test_reasoning_is_told_from_the_answer_at_every_moment(module_page: Page) -> None:
    whole = "<think>\nwhy\n</think>\n\nbecause"
    seen = [split(module_page, whole[:end]) for end in range(1, len(whole) + 1)]
    assert all("<" not in part["answer"] and "<" not in part["reasoning"] for part in seen)
    assert seen[-1] == {"reasoning": "why", "answer": "because", "thinking": False}
    assert split(module_page, "The tag <think> opens reasoning")["answer"] == "The tag <think> opens reasoning"
    assert split(module_page, "a < b")["answer"] == "a < b"


EVENTS = """async ([bytes, size]) => {
  const {events} = await import("/sse.js");
  const whole = new TextEncoder().encode(bytes);
  let at = 0;
  const body = new ReadableStream({pull(control) {
    if (at >= whole.length) return control.close();
    control.enqueue(whole.slice(at, (at += size)));
  }});
  const found = [];
  for await (const text of events(body)) found.push(text);
  return found;
}"""


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_events_are_read_whatever_the_cuts_between_bytes(module_page: Page, ending: str) -> None:
    lines = [
        ": ping",
        "",
        'data: {"a": "你好"}',
        "",
        "event: x",
        "data:b",
        "data: c",
        "",
        "data: [DONE]",
        "",
        "data: late",
        "",
    ]
    for size in (1, 2, 3, 5, 1000):
        assert module_page.evaluate(EVENTS, [ending.join(lines) + ending, size]) == ['{"a": "你好"}', "b\nc"]


TRIM = """async ([messages, context, max]) => {
  const {trim} = await import("/trim.js");
  let asked = 0;
  const count = async (some) => { asked++; return some.reduce((sum, one) => sum + one.content.length + 4, 0); };
  return {...await trim(messages, null, context, max, count), asked};
}"""


def turns(count: int, length: int = 100) -> list[dict[str, str]]:
    return [{"role": "assistant" if place % 2 else "user", "content": f"{place:<{length}}"} for place in range(count)]


def test_the_oldest_turns_are_left_out_until_the_rest_fits(module_page: Page) -> None:
    messages = [{"role": "system", "content": "s" * 50}, *turns(61)]
    told = module_page.evaluate(TRIM, [messages, 2000, 500])
    kept = told["messages"]
    assert kept[0]["role"] == "system" and kept[1]["role"] == "user" and kept[-1] == messages[-1]
    room = 2000 - 500
    assert told["count"] <= room and told["dropped"] == len(messages) - len(kept) > 0
    assert told["count"] + 2 * 104 > room, "one turn more would not have fitted"
    assert told["asked"] <= 7


def test_a_short_history_costs_no_question_and_a_single_message_is_never_cut(module_page: Page) -> None:
    assert module_page.evaluate(TRIM, [turns(3), 4096, 256])["asked"] == 0
    assert module_page.evaluate(TRIM, [turns(3), None, 256]) == {
        "messages": turns(3),
        "dropped": 0,
        "count": None,
        "asked": 0,
    }
    alone = module_page.evaluate(TRIM, [turns(1, 9000), 1000, 256])
    assert alone["messages"] == turns(1, 9000) and alone["dropped"] == 0


def test_a_result_of_a_tool_never_stands_without_its_call(module_page: Page) -> None:
    one = [
        {"role": "user", "content": "u" * 200},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "t" * 200},
        {"role": "assistant", "content": "a" * 200},
    ]
    for context in range(400, 6000, 400):
        kept = module_page.evaluate(TRIM, [one * 8, context, 100])["messages"]
        assert kept[0]["role"] == "user", json.dumps(kept[0])
