"""The copybook: lines written out several times, as children do who learn to write.

Nothing in a line predicts its next word, except that it has been written before. A model can only get these pages
right by looking back and copying, which is what reading a passage and answering about it needs first.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator

from luhuo.world.pages import Page

POOL_PAGES = 40
"""Pages whose words are mixed at a time."""
WORD = re.compile(r"[A-Za-z'-]+|[0-9]+|[\u4e00-\u9fff]")


def copybook(pages: Iterator[Page], rng: random.Random) -> Iterator[Page]:
    """Endless pages of repeated lines, their words and sentences drawn from `pages`."""
    while True:
        drawn = [next(pages) for _ in range(POOL_PAGES)]
        words = [word for page in drawn for word in WORD.findall(page.text)]
        names = [name for page in drawn for name in page.entities]
        lines = [line for page in drawn for line in page.text.splitlines() if 10 <= len(line) <= 120]
        for _ in range(POOL_PAGES):
            yield Page("\n".join(_exercise(words, names, lines, rng)), "mixed", "copybook", [])


def _exercise(words: list[str], names: list[str], lines: list[str], rng: random.Random) -> list[str]:
    """One line, two or three times: words without an order, names, or a sentence."""
    kind = rng.random()
    if kind < 0.5:
        line = _spaced(rng.sample(words, min(len(words), rng.randint(10, 40))))
    elif kind < 0.7 and names:
        line = ", ".join(rng.choices(names, k=rng.randint(4, 10)))
    else:
        line = rng.choice(lines)
    return [line] * rng.choice((2, 3))


def _spaced(words: list[str]) -> str:
    """Blanks between words of letters, none between Han characters."""
    text = words[0]
    for before, word in itertools.pairwise(words):
        text += word if min(before[-1], word[0]) >= "\u4e00" else f" {word}"
    return text
