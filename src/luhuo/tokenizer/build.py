"""The tokenizer stage at work: a sample balanced between languages, training, and figures on held-out text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from luhuo.core.artifact import Workspace
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import track
from luhuo.core.seeds import derive_seed
from luhuo.files.readers import read_records
from luhuo.files.records import Record
from luhuo.tokenizer.measure import Efficiency
from luhuo.tokenizer.training import train

if TYPE_CHECKING:
    from luhuo.tokenizer.stages import TokenizerStage

HELD_OUT_CHARS = 1_000_000
"""Held-out text a language on which the tokenizer is measured."""


def build(stage: TokenizerStage, out: Workspace) -> None:
    """Train on the training documents, save, and write the figures. Raises `LuhuoError` if there is no text."""
    shares = _shares(stage.corpus, stage.max_mb * 1e6)
    texts = track(_sample(stage.corpus, shares, stage.seed), tr("read text", "读取文本"), unit=tr("documents", "篇"))
    tokenizer = train(
        texts,
        kind=stage.kind,
        vocab_size=stage.vocab_size,
        han_run=stage.han_run,
        digit_run=stage.digit_run,
        min_frequency=stage.min_frequency,
    )
    tokenizer.save(out.path)
    out.results["vocab_size"] = tokenizer.vocab_size
    out.results["fingerprint"] = tokenizer.fingerprint
    figures: dict[str, Efficiency] = {}
    held_out = chain(_documents(stage.corpus, "valid"), _documents(stage.corpus, "test"))
    for record in held_out:
        lang = _lang(record)
        figure = figures.setdefault(lang, Efficiency())
        if figure.chars < HELD_OUT_CHARS:
            figure.add(record.text, tokenizer.encode(record.text))
    for lang, figure in sorted(figures.items()):
        out.results |= {f"{lang}.{name}": round(value, 4) for name, value in figure.ratios().items()}


def _shares(corpus: str, budget: float) -> dict[str, float]:
    """The share of each language to read: an equal part of the budget, what a small one leaves going to the others."""
    sizes: dict[str, int] = {}
    for record in _documents(corpus, "train"):
        sizes[_lang(record)] = sizes.get(_lang(record), 0) + len(record.text.encode())
    if not sizes:
        raise LuhuoError(
            tr("There is no text to train a tokenizer on.", "没有可用来训练分词器的文本。"),
            expected="documents/train.jsonl.zst",
            where=corpus,
        )
    shares = {}
    ordered = sorted(sizes, key=lambda lang: (sizes[lang], lang))
    for i, lang in enumerate(ordered):
        part = min(sizes[lang], budget / (len(ordered) - i))
        shares[lang] = part / sizes[lang]
        budget -= part
    return shares


def _sample(corpus: str, shares: dict[str, float], seed: int) -> Iterator[str]:
    """The documents whose hash falls into their language's share: the same ones whatever the order."""
    for record in _documents(corpus, "train"):
        if derive_seed(seed, "sample", record.fields.get("id", record.line)) / 2**63 < shares[_lang(record)]:
            yield record.text


def _documents(corpus: str, split: str) -> Iterator[Record]:
    for record in read_records(Path(corpus) / "documents" / f"{split}.jsonl.zst"):
        if not isinstance(record, Record):
            if record.reason == "empty":  # a split without documents
                continue
            raise LuhuoError(
                tr("The documents are damaged.", "文档文件已损坏。"),
                found=record.reason,
                where=f"{record.file}:{record.line}",
            )
        yield record


def _lang(record: Record) -> str:
    return str(record.fields.get("lang", "en"))
