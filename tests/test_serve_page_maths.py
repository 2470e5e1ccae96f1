"""What the chat page makes of formulas and of code in an answer."""

from __future__ import annotations

import random

import pytest
from playwright.sync_api import Page

from tests.page_browser import formula, needs_browser, shown

pytestmark = needs_browser

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
