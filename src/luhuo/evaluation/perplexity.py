"""Bits per byte of held-out text, exact and comparable between tokenizers, and what `xz -9` needs for the same text.

Convention: every token of a document is scored, the first one given `<|endoftext|>`; a document longer than the
context slides in windows, and no token is scored twice. Bits are divided by the UTF-8 bytes of the text.
xz compresses the same documents end to end; it has seen no training text, so it is the mark to be beaten.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.model.decoder import Decoder

BATCH_TOKENS = 8192
HEAD_ELEMENTS = 1 << 24
"""Most logits held at once."""


@dataclass(frozen=True)
class TextScore:
    """Bits per byte of the model and of xz on the same text."""

    bits_per_byte: float
    xz: float
    bytes: int
    tokens: int
    documents: int


@dataclass(frozen=True)
class Window:
    """Tokens to predict from: all of `ids` but the first are targets, save the first `skip` of them."""

    document: int
    ids: list[int]
    skip: int


def score_texts(
    model: Decoder, documents: Iterable[tuple[str, str, str]], max_bytes: int
) -> tuple[dict[str, TextScore], dict[str, TextScore]]:
    """Scores by source and by language of (source, language, text), the first `max_bytes` of each source and language.

    Raises `LuhuoError` if there is no text, or the model has no tokenizer.
    """
    kept = _first_bytes(documents, max_bytes)
    if not kept:
        raise LuhuoError(tr("There is no held-out text to score.", "没有可评测的留出文本。"))
    groups = list(kept)
    texts = [(group, text) for group in groups for text in kept[group]]
    losses, tokens = document_bits(model, [text for _, text in texts])
    rows = [(source, lang, text, losses[i], tokens[i]) for i, ((source, lang), text) in enumerate(texts)]
    by_source = {name: _total([r for r in rows if r[0] == name]) for name in sorted({s for s, _ in groups})}
    by_lang = {name: _total([r for r in rows if r[1] == name]) for name in sorted({lang for _, lang in groups})}
    return by_source, by_lang


def _first_bytes(documents: Iterable[tuple[str, str, str]], limit: int) -> dict[tuple[str, str], list[str]]:
    kept: dict[tuple[str, str], list[str]] = {}
    sizes: dict[tuple[str, str], int] = {}
    for source, lang, text in documents:
        group = (source, lang)
        room = limit - sizes.get(group, 0)
        raw = text.encode()[: max(0, room)]
        part = raw.decode(errors="ignore")
        if part:
            kept.setdefault(group, []).append(part)
        sizes[group] = sizes.get(group, 0) + len(raw)
    return kept


def _total(rows: list[tuple[str, str, str, float, int]]) -> TextScore:
    data = "".join(row[2] for row in rows).encode()
    bits = math.fsum(row[3] for row in rows)
    packed = lzma.compress(data, preset=9)
    return TextScore(bits / len(data), 8 * len(packed) / len(data), len(data), sum(row[4] for row in rows), len(rows))


def document_bits(model: Decoder, texts: Sequence[str]) -> tuple[list[float], list[int]]:
    """For each text: bits of all its tokens, and their number. Deterministic; batched by length."""
    if model.tokenizer is None:
        raise LuhuoError(
            tr("Bits per byte need a tokenizer.", "计算每字节比特数需要分词器。"), expected="tokenizer.json"
        )
    before = model.tokenizer.encode_prompt("")
    encoded = [[*before, *ids] for ids in model.tokenizer.encode_batch(list(texts))]
    context = model.config.max_positions
    stride, given = max(1, context // 2), len(before)
    windows = [w for i, ids in enumerate(encoded) for w in windows_of(i, ids, context, stride, given)]
    bits = [0.0] * len(texts)
    total = sum(len(w.ids) - 1 for w in windows)
    with torch.inference_mode(), Progress(tr("bits per byte", "每字节比特数"), total, "tok") as progress:
        for batch in _batches(windows):
            for window, nats in zip(batch, _nats(model, batch, before[0]), strict=True):
                bits[window.document] += nats / math.log(2)
            progress.advance(sum(len(w.ids) - 1 for w in batch))
    return bits, [len(ids) - len(before) for ids in encoded]


def windows_of(document: int, ids: list[int], context: int, stride: int, given: int = 1) -> Iterator[Window]:
    """Windows of at most `context` inputs, `stride` apart, that score what is behind the `given` tokens once each."""
    scored = given
    start = 0
    while scored < len(ids):
        end = min(start + context + 1, len(ids))
        yield Window(document, ids[start:end], skip=scored - start - 1)
        scored = end
        start += stride


def _batches(windows: list[Window]) -> Iterator[list[Window]]:
    batch: list[Window] = []
    for window in sorted(windows, key=lambda w: (len(w.ids), w.document)):
        if batch and (len(batch) + 1) * len(window.ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _nats(model: Decoder, batch: list[Window], pad: int) -> list[float]:
    """Sum of -log p over the targets of each window. Padding stands behind the text, so causality hides it."""
    longest = max(len(w.ids) for w in batch)
    rows = torch.tensor([w.ids + [pad] * (longest - len(w.ids)) for w in batch], device=model.device)
    hidden = model.hidden(rows[:, :-1])  # (batch, time, width)
    column = torch.arange(longest - 1, device=model.device)
    first = torch.tensor([w.skip for w in batch], device=model.device)[:, None]
    last = torch.tensor([len(w.ids) - 1 for w in batch], device=model.device)[:, None]
    wanted = (column >= first) & (column < last)  # (batch, time)
    states, targets = hidden[wanted], rows[:, 1:][wanted]
    step = max(1, HEAD_ELEMENTS // model.config.vocab_size)
    losses = [
        functional.cross_entropy(model.head(states[i : i + step]).float(), targets[i : i + step], reduction="none")
        for i in range(0, len(states), step)
    ]
    sums = torch.zeros(len(batch), dtype=torch.float64, device="cpu")
    owner = torch.arange(len(batch))[:, None].expand(-1, longest - 1)[wanted.cpu()]
    return sums.index_add_(0, owner, torch.cat(losses).double().cpu()).tolist()
