"""Calibration data: sequences of tokens from whatever text is at hand, on which a method sees what a model reads.

Shards, a corpus, plain text files, and conversations (rendered with the model's own template) are all taken. Texts
are strung together with the token between texts, and cut; the sequences are drawn evenly from the first `LOOK_AT`
times as many as are wanted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from luhuo.compress.calibrated_stage import CalibratedStage
from luhuo.compress.texts import read_written
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.shards import open_shards
from luhuo.dialogue.render import render_all
from luhuo.files.references import resolve
from luhuo.tokenizer.tokenizer import Tokenizer

LOOK_AT = 64
"""Sequences looked at for each that is drawn."""


def sequences(data: str | Sequence[str], tokenizer: Tokenizer, count: int, length: int, seed: int = 0) -> Tensor:
    """`count` sequences of `length` tokens: (count, length) int64, or fewer where the data have no more.

    Raises `LuhuoError` if they do not fill one.
    """
    given = [data] if isinstance(data, str) else data
    generator = random.Random(seed)
    kept: list[list[int]] = []
    seen = tokens = 0
    for window in islice(_windows(given, tokenizer, length, generator), LOOK_AT * count):
        tokens += len(window)
        if len(window) < length:
            continue
        seen += 1
        if len(kept) < count:
            kept.append(window)
        elif (place := generator.randrange(seen)) < count:
            kept[place] = window
    if not kept:
        raise LuhuoError(
            tr("The calibration text is shorter than one sequence.", "校准文本不足一个序列。"),
            expected=tr(f"≥ {length} tokens", f"≥ {length} 词元"),
            found=tr(f"{tokens} tokens", f"{tokens} 词元"),
            where=", ".join(given),
            fix=tr("Give more text, or a smaller length.", "请提供更多文本，或减小 length。"),
        )
    return torch.tensor(kept)


def drawn(stage: CalibratedStage) -> Callable[[Tokenizer], Tensor] | None:
    """What draws the sequences that a stage asks for; None without data."""
    data = stage.data
    if data is None:
        return None
    return lambda tokenizer: sequences(data, tokenizer, stage.sequences, stage.length, stage.seed)


def _windows(data: Sequence[str], tokenizer: Tokenizer, length: int, generator: random.Random) -> Iterator[list[int]]:
    """Sequences in turn from all that is given, the last of each perhaps too short."""
    sources = [_of(Path(resolve(value).path), tokenizer, length, generator) for value in data]
    while sources:
        for source in list(sources):
            window = next(source, None)
            if window is None:
                sources.remove(source)
            else:
                yield window


def _of(path: Path, tokenizer: Tokenizer, length: int, generator: random.Random) -> Iterator[list[int]]:
    split = next((folder for folder in (path / "train", path) if (folder / "header.json").is_file()), None)
    if split is not None:
        return _from_shards(split, length, generator)
    return _cut(_texts(path, tokenizer), length)


def _from_shards(folder: Path, length: int, generator: random.Random) -> Iterator[list[int]]:
    """Sequences from shuffled places of shards that follow no border of documents."""
    shards = [tokens for tokens, _ in open_shards(folder, verify=False)]
    places = [(shard, start) for shard, tokens in enumerate(shards) for start in range(0, len(tokens), length)]
    generator.shuffle(places)
    for shard, start in places:
        yield np.asarray(shards[shard][start : start + length], np.int64).tolist()


def _cut(texts: Iterator[list[int]], length: int) -> Iterator[list[int]]:
    waiting: list[int] = []
    for ids in texts:
        waiting += ids
        while len(waiting) >= length:
            yield waiting[:length]
            del waiting[:length]
    if waiting:
        yield waiting


def _texts(path: Path, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """The tokens of each text or conversation."""
    for sample in read_written(path):
        if sample.conversation is None:
            yield [*tokenizer.encode(sample.text), tokenizer.eos_id]
        else:
            yield from (list(rendered.ids) for rendered in render_all(sample.conversation, tokenizer))
