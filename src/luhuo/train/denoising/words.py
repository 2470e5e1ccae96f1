"""Which tokens are one word: letters that run on, and Chinese characters that keep together in the corpus.

Languages that separate words need no more than the pieces: a token goes on with the word before it where letters meet
without a blank. Chinese does not separate words. Instead of a dictionary, neighbouring tokens of Han characters count
as one word where they stand together more often than chance: pointwise mutual information over the training shards
(Sproat & Shih 1990). That needs no package, follows the corpus (names, terms), and is the same on every machine.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np

from luhuo.tokenizer.tokenizer import Tokenizer

COUNTED = 4_000_000
"""Tokens of the shards that are counted."""
SEEN = 4
"""A pair seen less often is no evidence."""
COHESION = 5.0
"""Least pointwise mutual information, in nats, of tokens of one word (bench/chinese_words.py)."""
LONGEST = 4
"""Characters of the longest Chinese word."""


class Words:
    """Word borders in rows of ids of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        size, prefix = tokenizer.vocab_size, tokenizer.continuing_prefix
        self.han = np.zeros(size, np.int64)
        """Characters of a token that has nothing but Han characters, else 0."""
        self._goes_on, self._open = np.zeros(size, bool), np.zeros(size, bool)
        for token in set(range(size)) - tokenizer.special_ids:
            content = tokenizer.token_bytes(token)
            if not content:
                continue
            if prefix:
                text = content.decode("utf-8", "replace")
                inside = text.startswith(prefix) and len(text) > len(prefix)
                self._goes_on[token], self._open[token] = inside, True
                text = text.removeprefix(prefix) if inside else text
            else:
                text = content.decode("utf-8", "replace")
                self._goes_on[token] = _is_inside(content[0]) or _is_letter(text[0])
                self._open[token] = _is_letter(text[-1]) or text[-1] == "\ufffd"
            self.han[token] = len(text) if all(map(is_han, text)) else 0
        self._pairs = np.zeros(0, np.int64)

    def learn(self, streams: Iterable[np.ndarray]) -> None:
        """Learn which Han tokens keep together, from arrays of ids; at most `COUNTED` of them."""
        size, left = len(self.han), COUNTED
        keys, single = [], np.zeros(size, np.int64)
        for stream in streams:
            ids = np.asarray(stream[:left], np.int64)
            left -= len(ids)
            single += np.bincount(ids, minlength=size)
            both = (self.han[ids[:-1]] > 0) & (self.han[ids[1:]] > 0)
            keys.append(ids[:-1][both] * size + ids[1:][both])
            if not left:
                break
        pairs, count = np.unique(np.concatenate(keys) if keys else self._pairs, return_counts=True)
        total = max(1, int(single[self.han > 0].sum()))
        expected = single[pairs // size] * (single[pairs % size] / total)
        cohesion = np.log(count / np.maximum(expected, 1e-9))
        self._pairs = pairs[(count >= SEEN) & (cohesion >= COHESION)]

    def numbers(self, ids: np.ndarray) -> np.ndarray:
        """The number of each token's word in a text (n,), from 0."""
        before, now = ids[:-1], ids[1:]
        chinese = (self.han[before] > 0) & (self.han[now] > 0)
        joined = np.zeros(len(ids), bool)
        joined[1:] = np.where(chinese, self._together(before, now), self._goes_on[now] & self._open[before])
        characters = 0
        for place in np.flatnonzero(self.han[ids] > 0):
            length = int(self.han[ids[place]])
            if joined[place] and self.han[ids[place - 1]] and characters + length > LONGEST:
                joined[place] = False
            characters = characters + length if joined[place] else length
        return np.cumsum(~joined) - 1

    def _together(self, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        if not len(self._pairs):
            return np.zeros(len(now), bool)
        key = before * len(self.han) + now
        found = np.minimum(np.searchsorted(self._pairs, key), len(self._pairs) - 1)
        return self._pairs[found] == key


def sentence_ends(tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens end a sentence (vocab,) bool: a full stop of either language, or the end of a line."""
    found = np.zeros(tokenizer.vocab_size, bool)
    for token in set(range(tokenizer.vocab_size)) - tokenizer.special_ids:
        text = tokenizer.token_bytes(token).decode("utf-8", "replace")
        last = text.rstrip(" \"'”’」』）)")[-1:]
        found[token] = bool(last) and last in ".!?。！？\n"
    return found


def is_han(character: str) -> bool:
    """Whether it is a Chinese character."""
    code = ord(character)
    return (
        0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0x20000 <= code <= 0x323AF or 0xF900 <= code <= 0xFAFF
    )


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM" and not is_han(character)


def _is_inside(byte: int) -> bool:
    """Whether a byte can only stand inside a character in UTF-8."""
    return byte & 0xC0 == 0x80
