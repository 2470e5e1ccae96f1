"""Tokens of a corpus under several tokenizers: counted, or estimated from a sample by hash where there is much."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from luhuo.corpus.documents import SPLITS, read_documents
from luhuo.files.references import resolve
from luhuo.report.corpus_card.sampling import doubling, place
from luhuo.tokenizer.tokenizer import Tokenizer

SAMPLE_BYTES = 20_000_000
BATCH_CHARS = 500_000
"""Characters encoded together."""
Z = 1.96


@dataclass
class Group:
    """Documents of one split, source and language."""

    documents: int = 0
    bytes: int = 0
    sampled: int = 0
    sampled_bytes: int = 0
    sampled_chars: int = 0
    tokens: list[int] = field(default_factory=list)
    """Of the sample, by tokenizer."""
    squares: list[float] = field(default_factory=list)
    """Sums of tokens², tokens · bytes, by tokenizer, and of bytes²: for the error of the estimate."""
    products: list[float] = field(default_factory=list)
    byte_squares: float = 0.0


@dataclass(frozen=True)
class Count:
    """Tokens of something, and half the width of the 95% interval; 0 where every document was counted."""

    tokens: float
    margin: float
    documents: int
    bytes: int


@dataclass(frozen=True)
class TokenCounts:
    """What a number of tokenizers make of the documents."""

    names: list[str]
    vocabularies: list[int]
    share: float
    """Part of the documents that was encoded."""
    groups: dict[tuple[str, str, str], Group]
    lengths: list[Counter[int]]
    """Documents by `sampling.doubling` of their tokens, by tokenizer."""

    def count(
        self, tokenizer: int, split: str | None = None, source: str | None = None, lang: str | None = None
    ) -> Count:
        """Tokens of the documents of a split, source and language; None: all."""
        tokens = variance = 0.0
        documents = size = 0
        for key, group in self.groups.items():
            if any(wanted not in (None, own) for wanted, own in zip((split, source, lang), key, strict=True)):
                continue
            documents, size = documents + group.documents, size + group.bytes
            if group.sampled_bytes:
                ratio = group.tokens[tokenizer] / group.sampled_bytes
                tokens += ratio * group.bytes
                variance += _variance(group, tokenizer, ratio)
        return Count(tokens, Z * math.sqrt(variance), documents, size)

    def per_token(self, tokenizer: int, lang: str | None = None) -> tuple[float, float]:
        """(characters, bytes) a token in the sample."""
        groups = [group for key, group in self.groups.items() if lang in (None, key[2]) and group.sampled]
        tokens = sum(group.tokens[tokenizer] for group in groups) or 1
        chars, size = sum(group.sampled_chars for group in groups), sum(group.sampled_bytes for group in groups)
        return chars / tokens, size / tokens


def count_tokens(folder: Path, references: Sequence[str]) -> TokenCounts:
    """Encode the documents of a corpus, or about 20 MB of them chosen by hash. Raises `LuhuoError`."""
    opened = [Tokenizer.load(resolve(reference, weights=False).path) for reference in references]
    groups: dict[tuple[str, str, str], Group] = {}
    total = sum(len(row["text"].encode()) for _, row in _documents(folder))
    share = min(1.0, SAMPLE_BYTES / max(total, 1))
    lengths: list[Counter[int]] = [Counter() for _ in opened]
    held: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    waiting = 0
    for split, row in _documents(folder):
        key = (split, row["source"], row["lang"])
        group = groups.setdefault(key, Group(tokens=[0] * len(opened), squares=[0.0] * len(opened)))
        group.documents += 1
        group.bytes += len(row["text"].encode())
        if share == 1 or place(row["id"]) < share * 2**64:
            held[key].append(row["text"])
            waiting += len(row["text"])
        if waiting >= BATCH_CHARS:
            _encode_all(groups, held, opened, lengths)
            waiting = 0
    _encode_all(groups, held, opened, lengths)
    names = [Path(reference).name or reference for reference in references]
    return TokenCounts(names, [one.vocab_size for one in opened], share, groups, lengths)


def _documents(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for split in SPLITS:
        for row in read_documents(folder, split):
            yield split, row


def _encode_all(
    groups: dict[tuple[str, str, str], Group],
    held: dict[tuple[str, str, str], list[str]],
    opened: Sequence[Tokenizer],
    lengths: list[Counter[int]],
) -> None:
    """Encode what waits, and forget it."""
    for key, texts in held.items():
        _encode(groups[key], texts, opened, lengths)
    held.clear()


def _encode(group: Group, texts: list[str], opened: Sequence[Tokenizer], lengths: list[Counter[int]]) -> None:
    sizes = [len(text.encode()) for text in texts]
    group.sampled += len(texts)
    group.sampled_bytes += sum(sizes)
    group.sampled_chars += sum(map(len, texts))
    group.byte_squares += sum(size * size for size in sizes)
    group.products = group.products or [0.0] * len(opened)
    for number, tokenizer in enumerate(opened):
        counts = [len(ids) for ids in tokenizer.encode_batch(texts)]
        group.tokens[number] += sum(counts)
        group.squares[number] += sum(count * count for count in counts)
        group.products[number] += sum(count * size for count, size in zip(counts, sizes, strict=True))
        lengths[number].update(doubling(count) for count in counts)


def _variance(group: Group, tokenizer: int, ratio: float) -> float:
    """Of the ratio estimate of a group's tokens, with the correction for what was seen of it (Cochran, 1977, 6.4)."""
    n, whole = group.sampled, group.documents
    if n == whole or n < 2:
        return 0.0
    residual = (
        group.squares[tokenizer] - 2 * ratio * group.products[tokenizer] + ratio * ratio * group.byte_squares
    ) / (n - 1)
    return whole * whole * (1 - n / whole) * max(residual, 0.0) / n
