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
FEW = 30
"""Documents from which tokens per byte may be estimated."""


@dataclass
class Group:
    """Documents of one split, source and language; sums over those of them that were encoded."""

    documents: int = 0
    bytes: int = 0
    sampled: int = 0
    sampled_bytes: int = 0
    sampled_chars: int = 0
    byte_squares: float = 0.0
    tokens: list[int] = field(default_factory=list)
    """By tokenizer; also the next two."""
    squares: list[float] = field(default_factory=list)
    """Of tokens."""
    products: list[float] = field(default_factory=list)
    """Of tokens and bytes."""

    @classmethod
    def of(cls, tokenizers: int) -> Group:
        """A group of nothing yet."""
        return cls(tokens=[0] * tokenizers, squares=[0.0] * tokenizers, products=[0.0] * tokenizers)

    def add(self, other: Group) -> None:
        """Add another group."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            joined = [a + b for a, b in zip(mine, value, strict=True)] if isinstance(value, list) else mine + value
            setattr(self, name, joined)


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
        """Tokens of the documents of a split, source and language; None: all.

        Tokens per byte are those of the same source and language, whatever the split: splits are drawn by hash.
        """
        tokens = variance = 0.0
        chosen = self._joined(split, source, lang)
        for own_source, own_lang in sorted({key[1:] for key in self.groups}):
            part = self._joined(split, own_source, own_lang)
            if not part.documents or source not in (None, own_source) or lang not in (None, own_lang):
                continue
            if self.share == 1:
                tokens += part.tokens[tokenizer]
                continue
            basis = self._basis(own_source, own_lang)
            ratio = basis.tokens[tokenizer] / max(basis.sampled_bytes, 1)
            tokens += ratio * part.bytes
            variance += _variance(basis, part, tokenizer, ratio)
        return Count(tokens, Z * math.sqrt(variance), chosen.documents, chosen.bytes)

    def _joined(self, split: str | None, source: str | None, lang: str | None) -> Group:
        found = Group.of(len(self.names))
        for key, group in self.groups.items():
            if all(wanted in (None, own) for wanted, own in zip((split, source, lang), key, strict=True)):
                found.add(group)
        return found

    def _basis(self, source: str, lang: str) -> Group:
        """What tokens per byte are estimated from: the source's language; where too little of it was encoded, the
        language; else everything."""
        for which in ((source, lang), (None, lang)):
            found = self._joined(None, *which)
            if found.sampled >= FEW:
                return found
        return self._joined(None, None, None)

    def per_token(self, tokenizer: int, lang: str | None = None) -> tuple[float, float]:
        """(characters, bytes) a token in the sample."""
        found = self._joined(None, None, lang)
        tokens = found.tokens[tokenizer] or 1
        return found.sampled_chars / tokens, found.sampled_bytes / tokens


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
        group = groups.setdefault(key, Group.of(len(opened)))
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
    for number, tokenizer in enumerate(opened):
        counts = [len(ids) for ids in tokenizer.encode_batch(texts)]
        group.tokens[number] += sum(counts)
        group.squares[number] += sum(count * count for count in counts)
        group.products[number] += sum(count * size for count, size in zip(counts, sizes, strict=True))
        lengths[number].update(doubling(count) for count in counts)


def _variance(basis: Group, part: Group, tokenizer: int, ratio: float) -> float:
    """Of a ratio estimate (Cochran, Sampling Techniques, 1977, 6.4): of the ratio, by the part's bytes, and where the
    part is not all that the ratio was estimated from, also of its own documents around it."""
    n = basis.sampled
    if n < 2:
        return float(part.bytes) ** 2  # nothing is known
    squares, products = basis.squares[tokenizer], basis.products[tokenizer]
    residual = max(squares - 2 * ratio * products + ratio * ratio * basis.byte_squares, 0.0) / (n - 1)
    scale = part.bytes / (basis.sampled_bytes / n)
    unseen = 1 - n / basis.documents
    own = 0.0 if part.documents == basis.documents else part.documents * residual
    return scale * scale * unseen * residual / n + own
