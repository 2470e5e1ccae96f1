"""What models write becomes elements of the page: Markdown, code, maths; whole or growing, and never a script."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.page_attacks import ATTACKS, RUN
from tests.page_browser import chromium, needs_browser, watched
from tests.page_server import PageServer

pytestmark = needs_browser

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def module_page(browser: Browser) -> Iterator[Page]:
    """One opened page for all tests of this file: they only call its modules."""
    with PageServer() as server, watched(browser, server.address) as page:
        yield page
        server.shutdown()


def shown(page: Page, text: str) -> str:
    return page.evaluate(SHOW, text)


def formula(page: Page, source: str, display: bool = False) -> str:
    """The inside of the <math> element, without the attribute that repeats the source."""
    made = page.evaluate(FORMULA, [source, display])
    return made[made.index(">") + 1 : made.rindex("</math>")]


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


FORMULAS = [
    (r"\frac{a}{b}", "<mfrac><mi>a</mi><mi>b</mi></mfrac>"),
    (r"\frac12", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"),
    (r"\sqrt{x}", "<msqrt><mi>x</mi></msqrt>"),
    (r"\sqrt[3]{x}", "<mroot><mi>x</mi><mn>3</mn></mroot>"),
    ("x^2", "<msup><mi>x</mi><mn>2</mn></msup>"),
    ("x_i^2", "<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>"),
    ("x^10", "<msup><mi>x</mi><mn>1</mn></msup><mn>0</mn>"),
    ("f''", "<msup><mi>f</mi><mo>′′</mo></msup>"),
    (r"\alpha\beta\Omega", '<mi>α</mi><mi>β</mi><mi mathvariant="normal">Ω</mi>'),
    (r"a \le b \ne c", "<mi>a</mi><mo>≤</mo><mi>b</mi><mo>≠</mo><mi>c</mi>"),
    (r"\mathbb{R}^n", '<msup><mi mathvariant="normal">ℝ</mi><mi>n</mi></msup>'),
    (r"\mathbf{x}", '<mi mathvariant="normal">𝐱</mi>'),
    (r"\mathcal{L}", '<mi mathvariant="normal">ℒ</mi>'),
    (r"\sin x", '<mrow class="function"><mi mathvariant="normal">sin</mi></mrow><mi>x</mi>'),
    (r"\hat{x}", '<mover accent="true"><mi>x</mi><mo stretchy="false">^</mo></mover>'),
    (r"\text{if } x", '<mtext class="text">if </mtext>'),
    (r"\text{如果}", '<mtext class="text">如果</mtext>'),
    (r"\left( x \right]", '<mo stretchy="true" fence="true" form="prefix">(</mo><mi>x</mi>'),
    (r"\left. x \right|", '<mo stretchy="true" fence="true" form="postfix">|</mo>'),
    (r"\binom{n}{k}", '<mfrac linethickness="0"><mi>n</mi><mi>k</mi></mfrac>'),
    (r"\xrightarrow{f}", "→</mo><mi>f</mi></mover>"),
    (r"a \bmod b", "mod</mo>"),
    (r"\overset{!}{=}", "<mover><mo>=</mo><mo>!</mo></mover>"),
    (r"50\%", '<mn>50</mn><mo stretchy="false">%</mo>'),
    (r"\foo{x}", r'<mtext class="unknown">\foo</mtext><mi>x</mi>'),
    (r"\begin{nonsense}x\end{nonsense}", r'<mtext class="unknown">\begin{nonsense}</mtext>'),
    (r"\frac{a}{", "<mfrac><mi>a</mi><mrow></mrow></mfrac>"),
    ("a}b", "<mi>a</mi><mo>}</mo><mi>b</mi>"),
    ("x % comment", "<mi>x</mi>"),
]


@pytest.mark.parametrize(("source", "made"), FORMULAS)
def test_tex_becomes_mathml(module_page: Page, source: str, made: str) -> None:
    assert made in formula(module_page, source)


def test_limits_stand_above_and_below_only_in_display(module_page: Page) -> None:
    assert "<munderover>" in formula(module_page, r"\sum_{i=1}^n i", True)
    assert "<msubsup>" in formula(module_page, r"\sum_{i=1}^n i")
    assert "<munder>" in formula(module_page, r"\lim_{x \to 0} f", True)
    assert "<msubsup>" in formula(module_page, r"\int_0^1 x", True)
    assert "<munderover>" in formula(module_page, r"\int\limits_0^1 x", True)


def test_matrices_cases_and_aligned_equations_are_tables(module_page: Page) -> None:
    matrix = formula(module_page, r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}")
    assert matrix.count("<mtr>") == 2 and matrix.count("<mtd") == 4 and matrix.count("fence") == 2
    cases = formula(module_page, r"\begin{cases} x & x > 0 \\[4pt] 0 & \text{else} \end{cases}")
    assert cases.count("<mtr>") == 2 and 'class="left"' in cases and cases.count("fence") == 1
    aligned = formula(module_page, r"\begin{align*} a &= b \\ &= c \\ \end{align*}", True)
    assert aligned.count("<mtr>") == 2 and 'displaystyle="true"' in aligned
    array = formula(module_page, r"\left[\begin{array}{c|r} a & b \end{array}\right]")
    assert 'class="centre"' in array and 'class="right"' in array
    assert formula(module_page, r"\sum_{\substack{i<n \\ j<m}} x", True).count("<mtr>") == 2


def test_maths_is_found_between_dollars_and_between_brackets(module_page: Page) -> None:
    for text, display in (
        ("$x$", "inline"),
        (r"\(x\)", "inline"),
        ("$$x$$", "block"),
        (r"\[x\]", "block"),
        ("a $$x$$ b", "block"),
    ):
        made = shown(module_page, text)
        assert f'<math display="{display}" aria-label="x">' in made, text
    assert "<math" not in shown(module_page, "`$x$`") and "<math" not in shown(module_page, "```\n$x$\n```")


def test_no_formula_is_too_deep_or_too_long(module_page: Page) -> None:
    for source in (
        "{" * 3000,
        r"\frac" * 3000,
        r"\sqrt{" * 3000,
        r"\left(" * 3000,
        "x^{" * 3000,
        "}" * 3000,
        r"\begin{matrix}" * 1000,
        "x" * 100_000,
        r"\begin{matrix}" + "&" * 15_000,
        r"\mathbf{" * 2000,
        r"\not" * 5000,
        "'" * 15_000,
        "^" * 15_000,
    ):
        assert formula(module_page, source)


CODE = {
    "python": (
        'def f(x: int):\n    """doc"""\n    return x + 1.5e3 # c',
        {"keyword": "def", "string": '"""doc"""', "comment": "# c"},
    ),
    "js": ("const a = `t ${b}`; // c\nf(1)", {"keyword": "const", "string": "`t ${b}`", "function": "f"}),
    "json": ('{"a": [1, true, "x"]}', {"key": '"a"', "number": "1", "constant": "true", "string": '"x"'}),
    "bash": (
        'if [ -f "$A" ]; then echo $B; fi # c',
        {"keyword": "if", "string": '"$A"', "variable": "$B", "comment": "# c"},
    ),
    "rust": ("fn main() -> Vec<u8> { /* c */ }", {"keyword": "fn", "type": "Vec", "comment": "/* c */"}),
    "sql": ("SELECT a FROM b WHERE c = 'd' -- e", {"keyword": "SELECT", "string": "'d'", "comment": "-- e"}),
    "html": (
        '<a href="x">y</a><!-- c -->',
        {"keyword": "<a", "key": "href", "string": '"x"', "comment": "<!-- c -->"},
    ),
    "css": (".a { color: #fff; /* c */ }", {"type": ".a", "key": "color", "number": "#fff", "comment": "/* c */"}),
    "diff": ("@@ 1 @@\n+new\n-old", {"meta": "@@ 1 @@", "string": "+new", "deleted": "-old"}),
    "c++": ("#include <x>\nint main() { return 0x1F; }", {"meta": "#include <x>", "type": "int", "number": "0x1F"}),
    "yaml": ("a: true # c\n- b: 'x'", {"key": "a", "constant": "true", "comment": "# c", "string": "'x'"}),
    "go": ("func f() string { return `x` }", {"keyword": "func", "type": "string"}),
}
PIECES = """async ([text, language]) => {
  const {highlight} = await import("/markdown/highlight.js");
  const nodes = highlight(text, language);
  return nodes.map((node) => (typeof node === "string" ? ["", node] : [node.className, node.textContent]));
}"""


@pytest.mark.parametrize("language", CODE)
def test_code_is_coloured_by_kind(module_page: Page, language: str) -> None:
    text, kinds = CODE[language]
    pieces = module_page.evaluate(PIECES, [text, language])
    for kind, piece in kinds.items():
        assert [f"hl-{kind}", piece] in pieces
    assert "".join(piece for _, piece in pieces) == text


def test_colouring_never_changes_a_letter(module_page: Page) -> None:
    names = module_page.evaluate("async () => Object.keys((await import('/markdown/languages.js')).LANGUAGES)")
    assert len(names) >= 20
    random_ = random.Random(3)
    signs = [
        '"',
        "'",
        "`",
        "/*",
        "*/",
        "//",
        "#",
        "--",
        "\n",
        "\\",
        "<!--",
        "<a",
        "=",
        "$",
        "{",
        "}",
        "1e",
        "if",
        "字",
        " ",
        "'''",
        "[[",
    ]
    for name in names:
        text = "".join(random_.choice(signs) for _ in range(400))
        assert "".join(piece for _, piece in module_page.evaluate(PIECES, [text, name])) == text, name
    assert module_page.evaluate(PIECES, ["x <b>", "no such language"]) == [["", "x <b>"]]


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
