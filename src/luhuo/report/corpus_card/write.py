"""`corpus-report`: the data card of a corpus as one HTML file or as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from luhuo.core.artifact import read_manifest
from luhuo.core.atomic import write_text
from luhuo.core.language import language, tr
from luhuo.core.lineage import lineage
from luhuo.core.pages import templates
from luhuo.report.corpus_card.card import Card
from luhuo.report.corpus_card.family import Corpus, open_corpus
from luhuo.report.corpus_card.gather import gather
from luhuo.report.corpus_card.markdown import markdown
from luhuo.report.corpus_card.tables import reasons_text, share
from luhuo.report.corpus_card.tokens import count_tokens


def write_card(
    folder: str | Path, out: Path | None = None, tokenizers: Sequence[str] = (), *, as_markdown: bool = False
) -> Path:
    """Write the card of the corpus in `folder` and return its path: by default NAME.card.html (or .md) beside it.

    Raises `LuhuoError` if there is no corpus, or a file of it is damaged.
    """
    corpus = open_corpus(folder)
    name = corpus.path.absolute().name
    tokens = count_tokens(corpus.documents, tokenizers) if tokenizers and corpus.documents else None
    card = Card(corpus, gather(corpus), tokens)
    target = out or corpus.path.absolute().parent / f"{name}.card.{'md' if as_markdown else 'html'}"
    write_text(target, markdown(card, name) if as_markdown else page(card, name))
    return target


def page(card: Card, title: str) -> str:
    """The card as a page. Text of the corpus is escaped."""
    environment = templates("luhuo.report")
    corpus = card.corpus
    settings = [
        (stage, json.dumps(read_manifest(folder)["config"], ensure_ascii=False, indent=2))
        for stage, folder in corpus.parts
    ]
    return environment.get_template("corpus_card/card.html.jinja").render(
        tr=tr,
        language="zh-CN" if language() == "zh" else "en",
        version=version("luhuo"),
        title=title,
        card=card,
        share=share,
        reasons_text=reasons_text,
        contents=list(_contents(card)),
        missing_parts=list(_missing(corpus)),
        tree=list(lineage(corpus.path)),
        settings=settings,
    )


def _contents(card: Card) -> Iterator[tuple[str, str]]:
    """(anchor, name) of the sections."""
    there = (
        ("sources", tr("Sources", "来源"), True),
        ("languages", tr("Languages", "语言"), True),
        ("lengths", tr("Lengths", "长度"), True),
        ("reasons", tr("Reasons", "原因"), card.facts.decided),
        ("samples", tr("Samples", "样例"), True),
        ("signals", tr("Signals", "信号"), bool(card.signal_pictures)),
        ("clusters", tr("Duplicates", "重复"), bool(card.cluster_table().rows)),
        ("personal", tr("Personal data", "个人信息"), bool(card.personal().rows)),
        ("benchmarks", tr("Evaluation sets", "评测集"), bool(card.benchmarks().rows)),
        ("splits", tr("Splits and tokens", "划分与词元"), bool(card.splits() or card.tokens)),
        ("quarantine", tr("Not readable", "无法读取"), bool(card.quarantine().rows)),
        ("lineage", tr("Making", "制作"), True),
    )
    return ((anchor, name) for anchor, name, shown in there if shown)


def _missing(corpus: Corpus) -> Iterator[str]:
    """What the card cannot say because artifacts are gone."""
    if corpus.filtered is not None and corpus.annotated is None:
        yield tr(
            "The annotate artifact is gone: there are no signals, and dropped documents are cut short.",
            "annotate 产物已不在：没有信号，被丢弃的文档只有开头部分。",
        )
    if corpus.settings is not None and corpus.settings["duplicates"] and corpus.duplicates is None:
        yield tr("The deduplicate artifact is gone: there are no clusters.", "deduplicate 产物已不在：没有重复簇。")
