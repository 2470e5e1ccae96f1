"""Which kinds of pages there are, and how often each is written."""

from __future__ import annotations

from collections.abc import Callable

from luhuo.world.items import Maker
from luhuo.world.pages import (
    Page,
    glossary,
    how_to,
    letter,
    news,
    parallel,
    person_page,
    price_list,
    questions,
    story,
    sums,
    talk,
    town_page,
)

KINDS: tuple[tuple[Callable[[Maker], Page], int], ...] = (
    (story, 40), (parallel, 8), (town_page, 6), (person_page, 8), (letter, 10), (price_list, 3), (glossary, 20),
    (sums, 9), (how_to, 5), (talk, 6), (news, 5), (questions, 40),
)  # fmt: skip
"""Page kinds with their weights."""


def page(make: Maker) -> Page:
    """One page of a random kind."""
    kinds, weights = zip(*KINDS, strict=True)
    return make.rng.choices(kinds, weights)[0](make)
