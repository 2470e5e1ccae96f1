"""What models write becomes elements of the page: Markdown, whole or growing, and never a script."""

from __future__ import annotations

import random

import pytest
from playwright.sync_api import Page

from tests.page_browser import needs_browser, shown

pytestmark = needs_browser
BLOCKS = [
    ("# One #\n\n## Two", "<h1>One</h1><h2>Two</h2>"),
    ("#no heading", "<p>#no heading</p>"),
    ("Title\n===\nText", "<h1>Title</h1><p>Text</p>"),
    ("a\nb", "<p>a<br>b</p>"),
    ("a\n\nb", "<p>a</p><p>b</p>"),
    ("---", "<hr>"),
    ("> a\nb\n\nc", "<blockquote><p>a<br>b</p></blockquote><p>c</p>"),
    ("- a\n- b", "<ul><li>a</li><li>b</li></ul>"),
    ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    ("- a\n\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"),
    ("- a\n  - b\n    - c", "<ul><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li></ul>"),
    ("1. a\n   - b\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"),
    ("* a\n\ntext", "<ul><li>a</li></ul><p>text</p>"),
    ("1986. A year", '<ol start="1986"><li>A year</li></ol>'),
    ("in\n1986. a year", "<p>in<br>1986. a year</p>"),
    ("text\n- item", "<p>text</p><ul><li>item</li></ul>"),
    ("- one\n\n  two", "<ul><li><p>one</p><p>two</p></li></ul>"),
    ("a | b\n--- | ---", '<table><thead><tr><th class="align-start" scope="col">a</th>'),
    ("| a | b |\n|---|", "<p>| a | b |<br>|---|</p>"),
    ("| `x|y` | a\\|b |\n|:-:|--:|\n| 1 |", '<th class="align-center" scope="col"><code>x|y</code></th>'),
    ("| `x|y` | a\\|b |\n|:-:|--:|\n| 1 |", '<td class="align-center">1</td><td class="align-end"></td>'),
    ("<b>x</b>", "<p>&lt;b&gt;x&lt;/b&gt;</p>"),
]


@pytest.mark.parametrize(("text", "made"), BLOCKS)
def test_blocks_of_markdown_become_elements(module_page: Page, text: str, made: str) -> None:
    assert made in shown(module_page, text)


LINE = [
    (
        "**bold** *it* ***both*** ~~gone~~",
        "<strong>bold</strong> <em>it</em> <em><strong>both</strong></em> <s>gone</s>",
    ),
    ("snake_case_name and 2*3", "snake_case_name and 2*3"),
    ("_a_ __b__", "<em>a</em> <strong>b</strong>"),
    ("**重点。**后面", "<strong>重点。</strong>后面"),
    ("这是**“重点”**内容", "这是<strong>“重点”</strong>内容"),
    ("中文_不是强调_中文", "中文<em>不是强调</em>中文"),
    ("**unclosed", "**unclosed"),
    ("*foo**bar**baz*", "<em>foo<strong>bar</strong>baz</em>"),
    ("*foo**bar*", "<em>foo**bar</em>"),
    ("foo******bar*********baz", "foo<strong><strong><strong>bar</strong></strong></strong>***baz"),
    ("***foo** bar*", "<em><strong>foo</strong> bar</em>"),
    ("`a` ``b`c`` `d", "<code>a</code> <code>b`c</code> `d"),
    (r"\*a\* \\ \_", r"*a* \ _"),
    ("a  \nb", "a<br>b"),
    ("&amp; &lt; &#20320; &copy; &nothing;", "&amp; &lt; 你 © &amp;nothing;"),
    ("costs $5 and $6", "costs $5 and $6"),
    ("H~2~O ~a~", "H<s>2</s>O <s>a</s>"),
    ("[a](relative) [b](#x)", "<span>a</span> <span>b</span>"),
]


@pytest.mark.parametrize(("text", "made"), LINE)
def test_signs_inside_a_line_become_elements(module_page: Page, text: str, made: str) -> None:
    assert shown(module_page, text) == f"<p>{made}</p>"


LINKS = [
    ("[a](https://example.org/x?a=1&b=2)", "https://example.org/x?a=1&b=2"),
    ('[a](<https://example.org/a b> "title")', "https://example.org/a%20b"),
    ("[a](https://example.org/wiki/X_(y))", "https://example.org/wiki/X_(y)"),
    ("<https://example.org>", "https://example.org/"),
    ("<me@example.org>", "mailto:me@example.org"),
    ("see https://example.org/a, and", "https://example.org/a"),
    ("(www.example.org/b)", "https://www.example.org/b"),
    ("看https://example.org/中文。", "https://example.org/"),
    ("![p](https://example.org/p.png)", "https://example.org/p.png"),
]


