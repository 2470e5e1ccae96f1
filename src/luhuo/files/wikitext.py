"""Plain text out of MediaWiki's markup, in one pass over its brackets, so that no nesting can make it slow.

Kept: running text, headings (as `## heading`), lists, the shown halves of links, formulas, code. Left out: templates
but those that only show their argument, tables, references, pictures, categories, and sections that are lists of
sources or links.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

TOKEN = re.compile(r"\{\{|\}\}|\{\||\|\}|\[\[|\]\]|-\{|\}-")
CLOSES = {"}}": "{{", "|}": "{|", "]]": "[[", "}-": "-{"}
DEPTH = 60
"""Brackets inside of each other that are understood; what lies deeper is left out."""

COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.S)
DROPPED = ("ref", "gallery", "timeline", "imagemap", "score", "graph", "mapframe", "maplink", "templatedata", "hiero",
           "noinclude", "indicator")  # fmt: skip
MATHS = ("math", "ce", "chem")
CODE = ("syntaxhighlight", "source", "pre", "nowiki")
ELEMENT = re.compile(rf"<(/?)({'|'.join((*DROPPED, *MATHS, *CODE))})\b([^<>]*)>", re.I)
BREAK = re.compile(r"<(?:br|hr)\s*/?>|</(?:p|div|li|tr|td|th|h\d)\s*>", re.I)
TAG = re.compile(r"</?[a-zA-Z][^<>]{0,1000}>")
QUOTES = re.compile("'{2,}")
EXTERNAL = re.compile(r"\[(?:(?:https?:|ftp:)?//|mailto:)[^\s\[\]]++ *+([^\[\]\n]*+)\]")
BEHAVIOUR = re.compile(r"__[A-Z]{3,}__")
HEADING = re.compile(r"^(={1,6})[ \t]{0,9}([^\n]{1,300}?)[ \t]{0,9}={1,6}[ \t]*$", re.M)
ITEM = re.compile(r"^([*#:;]+)[ \t]*", re.M)
HOLLOW = re.compile(r"[(（][\s,，、;；:：\-–和及or]*[)）]")
LEFT_OVER = re.compile(r"[\s,，、;；]+([)）])|([(（])[\s,，、;；]+")
SPACES = re.compile(r"[ \t\u00a0]{2,}")
EDGES = re.compile(r"[ \t]+$", re.M)
EMPTY = re.compile(r"\n{3,}")

FILES = re.compile(
    r"\s*(?:file|image|category|media|文件|檔案|档案|图像|圖像|圖片|图片|媒体|媒體|分类|分類)\s*:", re.I
)
OTHER_WIKI = re.compile(r"\s*[a-z]{2,3}(?:-[a-z]+)*\s*:")

SHOWN = frozenset({"lang", "transl", "langx"})
"""Templates that show their second argument."""
FIRST = frozenset({
    "nowrap", "nobr", "nobold", "small", "big", "smaller", "larger", "em", "strong", "abbr", "linktext", "le", "tsl",
    "link-en", "link-ja", "link-fr", "link-de", "link-es", "link-ru", "ill", "ill-wd", "internal link helper", "lj",
    "math", "mvar", "nihongo", "zh-hans", "zh-hant", "jpn", "tooltip", "le2", "r-phrase", "keypress", "code", "mono",
    "quote", "cquote", "quotation", "blockquote", "poemquote", "align", "center", "sic", "ruby", "ruby-zh-b", "red",
})  # fmt: skip
"""Templates that show their first argument."""
PAIRS = frozenset({"convert", "cvt"})

SOURCES = re.compile(
    "references|external links|notes|see also|further reading|bibliography|sources|citations|footnotes"
    "|notes and references|references and notes|参考文献|參考文獻|参考资料|參考資料|外部链接|外部連結"
    "|注释|註釋|注解|註解|参见|參見|参看|參看|延伸阅读|延伸閱讀|脚注|腳註|相关条目|相關條目|参考来源|參考來源"
    "|资料来源|資料來源|扩展阅读|擴展閱讀|外部链结|备注|備註|註腳|注脚|参考|參考",
    re.I,
)
"""Sections that hold no running text."""

KEEP_OPEN, KEEP_CLOSE = "\x00", "\x01"


def plain(markup: str) -> str:
    """The text that a reader of the page sees. Never raises; unbalanced brackets are dropped."""
    kept: list[str] = []

    def keep(text: str) -> str:
        kept.append(text)
        return f"{KEEP_OPEN}{len(kept) - 1}{KEEP_CLOSE}"

    text = markup.replace(KEEP_OPEN, "").replace(KEEP_CLOSE, "").replace("\r\n", "\n")
    text = COMMENT.sub("", text)
    text = _without_elements(text, keep)
    text = _without_brackets(text)
    text = EXTERNAL.sub(lambda found: found.group(1), text)
    text = BREAK.sub("\n", text)
    text = TAG.sub("", text)
    text = QUOTES.sub("", BEHAVIOUR.sub("", text))
    text = html.unescape(text)
    text = ITEM.sub(lambda found: "- " if found.group(1)[-1] in "*#" else "", text)
    text = SPACES.sub(" ", LEFT_OVER.sub(r"\1\2", HOLLOW.sub("", text)))
    text = _sections(EDGES.sub("", text))
    text = re.sub(f"{KEEP_OPEN}(\\d+){KEEP_CLOSE}", lambda found: kept[int(found.group(1))], text)
    return EMPTY.sub("\n\n", text).strip()


def _without_elements(text: str, keep: Callable[[str], str]) -> str:
    """References and the like taken out, formulas and code put aside; a mark without its other half goes."""
    marks = list(ELEMENT.finditer(text))
    last_close = {found.group(2).lower(): found.start() for found in marks if found.group(1)}
    out: list[str] = []
    place, inside, begin = 0, "", 0
    for found in marks:
        closing, name, rest = found.group(1), found.group(2).lower(), found.group(3)
        if inside:
            if closing and name == inside:
                out.append(_element(inside, text[begin : found.start()], keep))
                place, inside = found.end(), ""
            continue
        out.append(text[place : found.start()])
        place = found.end()
        if not closing and not rest.rstrip().endswith("/") and last_close.get(name, -1) > found.start():
            inside, begin = name, found.end()
    return "".join([*out, text[place:]])


def _element(name: str, content: str, keep: Callable[[str], str]) -> str:
    if name in MATHS:
        return keep(f"${html.unescape(content).strip()}$")
    return keep(html.unescape(content).strip("\n")) if name in CODE else ""


def _without_brackets(text: str) -> str:
    """Templates, tables, links and conversions resolved from the inside out."""
    stack: list[tuple[str, list[str]]] = [("", [])]
    place = 0
    for found in TOKEN.finditer(text):
        mark = found.group()
        stack[-1][1].append(text[place : found.start()])
        place = found.end()
        wanted = CLOSES.get(mark)
        if wanted is None:
            if len(stack) <= DEPTH:
                stack.append((mark, []))
        elif any(opened == wanted for opened, _ in stack):
            # Whatever opened inside and never closed ends here too.
            while stack[-1][0] != wanted:
                _, pieces = stack.pop()
                stack[-1][1].extend(pieces)
            _, pieces = stack.pop()
            stack[-1][1].append(_resolved(wanted, "".join(pieces)))
        elif mark in ("|}", "}-"):
            stack[-1][1].append(mark)
    stack[-1][1].append(text[place:])
    while len(stack) > 1:
        _, pieces = stack.pop()
        stack[-1][1].extend(pieces)
    return "".join(stack[0][1])


def _resolved(mark: str, content: str) -> str:
    if mark == "[[":
        return _link(content)
    if mark == "{{":
        return _template(content)
    return _conversion(content) if mark == "-{" else ""


def _link(content: str) -> str:
    target, bar, shown = content.partition("|")
    if FILES.match(target) or (OTHER_WIKI.match(target) and not bar):
        return ""
    if not bar:
        return target.lstrip(":").strip()
    return shown.strip() or target.partition("(")[0].rpartition(":")[2].strip()


def _template(content: str) -> str:
    name, _, rest = content.partition("|")
    name = name.strip().lower()
    known = name in SHOWN or name in FIRST or name in PAIRS or name.startswith("lang-")
    if not known:
        return ""
    arguments = [part for part in rest.split("|") if "=" not in part or part.lstrip().startswith("1=")]
    arguments = [part.removeprefix("1=").strip() for part in arguments]
    if name in PAIRS:
        return " ".join(arguments[:2])
    return arguments[1] if name in SHOWN and len(arguments) > 1 else arguments[0] if arguments else ""


def _conversion(content: str) -> str:
    """What the converter between the Chinese scripts shows for mainland readers; rules that show nothing give nothing
    (flags such as `H|` and `T|`)."""
    flags, bar, rest = content.rpartition("|")
    if bar and set(flags) & set("HTD-"):
        return ""
    rules: dict[str, str] = {}
    for part in rest.split(";"):
        name, colon, shown = part.partition(":")
        if colon:
            rules[name.strip()] = shown.strip()
    for name in ("zh-cn", "zh-hans", "zh", "zh-tw", "zh-hant"):
        if name in rules:
            return rules[name]
    return rest.strip()


def _sections(text: str) -> str:
    """Headings as `## heading`; those with nothing under them, and sections of sources, are left out."""
    pieces = HEADING.split(text)
    out = [pieces[0].strip()]
    waiting: list[tuple[int, str]] = []
    hidden = 7
    for place in range(1, len(pieces), 3):
        level, title, body = len(pieces[place]), pieces[place + 1].strip(), pieces[place + 2].strip()
        if level > hidden:
            continue
        hidden = level if SOURCES.fullmatch(title) else 7
        if hidden == level:
            continue
        waiting = [(depth, line) for depth, line in waiting if depth < level] + [(level, f"{'#' * level} {title}")]
        if body:
            out += [line for _, line in waiting] + [body]
            waiting = []
    return "\n\n".join(piece for piece in out if piece)
