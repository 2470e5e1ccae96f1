"""Integers of few bits in 32-bit words, lowest bits first: what compressed-tensors, GPTQ and AWQ have in common.

Integers of 8, 4 and 2 bits fill words. Those of 3 bits follow one another without gaps, so that some lie in two words
and 32 take three; older versions of compressed-tensors leave two bits of each word free, ten to a word ("loose").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WORD = 32


def words_for(columns: int, bits: int, *, loose: bool = False) -> int:
    """How many words so many integers take."""
    return -(-columns // (WORD // bits)) if loose else -(-columns * bits // WORD)


def of_words(words: Tensor, bits: int, columns: int, *, loose: bool = False) -> Tensor:
    """The integers (rows, columns) in words (rows, n): int16, 0 … 2^bits - 1."""
    if WORD % bits and not loose:
        return _of_stream(words, bits, columns)
    shifts = bits * torch.arange(WORD // bits, dtype=torch.int32)
    return ((words[..., None] >> shifts) & (2**bits - 1)).to(torch.int16).flatten(1)[:, :columns]


def to_words(q: Tensor, bits: int) -> Tensor:
    """Non-negative integers (rows, columns) in words (rows, ⌈columns · bits / 32⌉) int32."""
    if WORD % bits:
        return _to_stream(q, bits)
    step = WORD // bits
    padded = nn.functional.pad(q.int(), (0, -q.shape[1] % step)).view(len(q), -1, step)
    return (padded << (bits * torch.arange(step, dtype=torch.int32))).sum(-1, dtype=torch.int32)


def _to_stream(q: Tensor, bits: int) -> Tensor:
    """The same where integers cross from word to word: 32 of them fill `bits` words."""
    padded = nn.functional.pad(q, (0, -q.shape[1] % WORD)).view(len(q), -1, WORD)
    words = torch.zeros(*padded.shape[:2], bits + 1, dtype=torch.int64)
    for place in range(WORD):
        word, start = divmod(place * bits, WORD)
        wide = padded[..., place].long() << start
        words[..., word] |= wide & 0xFFFFFFFF
        words[..., word + 1] |= wide >> WORD
    words = words[..., :bits].flatten(1)[:, : words_for(q.shape[1], bits)]
    return torch.where(words >= 2**31, words - 2**32, words).int()


def _of_stream(words: Tensor, bits: int, columns: int) -> Tensor:
    padded = nn.functional.pad(words.long() & 0xFFFFFFFF, (0, -words.shape[1] % bits)).view(len(words), -1, bits)
    q = torch.empty(*padded.shape[:2], WORD, dtype=torch.int16)
    for place in range(WORD):
        word, start = divmod(place * bits, WORD)
        found = padded[..., word] >> start
        if start + bits > WORD:
            found = found | (padded[..., word + 1] << (WORD - start))
        q[..., place] = found & (2**bits - 1)
    return q.flatten(1)[:, :columns]
