"""The card as Markdown with the front matter that data hubs read, for the README of a repository."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luhuo.core.language import tr
from luhuo.report.corpus_card.card import Card
from luhuo.report.corpus_card.tables import Table, short

SAMPLES = 2
SIZES = (
    (1e3, "n<1K"),
    (1e4, "1K<n<10K"),
    (1e5, "10K<n<100K"),
    (1e6, "100K<n<1M"),
    (1e7, "1M<n<10M"),
    (1e8, "10M<n<100M"),
)
"""Names of size classes on data hubs."""
MARK = re.compile(r"([\\`*_{}\[\]<>#|~&!$])")
HASH = re.compile(r"^\s*([-+=]|\d+[.)])", re.MULTILINE)


def markdown(card: Card, title: str) -> str:
    """The card's text. What comes from the corpus can neither open a tag nor a link."""
    lines = [*_front(card, title), f"# {safe(title)}", ""]
    tiles = [f"{value} {label}" for value, label in card.tiles()]
    lines += [tr(f"A corpus made with Luhuo: {', '.join(tiles)}.", f"用炉火制作的语料：{'，'.join(tiles)}。"), ""]
    sections = (
        (tr("Sources and licences", "来源与许可证"), card.sources()),
        (tr("Languages and scripts", "语言与字形"), card.language_table()),
        (tr("Changes before measuring", "测量前的改动"), card.changes()),
        (tr("Splits", "划分"), card.split_table()),
        (tr("Tokens", "词元"), card.token_table()),
        (tr("Why documents were dropped", "丢弃原因"), _reasons(card)),
        (tr("Repeated parts that were cut out", "删去的重复部分"), card.cuts()),
        (tr("Duplicates", "重复"), card.cluster_table()),
        (tr("Personal data", "个人信息"), card.personal()),
        (tr("Evaluation sets found in the text", "文本中的评测题目"), card.benchmarks()),
        (tr("What could not be read", "无法读取的内容"), card.quarantine()),
    )
    for name, table in sections:
        if table.rows:
            lines += [f"## {name}", "", *_table(table), ""]
    lines += [
        f"## {tr('Samples', '样例')}",
        "",
        tr("Chosen by hash; personal data is masked.", "按哈希选取，个人信息已脱敏。"),
        "",
    ]
    for lang in card.languages:
        for one in card.facts.kept[lang].values()[:SAMPLES] if lang in card.facts.kept else ():
            lines += [f"**{safe(one.source)}** · {safe(one.lang)} · `{one.id[:12]}`", "", *_quoted(one.text), ""]
    return "\n".join(lines)


def _front(card: Card, title: str) -> Iterator[str]:
    """YAML between lines of dashes; strings in quotes, so that nothing in them is syntax."""
    licences = sorted({licence.lower() for found in card.facts.licences.values() for licence in found})
    written = sum(row["documents"] for row in card.splits().values()) or card.kept
    size = next((name for limit, name in SIZES if written < limit), "n>100M")
    yield "---"
    yield f"pretty_name: {_yaml(title)}"
    yield f"license: {_yaml(licences[0])}" if len(licences) == 1 else f"license: [{', '.join(map(_yaml, licences))}]"
    yield f"language: [{', '.join(map(_yaml, card.languages))}]"
    yield "task_categories: [text-generation]"
    yield f"size_categories: [{_yaml(size)}]"
    yield "tags: [luhuo]"
    yield "---"
    yield ""


def _yaml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def _reasons(card: Card) -> Table:
    head = [
        tr("reason", "原因"),
        "",
        tr("documents", "文档"),
        tr("any", "涉及"),
        tr("only this", "仅此"),
        tr("by language", "按语言"),
    ]
    rows = [
        [
            one.code,
            one.why,
            f"{one.first:,}",
            f"{one.named:,}",
            f"{one.alone:,}",
            ", ".join(f"{lang} {short(n)}" for lang, n in one.shares),
        ]
        for one in card.reasons
    ]
    return Table(head, rows, 2)


def _table(table: Table) -> Iterator[str]:
    yield "| " + " | ".join(safe(cell) for cell in table.head) + " |"
    yield "|" + "|".join(" ---: " if place >= table.numbers else " --- " for place in range(len(table.head))) + "|"
    for row in table.rows:
        yield "| " + " | ".join(safe(cell) for cell in row) + " |"


def _quoted(text: str) -> Iterator[str]:
    """A text as a quotation, line by line."""
    for line in HASH.sub(lambda found: "\\" + found[0].lstrip(), safe(text, keep_lines=True)).split("\n"):
        yield f"> {line}" if line.strip() else ">"


def safe(text: str, *, keep_lines: bool = False) -> str:
    """Text of strangers in Markdown: every mark is only a character."""
    found = MARK.sub(r"\\\1", text).replace("://", ":&#8203;//")
    return found if keep_lines else found.replace("\n", " ")
