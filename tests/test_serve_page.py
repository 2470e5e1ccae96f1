"""The chat page in a real browser: what it sends, shows and keeps; how it looks; what its files are made of."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page_browser import CHAT, begin, button, needs_browser, reload, say, told, watched
from tests.page_server import PAGE, PageServer


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
