"""Looking through a corpus in a terminal: the same questions as on the page, one line each."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from luhuo.browse.query import Query, Range
from luhuo.browse.worker import Searcher
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.normalise import CONTROL

PAGE = 15
FIELDS = ("state", "reason", "source", "lang", "id", "cluster")
COLOURS = {"kept": "green", "dropped": "red", "undecided": "yellow"}
PROMPT = "> "
BEFORE = 20
"""Characters shown before what was found."""


def browse(folder: Path, query: Query, ask: Callable[[], str] | None = None) -> None:
    """Show what fits; with `ask` (which gives a line, and raises `EOFError` at the end) go on as one is told.

    Raises `LuhuoError` for the first query; later mistakes are said and asked again.
    """
    with Searcher(folder) as searcher:
        desk = _Desk(searcher, Console(highlight=False), query)
        desk.list()
        while ask is not None:
            try:
                if not desk.do(ask().strip()):
                    return
            except EOFError:
                return
            except LuhuoError as error:
                desk.console.print(f"{error}", style="red", markup=False)


class _Desk:
    """What lies in front of the person: a query, a page of documents, the place where it goes on."""

    def __init__(self, searcher: Searcher, console: Console, query: Query) -> None:
        self.searcher, self.console, self.query = searcher, console, query
        self.hits: list[dict[str, Any]] = []
        self.next: tuple[int, int] | None = (0, 0)

    def do(self, line: str) -> bool:
        """One command; False at the end."""
        if line in ("q", "quit"):
            return False
        if line in ("?", "h", "help"):
            self.console.print(_help(), markup=False)
        elif line in ("", "n"):
            self.list()
        elif line.isdigit() and int(line) <= PAGE:
            self.show(int(line))
        else:
            self.query = parse(line, self.query)
            self.next = (0, 0)
            self.list()
        return True

    def list(self) -> None:
        """The next page of what fits, searched until it is full or all was seen."""
        self.hits = []
        looked = parts = 0
        while self.next is not None and len(self.hits) < PAGE:
            told = self.searcher.search(self.query, self.next, PAGE - len(self.hits))
            self.hits += told["hits"]
            self.next = None if told["next"] is None else (told["next"][0], told["next"][1])
            looked, parts = told["looked"], told["parts"]
        table = Table(box=None, pad_edge=False)
        for name in ("#", tr("state", "状态"), tr("source", "来源"), tr("language", "语言"), tr("text", "文本")):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        for number, hit in enumerate(self.hits, 1):
            state = Text(", ".join(hit["reasons"]) or hit["state"], COLOURS[hit["state"]])
            parts_of_text = [" ".join(plain(hit[name]).split()) for name in ("before", "found", "after")]
            before = parts_of_text[0][-BEFORE:]
            text = Text.assemble(before, " " * bool(before), (parts_of_text[1], "bold reverse"), " ", parts_of_text[2])
            table.add_row(str(number), state, Text(hit["source"]), Text(hit["lang"]), text)
        self.console.print(table)
        more = tr("the end", "已到末尾") if self.next is None else tr("more: Enter", "下一页：回车")
        self.console.print(
            tr(f"{looked}/{parts} parts; {more}; help: ?", f"{looked}/{parts} 部分；{more}；帮助：?"), style="dim"
        )

    def show(self, number: int) -> None:
        """A document of the page in sight. Raises `LuhuoError` if there is none of this number."""
        if not 1 <= number <= len(self.hits):
            raise LuhuoError(tr("There is no such document on this page.", "本页没有这篇文档。"), found=number)
        hit = self.hits[number - 1]
        told = self.searcher.document(hit["part"], hit["line"])
        print_ = self.console.print
        for name, value in told["about"].items():
            print_(Text.assemble((f"{name}: ", "dim"), plain(str(value))))
        for reason in told["reasons"]:
            print_(
                Text(f"✗ {reason['code']} {'' if reason['value'] is None else reason['value']} {reason['why']}", "red")
            )
        if told["verdict"] is not None and told["verdict"]["of"]:
            print_(Text(f"= id={told['verdict']['of'][:16]} cluster={told['verdict']['cluster'][:16]}", "yellow"))
        for one in told["signals"]:
            if "reason" in one:
                limits = f"[{_side(one['min'])}, {_side(one['max'])}]"
                print_(Text(f"  {one['name']:<34} {one['value']:>12} {limits}", "red" if one["broken"] else "dim"))
        for title, key in ((tr("as read", "读入时"), "before"), (tr("as written", "写出后"), "after")):
            if told[key] is not None and (key == "before" or told[key] != told["before"]):
                print_(Text(f"── {title}", "bold"))
                print_(Text.assemble(*((plain(text), _style(mark)) for text, mark, _ in told[key])))


def parse(line: str, query: Query) -> Query:
    """A query from words: `word` or `"two words"`, `/regex/`, `field=value` (empty: any), `signal>=number`,
    `signal<=number`, `all` (forget everything); what is not named stays. Raises `LuhuoError`."""
    try:
        words = [line] if line.startswith("/") and line.endswith("/") and len(line) > 2 else shlex.split(line)
    except ValueError as error:
        raise LuhuoError(tr("This line cannot be read.", "无法解析这一行。"), found=error, where=line) from None
    values, texts, ranges = query.model_dump(), [], {one.name: one for one in query.signals}
    for word in words:
        name, equals, value = word.partition("=")
        if word == "all":
            values, ranges = Query().model_dump(), {}
        elif ">=" in word or "<=" in word:
            _narrow(ranges, word)
        elif equals and name in FIELDS:
            values[name] = value
        elif word == line and word.startswith("/") and word.endswith("/") and len(word) > 2:
            values |= {"text": word[1:-1], "regex": True}
        else:
            texts.append(word)
    if texts:
        values |= {"text": " ".join(texts), "regex": False}
    return Query.parse(values | {"signals": [one.model_dump() for one in ranges.values()]})


def _narrow(ranges: dict[str, Range], word: str) -> None:
    mark = ">=" if ">=" in word else "<="
    name, _, value = word.partition(mark)
    try:
        number = float(value) if value else None
    except ValueError:
        raise LuhuoError(tr("This is not a number.", "这不是数字。"), found=value, where=word) from None
    held = ranges.get(name, Range(name=name))
    low, high = (number, held.max) if mark == ">=" else (held.min, number)
    ranges[name] = Range(name=name, min=low, max=high)


def plain(text: str) -> str:
    """Text of strangers for a terminal: nothing in it moves the cursor or changes a colour."""
    return CONTROL.sub("�", text)


def _side(limit: float | None) -> str:
    return "…" if limit is None else f"{limit:g}"


def _style(mark: str) -> str:
    return "" if not mark else "red strike" if mark.startswith("cut:") else "black on yellow"


def _help() -> str:
    return tr(
        """word                  documents with this text ("two words" in quotation marks)
/expression/          a regular expression
state=kept            kept, dropped or changed; empty: any
reason= source= lang= id= cluster=
gopher.words>=50      a signal's range; also <=
all                   forget all filters
3                     show document 3 of this page
Enter                 the next page
q                     leave""",
        """文字                  含该文本的文档（多个词请加引号）
/表达式/              正则表达式
state=kept            kept（保留）、dropped（丢弃）或 changed（有改动）；留空为不限
reason= source= lang= id= cluster=
gopher.words>=50      信号范围；也可用 <=
all                   清除所有筛选
3                     显示本页第 3 篇
回车                  下一页
q                     退出""",
    )