@pytest.mark.parametrize(("text", "address"), LINKS)
def test_links_lead_out_without_telling_where_from(module_page: Page, text: str, address: str) -> None:
    script = """async (text) => {
      const {MarkdownView} = await import("/markdown/render.js");
      const view = new MarkdownView();
      view.update(text);
      return [...view.element.querySelectorAll("a")].map((a) => [a.getAttribute("href"), a.rel, a.target]);
    }"""
    assert module_page.evaluate(script, text) == [[address, "noopener noreferrer nofollow", "_blank"]]


GROWING = """Intro **bold

Title
---
1. one
2. two

   ```python
   def f(): return "x"
   ```
3. three

| a | b |
|---|:-:|
| 1 | $x$ |
text after

$$
\\frac{a}{b}
$$

> quote
> - item

- [ ] todo
- [x] done

```js
const a = 1 // 中文
```
\\[ x^2 \\] and $5, 👩‍👩‍👧 **粗。**体 [l](https://example.org) <https://example.org>
***
end"""


def test_a_growing_answer_looks_at_every_moment_as_if_it_had_come_at_once(module_page: Page) -> None:
    script = """async (text) => {
      const {MarkdownView} = await import("/markdown/render.js");
      const growing = new MarkdownView();
      const differing = [];
      for (let end = 1; end <= text.length; end++) {
        growing.update(text.slice(0, end));
        const whole = new MarkdownView();
        whole.update(text.slice(0, end));
        if (whole.element.innerHTML !== growing.element.innerHTML) differing.push(text.slice(0, end));
      }
      return differing;
    }"""
    assert module_page.evaluate(script, GROWING) == []
    assert module_page.evaluate(script, GROWING.replace("\n", "\r\n")[:400]) == []


def test_only_the_last_block_of_a_growing_answer_is_made_anew(module_page: Page) -> None:
    script = """async () => {
      const {MarkdownView} = await import("/markdown/render.js");
      const view = new MarkdownView();
      const start = Array.from({length: 300}, (_, place) => `Paragraph ${place}`).join("\\n\\n");
      view.update(start);
      const before = [...view.element.children];
      view.update(start + " and more");
      const after = [...view.element.children];
      return [before.length, after.length, after.filter((element, place) => element === before[place]).length];
    }"""
    assert module_page.evaluate(script) == [300, 300, 299]


@pytest.mark.parametrize("seed", range(4))
def test_no_soup_of_markdown_signs_loses_letters_or_breaks_the_page(module_page: Page, seed: int) -> None:
    random_ = random.Random(seed)
    signs = [
        "*",
        "**",
        "_",
        "~~",
        "`",
        "```\n",
        "\n",
        "\n\n",
        "> ",
        "- ",
        "1. ",
        "|",
        "|--|",
        "[",
        "](",
        ")",
        "<",
        ">",
    ]
    signs += [
        "$",
        "$$",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "\\",
        "#",
        "    ",
        "\t",
        "{",
        "}",
        "^",
        "\\frac",
        "&",
        "&amp;",
        "!",
    ]
    soup = ["".join(random_.choice([*signs, "w", "字", " "]) for _ in range(120)) + "END" for _ in range(60)]
    script = """async (texts) => {
      const {MarkdownView} = await import("/markdown/render.js");
      return texts.filter((text) => {
        const view = new MarkdownView();
        view.update(text);
        return !view.element.textContent.includes("END");
      });
    }"""
    assert module_page.evaluate(script, soup) == []


LONG = 40_000
HOSTILE = [
    "*a " * LONG,
    "**a* " * LONG,
    "[" * LONG,
    "[a](" * LONG,
    "`" * LONG,
    "`a``" * LONG,
    "\\(" * LONG,
    "$a " * LONG,
    "<" * LONG,
    "> " * LONG,
    "- " * LONG,
    "1. " * LONG,
    "|" * LONG + "\n" + "|-" * LONG,
    "#" + " " * LONG + "x",
    "a\n" * LONG,
    "- a" + "\n" * LONG + "b",
    "_" * LONG,
    "~" * LONG,
    "&" * LONG,
    "http://" * LONG,
    "http://a" + "." * LONG + "a",
    "!" * LONG,
    "a" + " " * LONG + "\nb",
    "".join(" " * depth + "- a\n" for depth in range(300)),
    "<a@" * LONG,
    "*_" * LONG,
    "\\" * LONG,
]


def test_no_hostile_text_stops_the_page(module_page: Page) -> None:
    """Each would take minutes in a renderer that is quadratic in its input; a time-out of the test's own is enough."""
    for text in HOSTILE:
        assert shown(module_page, text)
