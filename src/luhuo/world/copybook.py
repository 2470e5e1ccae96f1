"""The copybook: lines written out several times, as children do who learn to write.

Nothing in a line predicts its next word, except that it has been written before. A model can only get these pages
right by looking back and copying, which is what reading a passage and answering about it needs first. Half of the
pages are records of several people in the same words: there the right place to look back to is the one that a name
some words earlier tells.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence

from luhuo.world.facts import Person
from luhuo.world.pages import Page

POOL_PAGES = 40
"""Pages whose words are mixed at a time."""
WORD = re.compile(r"[A-Za-z'-]+|[0-9]+|[\u4e00-\u9fff]")


def copybook(pages: Iterator[Page], people: Sequence[Person], rng: random.Random) -> Iterator[Page]:
    """Endless pages of repeated lines: words and sentences drawn from `pages`, records of `people`."""
    while True:
        drawn = [next(pages) for _ in range(POOL_PAGES)]
        words = [word for page in drawn for word in WORD.findall(page.text)]
        lines = [line for page in drawn for line in page.text.splitlines() if 10 <= len(line) <= 120]
        for _ in range(POOL_PAGES):
            text = _records(words, people, rng) if rng.random() < 0.5 else _exercise(words, lines, rng)
            yield Page(text, "mixed", "copybook", [])


def _exercise(words: list[str], lines: list[str], rng: random.Random) -> str:
    """One line, two or three times: words without an order, or a sentence."""
    if rng.random() < 0.6:
        line = _spaced(rng.sample(words, min(len(words), rng.randint(10, 40))))
    else:
        line = rng.choice(lines)
    return "\n".join([line] * rng.choice((2, 3)))


def _records(words: list[str], people: Sequence[Person], rng: random.Random) -> str:
    """Name, words common to all, words of one's own; then the same again in another order."""
    zh = rng.random() < 0.5
    mine = [word for word in words if (word[0] >= "\u4e00") == zh or word.isdigit()]
    frame = rng.sample(mine, rng.randint(1, 3))
    cast = rng.sample(people, rng.randint(3, 6))
    stop = "。" if zh else "."
    lines = [
        _spaced([person.name.zh if zh else person.name.en, *frame, *rng.sample(mine, rng.randint(1, 3))]) + stop
        for person in cast
    ]
    copies = []
    for _ in range(rng.choice((2, 3))):
        copies.append(rng.choice(("\n", "" if zh else " ")).join(lines))
        rng.shuffle(lines)
    return "\n".join(copies)


def _spaced(words: list[str]) -> str:
    """Blanks between words of letters, none between Han characters."""
    text = words[0]
    for before, word in itertools.pairwise(words):
        text += word if min(before[-1], word[0]) >= "\u4e00" else f" {word}"
    return text
