"""Unigram language model tokenizer (Kudo 2018, "Subword Regularization", section 3.2): learning the pieces.

Start from all frequent substrings, then repeat: expectation-maximisation of the pieces' probabilities over all ways
to cut each word, and removal of the pieces whose loss would cost the likelihood least. Written here because the
trainer of the `tokenizers` library depends on the order of a hash table: two runs on one text give different scores.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

PIECE_LENGTH = 12
"""Longest piece, in characters."""
SEEDS = 8
"""Substrings to start from, as a multiple of the vocabulary."""
KEEP = 0.7
"""Share of the pieces that survives one round of removal."""
EM_STEPS = 2
RARE = 0.5
"""A piece expected less often than this is dropped at once."""
DIGITS = 6
"""Decimals of the log-probabilities: few enough to come back equal from every JSON reader."""
FLOOR = 1e-3
"""Expected count given to a character that must stay."""

LogProbabilities = dict[str, float]


def learn(words: Counter[str], alphabet: Iterable[str], size: int) -> list[tuple[str, float]]:
    """At most `size` pieces with their log-probabilities, likeliest first. `words` counts the pre-split words; every
    character of `alphabet` stays a piece, and other characters are left to the single bytes."""
    kept = set(alphabet)
    counted = [(word, n) for word, n in sorted(words.items()) if kept.issuperset(word)]
    pieces = _seeds(counted, kept, SEEDS * size)
    while True:
        for _ in range(EM_STEPS):
            pieces = _maximise(_expect(counted, pieces), kept)
        if len(pieces) <= size:
            rounded = {p: round(v, DIGITS) for p, v in pieces.items()}
            return sorted(rounded.items(), key=lambda p: (-p[1], p[0]))
        pieces = _prune(_expect(counted, pieces), pieces, kept, max(size, int(KEEP * len(pieces))))


def _seeds(counted: list[tuple[str, int]], kept: set[str], limit: int) -> LogProbabilities:
    """The characters, and the substrings seen twice or more that cover most text."""
    counts: Counter[str] = Counter()
    for word, n in counted:
        for start in range(len(word)):
            counts[word[start]] += n
            if n > 1:  # what occurs in words seen once only is mostly noise, and most of the memory
                for end in range(start + 2, min(start + PIECE_LENGTH, len(word)) + 1):
                    counts[word[start:end]] += n
    longer = [(s, n) for s, n in counts.items() if len(s) > 1 and n > 1]
    longer.sort(key=lambda p: (-p[1] * len(p[0]), p[0]))
    chosen = {s: float(n) for s, n in longer[:limit]} | {c: float(counts[c] or FLOOR) for c in sorted(kept)}
    return _maximise(chosen, kept)


def _expect(counted: list[tuple[str, int]], pieces: LogProbabilities) -> dict[str, float]:
    """Expected number of times each piece is used, over all ways to cut the words (forward-backward)."""
    expected = dict.fromkeys(pieces, 0.0)
    for word, n in counted:
        size = len(word)
        edges = []  # (start, end, piece, probability)
        forward = [1.0] + [0.0] * size
        for start in range(size):
            for end in range(start + 1, min(start + PIECE_LENGTH, size) + 1):
                piece = word[start:end]
                if piece in pieces:
                    probability = math.exp(pieces[piece])
                    edges.append((start, end, piece, probability))
                    forward[end] += forward[start] * probability
        if forward[size] <= 0.0:  # a very long word whose probability is too small for a float
            continue
        backward = [0.0] * size + [1.0]
        for start, end, piece, probability in reversed(edges):
            through = probability * backward[end]
            backward[start] += through
            expected[piece] += n * forward[start] * through / forward[size]
    return expected


def _maximise(expected: dict[str, float], kept: set[str]) -> LogProbabilities:
    counts = {p: max(c, FLOOR) if p in kept else c for p, c in expected.items() if c >= RARE or p in kept}
    total = math.log(sum(counts.values()))
    return {piece: math.log(count) - total for piece, count in counts.items()}


def _prune(expected: dict[str, float], pieces: LogProbabilities, kept: set[str], count: int) -> LogProbabilities:
    """Remove the pieces that the others replace at the smallest cost to the likelihood."""
    loss = {p: expected[p] * (pieces[p] - _best_cut(p, pieces)) for p in pieces if p not in kept}
    ranked = sorted(loss, key=lambda p: (-loss[p], p))
    stay = set(ranked[: max(count - len(kept), 0)]) | kept
    return {p: v for p, v in pieces.items() if p in stay}


def _best_cut(word: str, pieces: LogProbabilities) -> float:
    """Log-probability of the best way to write a piece with the other pieces (Viterbi)."""
    best = [0.0] + [-math.inf] * len(word)
    for start in range(len(word)):
        for end in range(start + 1, len(word) + 1):
            piece = word[start:end]
            if piece != word and piece in pieces:
                best[end] = max(best[end], best[start] + pieces[piece])
    return best[-1]
