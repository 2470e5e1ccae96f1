"""Finding many fixed phrases in a whole batch in one pass.

A regular expression of some hundred alternatives tries each of them at each character. Here two characters (Latin
script: four) of each phrase are its anchor, and the two or four behind them where the phrase goes on so far; the
hashes of both mark small tables, one numpy look-up a character says where a phrase may stand, a second one there
whether it goes on, and only then an expression is tried.

A phrase is literal text in small letters. In Latin script it begins and ends at the borders of words; a `*` at the end
lets the word go on ("kill*": killing), a `*` inside stands for up to 12 characters of one line.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import yaml

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.signals.batch import Batch, Integers, Spans
from luhuo.corpus.signals.characters import Codes

TABLE = 1 << 16
LATIN, OTHER = 4, 2
"""Characters of an anchor; a long one has twice as many."""
SHORT, LONG = 1, 2
"""Bits of a table: an anchor begins with this, a long one does."""
FREQUENT = " etaoinshrdlucmfwypvbgkjqxz"
GAP = r"[^\n]{0,12}?"
FACTORS = tuple(np.uint32(f) for f in (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F))


class Phrases:
    """Groups of phrases, compiled. `find(batch)` gives where they stand and of which group they are."""

    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        self.groups = tuple(groups)
        written = [(phrase, number) for number, name in enumerate(self.groups) for phrase in groups[name]]
        self.begins = {size: np.zeros(TABLE, np.uint8) for size in (LATIN, OTHER)}
        self.goes_on = {size: np.zeros(TABLE, bool) for size in (LATIN, OTHER)}
        self.by_anchor: dict[str, list[tuple[int, int, re.Pattern[str]]]] = {}
        for phrase, group in written:
            literal = phrase.partition("*")[0]  # no anchor may lie behind a gap
            size = LATIN if literal.isascii() else OTHER
            choices = _anchors(literal, size)
            if not choices:
                raise LuhuoError(
                    tr("This phrase is too short to be looked for.", "这个短语太短，无法查找。"),
                    expected=tr("two characters in a row, four in Latin script", "连续两个字符，拉丁字母则为四个"),
                    found=phrase,
                )
            anchor, place = max(choices, key=lambda choice: (_rarity(choice[0]), -choice[1]))
            self.by_anchor.setdefault(anchor, []).append((group, place, _expression(phrase)))
            slots = _slots(np.array([ord(c) for c in anchor], np.uint32), size)
            if len(anchor) > size:
                self.begins[size][slots[0]] |= LONG
                self.goes_on[size][slots[size]] = True
            else:
                self.begins[size][slots[0]] |= SHORT

    def find(self, batch: Batch) -> tuple[Spans, Integers]:
        """Spans of the phrases found, in order of their starts, and the number of each one's group. Phrases of one
        group do not overlap: the one that begins first counts, of two the longer."""
        text = batch.lowered
        found: list[tuple[int, int, int]] = []
        for length, places in self._candidates(batch):
            for place in places:
                for group, offset, expression in self.by_anchor.get(text[place : place + length], ()):
                    match = expression.match(text, place - offset) if place >= offset else None
                    if match:
                        found.append((match.start(), -match.end(), group))
        kept, behind = [], dict.fromkeys(range(len(self.groups)), 0)
        for start, end, group in sorted(set(found)):
            if start >= behind[group]:
                kept.append((start, -end, group))
                behind[group] = -end
        rows = np.array(kept, np.int64).reshape(-1, 3)
        return Spans(rows[:, 0], rows[:, 1], batch.document_of(rows[:, 0])), rows[:, 2]

    def _candidates(self, batch: Batch) -> Iterator[tuple[int, list[int]]]:
        """Lengths of anchors, and where one of that length may stand."""
        for size, table in self.begins.items():
            if not table.any() or len(batch.codes) < size:
                continue
            if size not in batch.slots:
                batch.slots[size] = _slots(batch.lower, size)
            slots = batch.slots[size]
            marks = np.take(table, slots)
            places = np.flatnonzero(marks)
            marks = marks[places]
            yield size, places[(marks & SHORT) > 0].tolist()
            further = places[(marks & LONG) > 0]
            further = further[further + size < len(slots)]
            yield 2 * size, further[self.goes_on[size][slots[further + size]]].tolist()


def _anchors(literal: str, size: int) -> list[tuple[str, int]]:
    """The anchors that a phrase may have and how far behind its start they stand."""
    length = 2 * size if len(literal) >= 2 * size else size
    return [(literal[i : i + length], i) for i in range(len(literal) - length + 1)]


def _rarity(anchor: str) -> int:
    """How rare a sequence of letters is in English, roughly: the sum of their ranks by frequency."""
    return sum(FREQUENT.find(letter) for letter in anchor)


def _expression(phrase: str) -> re.Pattern[str]:
    pattern = GAP.join(re.escape(part) for part in phrase.removesuffix("*").split("*"))
    begins = r"(?<![a-z0-9])" if phrase[0].isascii() and phrase[0].isalnum() else ""
    ends = r"(?![a-z0-9])" if phrase[-1].isascii() and phrase[-1].isalnum() else ""
    return re.compile(begins + pattern + ends)


def _slots(codes: Codes, size: int) -> Integers:
    """The place in the table of the `size` characters that begin at each code."""
    mixed = codes[: len(codes) - size + 1] * FACTORS[0]
    for i in range(1, size):
        mixed = mixed + codes[i : len(codes) - size + 1 + i] * FACTORS[i]
    return (mixed >> np.uint32(32 - TABLE.bit_length() + 1)).astype(np.int64)


@functools.cache
def lexicon(name: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """language -> group -> phrases of `lexicon/NAME.yaml`."""
    text = resources.files("luhuo.corpus.signals").joinpath(f"lexicon/{name}.yaml").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return {lang: {group: tuple(map(str, words)) for group, words in groups.items()} for lang, groups in table.items()}


@functools.cache
def compiled(name: str, lang: str) -> Phrases:
    """The phrases of a lexicon for texts of a language: its own, and English ones where it has none."""
    table = lexicon(name)
    return Phrases(table.get(lang, table["en"]))
